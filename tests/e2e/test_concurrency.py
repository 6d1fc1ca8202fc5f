"""Tests of simultaneous writes by the deployed functions."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.spaces.api_keys import MAX_KEYS
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


@pytest.mark.row("SE-3", "C-13")
def test_ten_simultaneous_requests_make_no_more_api_keys_than_the_limit(stack: Stack) -> None:
    api, body = stack.member(), {"name": "Batch", "scopes": ["read"]}

    def post(_: int) -> int:
        return api.send("POST", "/api-keys", body).status_code

    made = [post(number) for number in range(MAX_KEYS - 3)]
    with ThreadPoolExecutor(10) as pool:
        made += pool.map(post, range(10))
    # 503: too many writers met at the counter. Nothing is stored then.
    assert set(made) <= {201, 409, 503}
    made += [post(0) for _ in range(3)]
    assert made.count(201) == MAX_KEYS
    page = api.get("/api-keys", limit=100)
    assert page["count"] == len(page["data"]) == MAX_KEYS
    assert api.send("POST", "/api-keys", body).status_code == 409
