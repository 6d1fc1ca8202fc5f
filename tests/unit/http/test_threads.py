"""A server runs blocking code in threads, so that it can serve other requests. A Lambda function needs no threads."""

import threading
from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from functions.api import ROUTERS
from shared.http.adapter import lambda_handler
from shared.http.app import create_app
from shared.http.authorisation import TABLE, AccessRule, AllowedCaller
from shared.http.routers import CheckedRoute, GroupRouter
from shared.resources import Resources
from tests.load.emulated_store import LambdaContext, gateway_event


class OpenRoute(CheckedRoute):
    """A route that accepts every caller, after a check."""

    def check(self, request: Any) -> None:
        request.state.user_id, request.state.space_id, request.state.context = "anyone", None, None


@pytest.fixture
def app(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Any:
    for path in ("/threads", "/threads/loop"):
        monkeypatch.setitem(TABLE, f"GET {path}", AccessRule(AllowedCaller.USER))
    router = GroupRouter("threads", route_class=OpenRoute)

    @router.get("")
    def blocking() -> int:
        return threading.get_ident()

    @router.get("/loop")
    async def asynchronous() -> int:
        return threading.get_ident()

    return create_app(resources, router)


def test_a_server_runs_a_blocking_route_in_a_thread(app: Any) -> None:
    with TestClient(app) as client:
        assert client.get("/threads").json() != client.get("/threads/loop").json()


def test_a_lambda_function_runs_a_blocking_route_without_a_thread(app: Any) -> None:
    response = lambda_handler(app)(gateway_event("GET", "/threads", "", ""), LambdaContext())
    assert response["body"] == str(threading.get_ident())
    with TestClient(app) as client:  # the setting applies only to that call
        assert client.get("/threads").json() != client.get("/threads/loop").json()


def test_no_dependency_of_a_route_needs_a_thread() -> None:
    def called(dependant: Dependant) -> Iterator[Any]:
        for each in dependant.dependencies:
            yield each.call
            yield from called(each)

    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    calls = {call for route in routes for call in called(route.dependant)}
    assert len(calls) > 20
    assert sorted(call.__qualname__ for call in calls if not _is_awaited(call)) == []


def _is_awaited(call: Any) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
