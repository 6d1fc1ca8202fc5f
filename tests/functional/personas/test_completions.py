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


def answering(**answer: Any) -> Any:
    return lambda _: json.dumps(answer)


@pytest.mark.row("PE-2")
def test_the_fields_that_the_prompt_changes_are_answered_and_all_others_stay(
    client: TestClient, upstream: FakeUpstream
) -> None:
    upstream.script = answering(notes="likes ships", data=[{"field": "age", "value": 36}], message="Done.")
    answer = client.post("/personas/completions", json={"current_persona": ADA, "prompt": "She likes ships, is 36."})
    assert answer.status_code == 200, answer.text
    draft = answer.json()
    assert draft["persona"] == {**ADA, "notes": "likes ships", "data": {"city": "Rome", "age": 36}}
    assert draft["changed"] == ["notes", "data"]
    assert draft["message"] == "Done."
    assert client.get("/personas").json()["count"] == 0
    (row,) = client.get("/inference-logs").json()["data"]
    assert (row["type"], row["total_tokens"]) == ("persona", draft["usage"]["total_tokens"])


@pytest.mark.row("IL-1")
def test_a_draft_is_written_with_the_token_of_the_cluster_and_logged_with_its_words_where_these_are_kept(
    client: TestClient, upstream: FakeUpstream
) -> None:
    client.put("/clusters", json={"token": "a-token-of-the-cluster", "store_content": True})
    upstream.script = answering(message="Done.")
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


def test_of_a_long_history_the_newest_part_that_fits_is_shown(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small", "context_length": 3000}]
    upstream.script = answering(message="Done.")
    history = [{"role": "user", "content": f"{number} " + "word " * 100} for number in range(20)]
    answer = client.post("/personas/completions", json={"prompt": "Ada likes ships.", "history": history})
    assert answer.status_code == 200, answer.text
    shown = upstream.calls()[0]["messages"]
    assert shown[0]["role"] == "system"
    assert shown[-1]["content"] == "Ada likes ships."
    assert shown[1:-1] == history[-len(shown[1:-1]) :]
    assert 1 < len(shown) < 20
    too_long = client.post("/personas/completions", json={"prompt": "word " * 3900})
    assert (too_long.status_code, too_long.json()["code"]) == (400, "context_length_exceeded")


def test_a_value_that_no_persona_can_have_is_left_out_and_named(client: TestClient, upstream: FakeUpstream) -> None:
    for birthdate in ("1990-02-31", "2999-01-01"):
        upstream.script = answering(name="Ida", birthdate=birthdate, message="Done.")
        draft = client.post("/personas/completions", json={"current_persona": ADA, "prompt": "Ida, born ..."}).json()
        assert draft["persona"] == {**ADA, "name": "Ida"}
        assert draft["refused"] == ["birthdate"]


def test_an_answer_of_another_form_is_an_error_of_the_cluster(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: "Sure, I will!"
    answer = client.post("/personas/completions", json={"prompt": "Ada likes ships."})
    assert answer.status_code == 502
    assert client.get("/inference-logs").json()["data"][0]["status"] == "error"


def test_without_a_cluster_the_error_says_what_to_do(client: TestClient) -> None:
    answer = client.post("/personas/completions", json={"prompt": "Ada likes ships."})
    assert answer.status_code == 503
    assert answer.json()["code"] == "no_cluster"
    assert "POST /clusters" in answer.json()["error"]
