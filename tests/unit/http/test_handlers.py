"""Handlers of functions keep what their first requests loaded out of searches for garbage."""

import gc

import pytest
from fastapi.testclient import TestClient

from shared.handlers import FIRST_REQUESTS, load


@pytest.mark.row("GW-9")
def test_only_what_the_first_requests_loaded_is_left_out_of_searches_for_garbage() -> None:
    app, _ = load("functions.trainings.architecture_routes")
    loaded: list[list[None]] = []
    with TestClient(app) as client:
        for _ in range(FIRST_REQUESTS):
            before = gc.get_freeze_count()
            loaded += [[] for _ in range(1000)]
            assert client.get("/unknown").status_code == 404
            assert gc.get_freeze_count() >= before + 1000
        before = gc.get_freeze_count()
        loaded += [[] for _ in range(1000)]
        client.get("/unknown")
    assert gc.get_freeze_count() <= before
    assert gc.isenabled()
