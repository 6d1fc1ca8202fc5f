import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream, connected

ADA = {"name": "Ada", "birthdate": "1990-01-02", "notes": "likes maps", "data": {"city": "Rome"}, "own": [1]}


@pytest.fixture
def upstream(client: TestClient) -> Iterator[FakeUpstream]:
    with connected(client, FakeUpstream()) as upstream:
        yield upstream


def completion_script(**completion: Any) -> Any:
    return lambda _: json.dumps(completion)


@pytest.mark.row("PE-2")
def test_a_draft_contains_the_changed_fields_and_keeps_all_others(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = completion_script(notes="likes ships", data=[{"field": "age", "value": 36}], message="Done.")
    response = client.post("/personas/completions", json={"current_persona": ADA, "prompt": "She likes ships, is 36."})
    assert response.status_code == 200, response.text
    draft = response.json()
    assert draft["persona"] == {**ADA, "notes": "likes ships", "data": {"city": "Rome", "age": 36}}
    assert draft["changed"] == ["notes", "data"]
    assert draft["message"] == "Done."
    assert client.get("/personas").json()["count"] == 0
    (row,) = client.get("/inference-logs").json()["data"]
    assert (row["type"], row["total_tokens"]) == ("persona", draft["usage"]["total_tokens"])


@pytest.mark.row("IL-1")
def test_a_draft_uses_the_cluster_token_and_is_logged_with_its_content_when_the_space_stores_content(
    client: TestClient, upstream: FakeUpstream
) -> None:
    client.put("/clusters", json={"token": "a-token-of-the-cluster", "store_content": True})
    upstream.script = completion_script(message="Done.")
    assert client.post("/personas/completions", json={"prompt": "She likes ships."}).status_code == 200
    assert upstream.requests[-1][2]["Authorization"] == "Bearer a-token-of-the-cluster"
    (row,) = client.get("/inference-logs").json()["data"]
    assert (row["prompt"], row["answer"]) == ("She likes ships.", '{"message": "Done."}')


@pytest.mark.row("PE-2")
def test_an_empty_prompt_is_refused(client: TestClient, upstream: FakeUpstream) -> None:
    for prompt in ("", "  "):
        assert client.post("/personas/completions", json={"prompt": prompt}).status_code == 400
    assert client.post("/personas/completions", json={}).status_code == 400
    assert upstream.requests == []


def test_the_model_receives_the_newest_part_of_a_long_history(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small", "context_length": 3000}]
    upstream.script = completion_script(message="Done.")
    history = [{"role": "user", "content": f"{number} " + "word " * 100} for number in range(20)]
    response = client.post("/personas/completions", json={"prompt": "Ada likes ships.", "history": history})
    assert response.status_code == 200, response.text
    shown = upstream.calls()[0]["messages"]
    assert shown[0]["role"] == "system"
    assert shown[-1]["content"] == "Ada likes ships."
    assert shown[1:-1] == history[-len(shown[1:-1]) :]
    assert 1 < len(shown) < 20
    too_long = client.post("/personas/completions", json={"prompt": "word " * 3900})
    assert (too_long.status_code, too_long.json()["code"]) == (400, "context_length_exceeded")


def test_an_invalid_value_is_left_out_of_the_draft_and_named(client: TestClient, upstream: FakeUpstream) -> None:
    for birthdate in ("1990-02-31", "2999-01-01"):
        upstream.script = completion_script(name="Ida", birthdate=birthdate, message="Done.")
        draft = client.post("/personas/completions", json={"current_persona": ADA, "prompt": "Ida, born ..."}).json()
        assert draft["persona"] == {**ADA, "name": "Ida"}
        assert draft["refused"] == ["birthdate"]


def test_a_completion_that_is_not_json_is_a_cluster_error(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: "Sure, I will!"
    response = client.post("/personas/completions", json={"prompt": "Ada likes ships."})
    assert response.status_code == 502
    assert client.get("/inference-logs").json()["data"][0]["status"] == "error"


def test_the_error_without_a_cluster_names_the_route_that_registers_a_cluster(client: TestClient) -> None:
    response = client.post("/personas/completions", json={"prompt": "Ada likes ships."})
    assert response.status_code == 503
    assert response.json()["code"] == "no_cluster"
    assert "POST /clusters" in response.json()["error"]
