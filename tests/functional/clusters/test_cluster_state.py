"""The live state of a cluster and its list of models."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient

from shared.clock import utc_now
from tests.fixtures.clocks import MovableClock
from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.clusters.helpers import TOKEN, register


def node(name: str, *, ready: bool = True, gpus: str = "4") -> dict[str, Any]:
    resources = {"cpu": "3920m", "memory": "16Gi", "nvidia.com/gpu": gpus}
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": "NVIDIA-L4"}},
        "spec": {},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "message": "kubelet is down"}],
        },
    }


class FakeKubernetes:
    """Lists nodes as Kubernetes does, two a page; ``hangs`` makes it silent."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        self.nodes = nodes
        self.hangs = False
        self.tokens: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _nodes(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.hangs:
            await asyncio.sleep(30)
        start = int(request.query.get("continue", "0"))
        following = str(start + 2) if start + 2 < len(self.nodes) else ""
        return web.json_response({"items": self.nodes[start : start + 2], "metadata": {"continue": following}})

    @contextlib.contextmanager
    def served(self, tls: ssl.SSLContext | None = None) -> Iterator["FakeKubernetes"]:
        app = web.Application()
        app.router.add_get("/api/v1/nodes", self._nodes)
        loop, ready = asyncio.new_event_loop(), threading.Event()

        def run() -> None:
            asyncio.set_event_loop(loop)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
            loop.run_until_complete(runner.setup())
            loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start())
            self.port = runner.addresses[0][1]
            loop.call_soon(ready.set)
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            loop.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(10)
        yield self
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@pytest.mark.row("CL-2")
def test_the_state_of_every_part_is_shown_and_a_silent_one_does_not_hold_up_the_others(
    client: TestClient, upstream: FakeUpstream
) -> None:
    kubernetes = FakeKubernetes([node("a"), node("b", ready=False), node("c", gpus="1")])
    with kubernetes.served():
        register(client, upstream, manager_url=kubernetes.url, manager_token="token-of-kubernetes")
        status = client.get("/clusters").json()
        assert status["inference"]["status"] == "reachable"
        assert status["inference"]["models"][0]["id"] == "small"
        assert status["ingress"]["status"] == "reachable"
        assert status["ingress"]["latency_ms"] > 0
        assert [(each["name"], each["ready"]) for each in status["nodes"]] == [("a", True), ("b", False), ("c", True)]
        assert status["nodes"][0]["gpu_product"] == "NVIDIA-L4"
        assert status["resources"]["gpu"] == {"capacity": 9, "allocatable": 5}
        assert status["resources"]["cpu"]["capacity"] == pytest.approx(11.76)
        assert status["resources"]["memory_bytes"]["capacity"] == 3 * 16 * 2**30
        assert set(kubernetes.tokens) == {"Bearer token-of-kubernetes"}

        kubernetes.hangs = True
        started = time.monotonic()
        answer = client.get("/clusters")
        assert time.monotonic() - started < 5
    assert answer.status_code == 200
    assert answer.json()["resources"]["status"] == "unreachable"
    assert answer.json()["resources"]["last_seen_at"].endswith("Z")
    assert answer.json()["inference"]["status"] == "reachable"


def self_signed(folder: Path) -> tuple[str, ssl.SSLContext]:
    """A certificate of 127.0.0.1 that only its holder vouches for, and a server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = utc_now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    file = folder / "server.pem"
    file.write_bytes(secret + pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return pem.decode(), context


@pytest.mark.row("CL-2")
def test_kubernetes_is_believed_if_the_authority_that_was_given_signed_for_it(
    client: TestClient, upstream: FakeUpstream, tmp_path: Path
) -> None:
    authority, context = self_signed(tmp_path)
    kubernetes = FakeKubernetes([node("a")])
    with kubernetes.served(context):
        register(client, upstream, manager_url=kubernetes.url.replace("http:", "https:"))
        assert client.get("/clusters").json()["resources"]["status"] == "unreachable"
        assert kubernetes.tokens == []
        for nonsense in ("-----BEGIN CERTIFICATE-----", "ß"):
            wrong = client.put("/clusters", json={"manager_ca": nonsense})
            assert (wrong.status_code, wrong.json()["details"][0]["field"]) == (400, "body.manager_ca")
        assert client.put("/clusters", json={"manager_ca": authority}).json()["manager_ca"] == authority
        assert client.get("/clusters").json()["resources"]["status"] == "reachable"


def test_a_server_s_own_metrics_are_read(client: TestClient) -> None:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text='# HELP x y\nvllm:num_requests_running{model="a"} 2.0\nvllm:num_requests_running 1\n')

    class Measured(FakeUpstream):
        def app(self) -> web.Application:
            app = super().app()
            app.router.add_get("/metrics", metrics)
            return app

    with served(Measured()) as upstream:
        register(client, upstream)
        assert client.get("/clusters").json()["inference"]["metrics"] == {"requests_running": 3.0}


def test_metrics_that_never_come_do_not_make_the_server_unreachable(client: TestClient) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    class Hanging(FakeUpstream):
        def app(self) -> web.Application:
            app = super().app()
            app.router.add_get("/metrics", hang)
            return app

    with served(Hanging()) as upstream:
        register(client, upstream)
        inference = client.get("/clusters").json()["inference"]
    assert (inference["status"], inference["metrics"]) == ("reachable", {})


@pytest.mark.row("CL-2")
def test_nodes_whose_description_takes_many_packets_are_read_to_the_end(
    client: TestClient, upstream: FakeUpstream
) -> None:
    large = node("large")
    large["status"]["images"] = [{"names": [f"registry.example/image:{number}"]} for number in range(100_000)]
    kubernetes = FakeKubernetes([large, node("b")])
    with kubernetes.served():
        register(client, upstream, manager_url=kubernetes.url)
        assert [each["name"] for each in client.get("/clusters").json()["nodes"]] == ["large", "b"]


@pytest.mark.row("MO-1")
def test_the_list_of_models_is_kept_for_a_minute_and_then_longer_than_the_cluster_lasts(
    movable_clock: MovableClock, client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream)
    first = client.get("/models")
    assert first.json() == {
        "count": 1,
        "data": [{"id": "small", "object": "model", "created": 0, "owned_by": "", "context_length": 1000}],
        "has_more": False,
    }
    client.get("/models")
    assert len(upstream.requests) == 1

    movable_clock.now += timedelta(seconds=61)
    upstream.models = [{"id": "small"}, {"id": "large"}]
    assert client.get("/models").json()["count"] == 2

    movable_clock.now += timedelta(hours=1)
    upstream.models_status = 500
    stale = client.get("/models")
    assert stale.json()["count"] == 2
    assert stale.headers["warning"].startswith("110")


@pytest.mark.row("MO-1")
def test_a_cluster_that_never_answered_has_no_models_to_show(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models_status = 500
    register(client, upstream)
    answer = client.get("/models")
    assert answer.status_code == 503
    assert "lists no models" in answer.json()["error"]


def test_a_moved_cluster_is_asked_for_its_own_models(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream)
    client.get("/models")
    with served(FakeUpstream(models=[{"id": "other"}])) as other:
        client.put("/clusters", json={"ingress_url": other.url, "token": TOKEN})
        assert [model["id"] for model in client.get("/models").json()["data"]] == ["other"]


def test_another_space_has_no_part_in_a_cluster(
    client: TestClient, other_client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream)
    assert other_client.get("/clusters").status_code == 404
    assert other_client.put("/clusters", json={"name": "mine"}).status_code == 404
    assert other_client.delete("/clusters").status_code == 404
    assert other_client.get("/models").status_code == 503
