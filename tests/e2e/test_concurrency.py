"""Tests of simultaneous writes by the deployed functions."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import Stack

WRITERS = 4


@pytest.mark.row("C-13")
def test_exactly_one_of_several_puts_with_the_same_etag_succeeds(stack: Stack) -> None:
    api = stack.member()
    created = api.send("POST", "/data-models", {"name": "Before"})
    path, tag = f"/data-models/{created.json()['id']}", created.headers["ETag"]

    def put(name: str) -> int:
        return api.send("PUT", path, {"name": name}, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(WRITERS) as pool:
        statuses = list(pool.map(put, "ABCD"))
    assert sorted(statuses) == [200, 412, 412, 412]
    assert api.get(path)["name"] == "ABCD"[statuses.index(200)]


@pytest.mark.row("C-12", "C-9")
def test_simultaneous_creates_with_one_idempotency_key_make_one_item(stack: Stack) -> None:
    api = stack.member()

    def post(_: int) -> dict[str, Any]:
        response = api.send("POST", "/data-models", {"name": "Once"}, headers={"Idempotency-Key": "the-same"})
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    with ThreadPoolExecutor(WRITERS) as pool:
        items = list(pool.map(post, range(WRITERS)))
    assert all(item == items[0] for item in items)
    page = api.get("/data-models")
    assert (page["count"], [each["id"] for each in page["data"]]) == (1, [items[0]["id"]])


@pytest.mark.row("C-9")
def test_the_count_is_exact_after_simultaneous_creates(stack: Stack) -> None:
    api = stack.member()
    with ThreadPoolExecutor(WRITERS) as pool:
        ids = list(pool.map(lambda number: api.post("/data-models", {"name": str(number)})["id"], range(12)))
    page = api.get("/data-models", limit=100)
    assert page["count"] == len(page["data"]) == len(set(ids)) == 12
