"""Where what blocks is waited for: in a thread while others are served, right away where nobody else is."""

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
from shared.http.routers import AccountRoute, public_router
from shared.resources import Resources
from tests.load.emulated_store import LambdaContext, gateway_event


class OpenRoute(AccountRoute):
    """Lets anyone in, and says who was."""

    @staticmethod
    def check(request: Any) -> None:
        request.state.user_id = "anyone"


@pytest.fixture
def app(resources: Resources) -> Any:
    router = public_router("threads")
    router.route_class = OpenRoute

    @router.get("")
    def answering() -> int:
        return threading.get_ident()

    @router.get("/loop")
    async def serving() -> int:
        return threading.get_ident()

    return create_app(resources, router)


def test_a_server_of_many_requests_waits_in_a_thread(app: Any) -> None:
    with TestClient(app) as client:
        assert client.get("/threads").json() != client.get("/threads/loop").json()


def test_a_function_that_answers_one_request_at_a_time_needs_no_thread(app: Any) -> None:
    answer = lambda_handler(app)(gateway_event("GET", "/threads", "", ""), LambdaContext())
    assert answer["body"] == str(threading.get_ident())
    with TestClient(app) as client:  # it holds for that call only
        assert client.get("/threads").json() != client.get("/threads/loop").json()


def test_no_route_takes_a_thread_for_what_it_depends_on() -> None:
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
