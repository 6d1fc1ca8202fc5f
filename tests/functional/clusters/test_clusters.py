"""Registration of clusters, their addresses and tokens."""

import socket
from typing import Any

import boto3
import pytest
from aiohttp import web
from fastapi.testclient import TestClient

from shared.resources import Resources
from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.clusters.helpers import TOKEN, register
from tests.functional.conftest import same_caller


def parameters() -> dict[str, str]:
    ssm = boto3.client("ssm")
    names = [each["Name"] for each in ssm.describe_parameters()["Parameters"]]
    return {name: ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] for name in names}


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
