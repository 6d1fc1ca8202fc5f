"""Clusters over HTTP, against servers on this machine that play the model's server and Kubernetes."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient

from shared.clock import utc_now
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.clocks import MovableClock
from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.conftest import same_caller

TOKEN = "a-token-of-the-cluster-1234"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream()) as upstream:
        yield upstream


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


def parameters() -> dict[str, str]:
    ssm = boto3.client("ssm")
    names = [each["Name"] for each in ssm.describe_parameters()["Parameters"]]
    return {name: ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] for name in names}


def register(client: TestClient, upstream: FakeUpstream, **fields: Any) -> Any:
    body = {"ingress_url": upstream.url, "manager_url": upstream.url, "token": TOKEN, **fields}
    return client.post("/clusters", json=body)


@pytest.mark.row("CL-1")
def test_a_cluster_is_registered_once_and_its_token_is_kept_encrypted(
    client: TestClient, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    created = register(client, upstream, name="GPUs")
    assert created.status_code == 201, created.text
    assert created.json()["token"] == TOKEN
    assert list(parameters().values()) == [TOKEN]
    described = boto3.client("ssm").describe_parameters()["Parameters"][0]
    assert described["Type"] == "SecureString"

    again = register(client, upstream, token="another-token-of-it-5678")
    assert again.status_code == 409
    assert list(parameters().values()) == [TOKEN]

    renamed = client.put("/clusters", json={"name": "More GPUs"})
    assert renamed.json()["token"] == "****1234"
    assert TOKEN not in renamed.text + client.get("/clusters").text + caplog.text


@pytest.mark.row("CL-1")
@pytest.mark.parametrize(
    "url",
    [
        "http://models.example",
        "https://127.0.0.1",
        "https://localhost:8443",
        "https://169.254.169.254/latest",
        "https://[::ffff:169.254.169.254]",
        "https://2852039166",
        "https://10.0.0.7",
        "https://[fd00::1]",
        "https://user:secret@models.example",
        "ftp://models.example",
        "nonsense",
    ],
)
def test_addresses_that_lead_into_a_network_of_ours_are_refused(
    resources: Resources, client: TestClient, url: str
) -> None:
    settings = resources.settings.model_copy(update={"allow_loopback": False})
    refused = same_caller(client, Resources(settings)).post(
        "/clusters", json={"ingress_url": url, "manager_url": "https://1.1.1.1"}
    )
    assert refused.status_code == 400
    assert refused.json()["details"][0]["field"] == "body.ingress_url"
    assert client.get("/clusters").status_code == 404


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Names mean these addresses, one look-up after the other, the last for good."""
    answers = list(addresses)
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if not str(host).endswith(".example"):
            return real(host, port, *arguments, **options)
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port or 443)))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.row("CL-1")
def test_a_name_that_means_the_metadata_service_is_refused_when_saved_and_when_called(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "https://models.example"
    resolve_to(monkeypatch, "169.254.169.254")
    assert client.post("/clusters", json={"ingress_url": address, "manager_url": address}).status_code == 400

    resolve_to(monkeypatch, "1.1.1.1", "1.1.1.1", "169.254.169.254")
    created = client.post("/clusters", json={"ingress_url": address, "manager_url": address, "default_model": "m"})
    assert created.status_code == 201, created.text
    refused = client.post("/chats", json={"messages": [{"role": "user", "content": "Hi"}]})
    assert refused.status_code == 503
    assert "may not be called" in refused.json()["error"]


def test_a_redirect_is_not_followed(client: TestClient) -> None:
    reached: list[str] = []

    async def redirect(_: web.Request) -> web.Response:
        reached.append("first")
        return web.Response(status=307, headers={"Location": "http://169.254.169.254/v1/chat/completions"})

    class Redirecting(FakeUpstream):
        def app(self) -> web.Application:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", redirect)
            return app

    with served(Redirecting()) as upstream:
        register(client, upstream, default_model="m")
        refused = client.post("/chats", json={"messages": [{"role": "user", "content": "Hi"}]})
    assert refused.status_code == 502
    assert "redirects are not followed" in refused.json()["error"]
    assert set(reached) == {"first"}


@pytest.mark.row("CL-3")
def test_a_new_token_is_used_by_the_next_call_and_the_old_one_is_gone(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream)
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    client.post("/chats", json=body)
    assert upstream.requests[-1][2]["Authorization"] == f"Bearer {TOKEN}"
    client.put("/clusters", json={"token": "the-next-token-abcd"})
    client.post("/chats", json=body)
    assert upstream.requests[-1][2]["Authorization"] == "Bearer the-next-token-abcd"
    assert list(parameters().values()) == ["the-next-token-abcd"]

    assert client.put("/clusters", json={"token": None}).json()["token"] is None
    client.post("/chats", json=body)
    assert "Authorization" not in upstream.requests[-1][2]
    assert parameters() == {}


@pytest.mark.row("CL-3")
def test_a_token_is_not_sent_where_whoever_changed_the_address_could_read_it(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream, manager_token="token-of-kubernetes")
    assert client.put("/clusters", json={"ingress_url": f"{upstream.url}/", "name": "as before"}).status_code == 200
    with served(FakeUpstream()) as theirs:
        for update, field in (
            ({"ingress_url": theirs.url}, "body.token"),
            ({"ingress_url": theirs.url, "manager_token": "x" * 20}, "body.token"),
            ({"manager_url": theirs.url}, "body.manager_token"),
            ({"manager_url": theirs.url, "manager_token": None}, "body.token"),
        ):
            refused = client.put("/clusters", json=update)
            assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, field)
        # With a token of their own it is their token that is sent; without it ours is not sent after all.
        own = {"manager_url": theirs.url, "manager_token": "x" * 20}
        assert client.put("/clusters", json=own).status_code == 200
        assert client.put("/clusters", json={"manager_token": None}).status_code == 400
        assert client.put("/clusters", json={"ingress_url": theirs.url, "token": None}).status_code == 200
        client.post("/chats", json={"messages": [{"role": "user", "content": "Hi"}]})
        client.get("/clusters")
        assert TOKEN not in str(theirs.requests)


def test_an_update_that_comes_too_late_leaves_no_token_behind(client: TestClient, upstream: FakeUpstream) -> None:
    tag = register(client, upstream).headers["etag"]
    client.put("/clusters", json={"name": "Newer"})
    late = client.put("/clusters", json={"token": "the-next-token-abcd"}, headers={"If-Match": tag})
    assert late.status_code == 412
    assert list(parameters().values()) == [TOKEN]


def test_a_call_that_meets_the_moment_of_a_new_token_is_to_be_repeated(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream)
    (parameter,) = parameters()
    boto3.client("ssm").delete_parameter(Name=parameter)
    answer = client.get("/models")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_repeated_registration_leaves_no_second_token(client: TestClient, upstream: FakeUpstream) -> None:
    body = {"ingress_url": upstream.url, "manager_url": upstream.url, "manager_token": "token-of-kubernetes"}
    for _ in range(2):
        assert client.post("/clusters", json=body, headers={"Idempotency-Key": "k"}).status_code == 201
    assert len(parameters()) == 1


@pytest.mark.row("CL-2", "CL-3")
def test_without_a_cluster_there_is_none_to_see_and_models_are_the_deployment_s_own(
    resources: Resources, client: TestClient, upstream: FakeUpstream
) -> None:
    assert client.get("/clusters").status_code == 404
    register(client, upstream)
    deleted = client.delete("/clusters")
    assert deleted.status_code == 200
    assert client.delete("/clusters").status_code == 404
    assert client.get("/clusters").status_code == 404
    assert parameters() == {}
    assert client.get("/models").status_code == 503
    assert client.get("/models").json()["code"] == "no_cluster"

    with served(FakeUpstream(models=[{"id": "everybody's"}])) as shared:
        client = same_caller(
            client, Resources(resources.settings.model_copy(update={"default_cluster_url": shared.url}))
        )
        assert [model["id"] for model in client.get("/models").json()["data"]] == ["everybody's"]
        answer = client.post("/chats", json={"messages": [{"role": "user", "content": "Hi"}]})
        assert answer.json()["model"] == "everybody's"


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
