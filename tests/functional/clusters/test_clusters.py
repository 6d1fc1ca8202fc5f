"""Tests of the registration, addresses and deletion of clusters."""

import socket
from typing import Any

import boto3
import pytest
from aiohttp import web
from fastapi.testclient import TestClient

from shared.resources import Resources
from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.clusters.helpers import TOKEN, register, stored_tokens
from tests.functional.conftest import same_caller


@pytest.mark.row("CL-1")
def test_a_cluster_is_registered_once_and_its_token_is_stored_encrypted(
    client: TestClient, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    created = register(client, upstream, name="GPUs")
    assert created.status_code == 201, created.text
    assert created.json()["token"] == TOKEN
    assert list(stored_tokens().values()) == [TOKEN]
    described = boto3.client("ssm").describe_parameters()["Parameters"][0]
    assert described["Type"] == "SecureString"

    again = register(client, upstream, token="another-token-of-it-5678")
    assert again.status_code == 409
    assert list(stored_tokens().values()) == [TOKEN]

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
def test_private_and_unencrypted_addresses_are_refused(resources: Resources, client: TestClient, url: str) -> None:
    settings = resources.settings.model_copy(update={"allow_loopback": False})
    refused = same_caller(client, Resources(settings)).post(
        "/clusters", json={"ingress_url": url, "manager_url": "https://1.1.1.1"}
    )
    assert refused.status_code == 400
    assert refused.json()["details"][0]["field"] == "body.ingress_url"
    assert client.get("/clusters").status_code == 404


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Makes names under .example resolve to these addresses in turn. The last address stays."""
    remaining = list(addresses)
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if not str(host).endswith(".example"):
            return real(host, port, *arguments, **options)
        address = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port or 443)))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.row("CL-1")
def test_a_name_that_resolves_to_the_metadata_service_is_refused_when_it_is_saved_and_when_it_is_called(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "https://models.example"
    resolve_to(monkeypatch, "169.254.169.254")
    assert client.post("/clusters", json={"ingress_url": address, "manager_url": address}).status_code == 400

    resolve_to(monkeypatch, "1.1.1.1", "1.1.1.1", "169.254.169.254")
    created = client.post("/clusters", json={"ingress_url": address, "manager_url": address, "default_model": "m"})
    assert created.status_code == 201, created.text
    refused = client.post("/chats", json={"messages": [{"role": "user", "content": "Hi"}]})
    assert refused.status_code == 502
    assert "in a private network" in refused.json()["error"]


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
    assert "does not follow redirects" in refused.json()["error"]
    assert set(reached) == {"first"}


@pytest.mark.row("CL-2", "CL-3")
def test_a_space_without_a_cluster_uses_the_default_cluster(
    resources: Resources, client: TestClient, upstream: FakeUpstream
) -> None:
    assert client.get("/clusters").status_code == 404
    register(client, upstream)
    deleted = client.delete("/clusters")
    assert deleted.status_code == 200
    assert client.delete("/clusters").status_code == 404
    assert client.get("/clusters").status_code == 404
    assert stored_tokens() == {}
    assert client.get("/models").status_code == 503
    assert client.get("/models").json()["code"] == "no_cluster"

    with served(FakeUpstream(models=[{"id": "everybody's"}])) as shared:
        client = same_caller(
            client, Resources(resources.settings.model_copy(update={"default_cluster_url": shared.url}))
        )
        assert [model["id"] for model in client.get("/models").json()["data"]] == ["everybody's"]
        response = client.post("/chats", json={"messages": [{"role": "user", "content": "Hi"}]})
        assert response.json()["model"] == "everybody's"


def test_another_space_cannot_use_a_cluster(
    client: TestClient, other_client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream)
    assert other_client.get("/clusters").status_code == 404
    assert other_client.put("/clusters", json={"name": "mine"}).status_code == 404
    assert other_client.delete("/clusters").status_code == 404
    assert other_client.get("/models").status_code == 503
