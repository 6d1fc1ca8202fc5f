"""Tests of the status of a cluster: its inference server, its ingress and its Kubernetes nodes."""

import asyncio
import time
from pathlib import Path

import pytest
from aiohttp import web
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.clusters.helpers import register
from tests.functional.clusters.kubernetes import FakeKubernetes, node, self_signed


@pytest.mark.row("CL-2")
def test_the_status_shows_every_part_and_a_silent_part_does_not_delay_the_others(
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
        response = client.get("/clusters")
        assert time.monotonic() - started < 5
    assert response.status_code == 200
    assert response.json()["resources"]["status"] == "unreachable"
    assert response.json()["resources"]["last_seen_at"].endswith("Z")
    assert response.json()["inference"]["status"] == "reachable"


@pytest.mark.row("CL-2")
def test_kubernetes_is_trusted_only_with_a_certificate_of_the_given_authority(
    client: TestClient, upstream: FakeUpstream, tmp_path: Path
) -> None:
    authority, context = self_signed(tmp_path)
    kubernetes = FakeKubernetes([node("a")])
    with kubernetes.served(context):
        register(client, upstream, manager_url=kubernetes.url.replace("http:", "https:"))
        assert client.get("/clusters").json()["resources"]["status"] == "unreachable"
        assert kubernetes.tokens == []
        for invalid in ("-----BEGIN CERTIFICATE-----", "ß"):
            refused = client.put("/clusters", json={"manager_ca": invalid})
            assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.manager_ca")
        assert client.put("/clusters", json={"manager_ca": authority}).json()["manager_ca"] == authority
        assert client.get("/clusters").json()["resources"]["status"] == "reachable"


def test_the_metrics_of_the_inference_server_are_shown(client: TestClient) -> None:
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


def test_a_server_is_reachable_when_its_metrics_time_out(client: TestClient) -> None:
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
def test_large_descriptions_of_nodes_are_read_completely(client: TestClient, upstream: FakeUpstream) -> None:
    large = node("large")
    large["status"]["images"] = [{"names": [f"registry.example/image:{number}"]} for number in range(100_000)]
    kubernetes = FakeKubernetes([large, node("b")])
    with kubernetes.served():
        register(client, upstream, manager_url=kubernetes.url)
        assert [each["name"] for each in client.get("/clusters").json()["nodes"]] == ["large", "b"]
