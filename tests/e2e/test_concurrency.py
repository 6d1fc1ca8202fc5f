"""Many writers at once, against the deployed functions."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import Stack

WRITERS = 4


@pytest.mark.row("C-13")
def test_of_many_puts_with_one_etag_exactly_one_wins(stack: Stack) -> None:
    api = stack.member()
    made = api.send("POST", "/data-models", {"name": "Before"})
    path, tag = f"/data-models/{made.json()['id']}", made.headers["ETag"]

    def put(name: str) -> int:
        return api.send("PUT", path, {"name": name}, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(WRITERS) as pool:
        statuses = list(pool.map(put, "ABCD"))
    assert sorted(statuses) == [200, 412, 412, 412]
    assert api.get(path)["name"] == "ABCD"[statuses.index(200)]


@pytest.mark.row("C-12", "C-9")
def test_a_create_sent_many_times_at_once_makes_one_item_and_one_count(stack: Stack) -> None:
    api = stack.member()

    def post(_: int) -> dict[str, Any]:
        answer = api.send("POST", "/data-models", {"name": "Once"}, headers={"Idempotency-Key": "the-same"})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    with ThreadPoolExecutor(WRITERS) as pool:
        answers = list(pool.map(post, range(WRITERS)))
    assert all(answer == answers[0] for answer in answers)
    page = api.get("/data-models")
    assert (page["count"], [each["id"] for each in page["data"]]) == (1, [answers[0]["id"]])


@pytest.mark.row("C-9")
def test_the_count_is_exact_after_many_creates_at_once(stack: Stack) -> None:
    api = stack.member()
    with ThreadPoolExecutor(WRITERS) as pool:
        made = list(pool.map(lambda number: api.post("/data-models", {"name": str(number)})["id"], range(12)))
    page = api.get("/data-models", limit=100)
    assert page["count"] == len(page["data"]) == len(set(made)) == 12
