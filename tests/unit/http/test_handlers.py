"""Handlers of functions keep what their first requests loaded out of searches for garbage."""

import gc

import pytest
from fastapi.testclient import TestClient

from shared.handlers import FIRST_REQUESTS, load


def is_searched(kept: object) -> bool:
    """Returns whether a search for garbage looks at an object."""
    return any(each is kept for each in gc.get_objects())


@pytest.mark.row("GW-9")
def test_only_what_the_first_requests_loaded_is_left_out_of_searches_for_garbage() -> None:
    app, _ = load("functions.trainings.architecture_routes")
    loaded: list[list[list[int]]] = []
    with TestClient(app) as client:
        for _ in range(FIRST_REQUESTS + 1):
            loaded.append([[1]])
            assert is_searched(loaded[-1])
            assert client.get("/unknown").status_code == 404
    assert [is_searched(each) for each in loaded] == [False] * FIRST_REQUESTS + [True]
    assert gc.isenabled()
