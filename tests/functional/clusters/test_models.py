"""Tests of the list of models that a cluster serves."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.clocks import MovableClock
from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.clusters.helpers import TOKEN, register


@pytest.mark.row("MO-1")
def test_the_list_of_models_is_cached_for_a_minute_and_used_when_the_cluster_fails(
    movable_clock: MovableClock, client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream)
    upstream.requests.clear()
    first = client.get("/models")
    assert first.json() == {
        "count": 1,
        "data": [
            {
                "id": "small",
                "object": "model",
                "created": 0,
                "owned_by": "",
                "context_length": 1000,
                "reads_images": None,
            }
        ],
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
def test_a_cluster_that_never_responded_has_no_list_of_models(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models_status = 500
    register(client, upstream)
    response = client.get("/models")
    assert (response.status_code, response.json()["code"]) == (502, "cluster_error")


def test_the_models_are_read_again_after_the_address_changes(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream)
    client.get("/models")
    with served(FakeUpstream(models=[{"id": "other"}])) as other:
        client.put("/clusters", json={"ingress_url": other.url, "token": TOKEN})
        assert [model["id"] for model in client.get("/models").json()["data"]] == ["other"]
