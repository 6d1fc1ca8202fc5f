"""Tests of what the registration of a server finds out about its address."""

from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.clusters.helpers import register


class OtherPaths(FakeUpstream):
    """A server that has OpenAI's API below a path of its own."""

    root = "/v1beta/openai"

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(f"{self.root}/chat/completions", self._completions)
        app.router.add_get(f"{self.root}/models", self._models)
        return app

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.root}"


@pytest.fixture
def elsewhere() -> Iterator[OtherPaths]:
    with served(OtherPaths()) as upstream:
        assert isinstance(upstream, OtherPaths)
        yield upstream


def chat(client: TestClient) -> Any:
    return client.post("/chats", json={"messages": [{"role": "user", "content": "Hi"}]})


@pytest.mark.row("GW-7", "CL-1")
def test_the_answer_says_what_the_server_serves(client: TestClient, upstream: FakeUpstream) -> None:
    created = register(client, upstream).json()
    assert (created["serves"], created["warning"]) == (["small"], None)
    assert upstream.requests[0][2]["Authorization"].startswith("Bearer ")
    renamed = client.put("/clusters", json={"name": "Ours"}).json()
    assert (renamed["serves"], renamed["warning"]) == (None, None)
    upstream.models = [{"id": "new"}]
    assert client.put("/clusters", json={"token": "another-token-1234"}).json()["serves"] == ["new"]


@pytest.mark.row("GW-7")
@pytest.mark.parametrize(
    "end",
    ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/v1/chat/completions/", "/v1/models?limit=1", "/v1/responses"],
)
def test_the_address_of_a_call_is_understood(client: TestClient, upstream: FakeUpstream, end: str) -> None:
    created = register(client, upstream, ingress_url=f"http://127.0.0.1:{upstream.port}{end}").json()
    assert created["serves"] == ["small"]
    assert not created["ingress_url"].endswith(("completions", "models", "responses", "/"))
    assert chat(client).status_code == 201
    moved = client.put("/clusters", json={"ingress_url": f"{upstream.url}/chat/completions", "token": None}).json()
    assert (moved["ingress_url"], moved["serves"]) == (upstream.url, ["small"])


@pytest.mark.row("GW-7")
@pytest.mark.parametrize("end", ["", "/", "/chat/completions"])
def test_an_api_below_another_version_is_understood(client: TestClient, elsewhere: OtherPaths, end: str) -> None:
    created = register(client, elsewhere, ingress_url=f"{elsewhere.url}{end}").json()
    assert (created["serves"], created["ingress_url"]) == (["small"], elsewhere.url)
    assert chat(client).status_code == 201


@pytest.mark.row("GW-7")
def test_an_address_beside_the_api_is_refused_with_the_right_one(
    client: TestClient, upstream: FakeUpstream, elsewhere: OtherPaths
) -> None:
    for server, end in ((upstream, "/ui/index"), (upstream, "/v2"), (elsewhere, "/v1beta")):
        address = f"http://127.0.0.1:{server.port}{end}"
        refused = register(client, server, ingress_url=address)
        assert refused.status_code == 400, refused.text
        assert refused.json()["details"][0]["field"] == "body.ingress_url"
        assert server.url in refused.json()["error"]
    assert client.get("/clusters").status_code == 404


@pytest.mark.row("GW-7")
def test_a_server_that_does_not_answer_yet_is_registered_with_a_warning(
    client: TestClient, upstream: FakeUpstream
) -> None:
    silent = register(client, upstream, ingress_url="http://127.0.0.1:9").json()
    assert silent["serves"] is None
    assert "does not answer now" in silent["warning"]
    upstream.models_status = 401
    refused = client.put("/clusters", json={"ingress_url": upstream.url, "token": "wrong-token-12345"}).json()
    assert refused["serves"] is None
    assert "lists no models" in refused["warning"]


@pytest.mark.row("GW-7")
def test_a_typo_in_the_name_of_a_limit_is_refused(client: TestClient) -> None:
    path = f"/spaces/{client.headers['X-Space-Id']}/limits"
    for body, field, hint in (
        ({"space": {"tokens_per_dya": 1}}, "body.space.tokens_per_dya", "tokens_per_day"),
        ({"spcae": {"tokens_per_day": 1}}, "body.spcae", "space"),
        ({"each_user": {"request_per_minute": 1}}, "body.each_user.request_per_minute", "requests_per_minute"),
        ({"prices": {"small": {"inputs": 1}}}, "body.prices.small.inputs", "input"),
    ):
        refused = client.put(path, json=body)
        assert refused.status_code == 400
        assert refused.json()["details"][0]["field"] == field
        assert f"did you mean {hint}?" in refused.json()["error"]
