"""Routers that check who may call their routes by the table of authorisation, so that no route can forget it."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from copy import copy
from dataclasses import replace
from functools import wraps
from inspect import iscoroutinefunction
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import APIRouter, Depends, Header, Path, Request, Response, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from shared.dynamodb.write_markers import acting_key, actor
from shared.http.authentication import Authentication, Credentials, Identity, caller_address
from shared.http.authorisation import AllowedCaller, rule_of
from shared.http.errors import errors
from shared.http.text import require_whole_characters
from shared.http.tokens import Principal
from shared.space_binding import bound_space
from shared.spaces.members import SpaceContext

P = ParamSpec("P")
R = TypeVar("R")
Endpoint = Callable[..., Any]
E = TypeVar("E", bound=Endpoint)
RouteHandler = Callable[[Request], Coroutine[Any, Any, Response]]


# The path of the space itself, and the beginning of the paths below it.
SPACE_PATH = "/spaces/{id}"
# Whether this request is the only one in its process, as in a Lambda function. Then it may block.
alone: ContextVar[bool] = ContextVar("alone", default=False)


def _authentication(request: Request) -> Authentication:
    authentication: Authentication = request.app.state.resources.authentication
    return authentication


def _credentials(request: Request) -> Credentials:
    return Credentials(request.headers.get("authorization", ""), request.headers.get("x-space-id", ""))


def _credentials_and_address(request: Request) -> Credentials:
    return replace(_credentials(request), address=caller_address(request))


def _keep(request: Request, identity: Identity) -> None:
    state = request.state
    state.principal, state.user_id = identity.principal, identity.principal.user_id
    state.context, state.space_id = identity.context, identity.context.space_id if identity.context else None


async def _wait_for(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a function that may block in a thread, so that other requests continue."""
    if alone.get():
        return function(*args, **kwargs)
    return await run_in_threadpool(function, *args, **kwargs)


def _awaited(endpoint: Endpoint) -> Endpoint:
    """Returns the endpoint as a coroutine function.

    FastAPI uses a thread for a plain function, and another one to check its return value.
    """
    if iscoroutinefunction(endpoint):
        return endpoint

    @wraps(endpoint)
    async def awaited(**arguments: Any) -> Any:
        return await _wait_for(endpoint, **arguments)

    return awaited


class CheckedRoute(APIRoute):
    """Route that checks the caller by the table of authorisation before it reads the body. Without a row it fails.

    Reads of a space may use an authentication of up to ``admission_seconds`` ago. Writes are checked anew.
    """

    callers = frozenset(AllowedCaller) - {AllowedCaller.SERVICE}

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        (method,) = options["methods"]
        self.rule = rule_of(method, path)
        if self.rule.caller not in self.callers:
            raise TypeError(f"{method} {path} is for {self.rule.caller}, and {type(self).__name__} can't check that.")
        self._names_space = path.startswith(SPACE_PATH)
        documented, statuses = self._documented()
        options["dependencies"] = [*documented, *(options.get("dependencies") or ())]
        options["responses"] = errors(*statuses) | (options.get("responses") or {})
        super().__init__(path, _awaited(endpoint), **options)
        self.description = f"{self.description}\n\n{self.rule}".lstrip()

    def _documented(self) -> tuple[list[Any], Sequence[int]]:
        """Returns what documents the credentials of a caller, and the statuses of wrong ones."""
        if not self.rule.caller.needs_token:
            return [], ()
        token = Security(HTTPBearer(auto_error=False))
        if not self.rule.caller.enters_space:
            return [token], (400, 401, 403)
        return [token, Depends(_document_path if self._names_space else _document_space)], (400, 401, 403, 404)

    def check(self, request: Request) -> None:
        """Identifies the caller, and selects the space: the one of the path, or the one of the request."""
        authentication, credentials = _authentication(request), _credentials_and_address(request)
        if not self.rule.caller.enters_space:
            identity = authentication.identify(credentials)
        elif self._names_space:
            identity = authentication.enter_space(replace(credentials, space_id=request.path_params["id"]))
        elif self.may_be_remembered(request):
            identity = authentication.enter_space_and_remember(credentials)
        else:
            identity = authentication.enter_space(credentials)
        _keep(request, identity)

    def is_checked(self, request: Request) -> bool:
        """Returns whether the check is not needed. It never blocks."""
        if not self.rule.caller.enters_space or self._names_space or not self.may_be_remembered(request):
            return False
        identity = _authentication(request).remembered(_credentials(request))
        if identity is not None:
            _keep(request, identity)
        return identity is not None

    def may_be_remembered(self, request: Request) -> bool:
        """Returns whether a recent authentication is enough."""
        return request.method == "GET"

    def get_route_handler(self) -> RouteHandler:
        described, self.dependant = self.dependant, _without_documentation(self.dependant)
        handle = super().get_route_handler()
        self.dependant = described
        # Public pages are opened with any query. Clients of OpenAI send what OpenAI takes.
        if not self.rule.caller.needs_token:
            return handle
        known = dict.fromkeys(_query_names(self.dependant))
        is_strict = not self.path.startswith("/v1/")

        async def checked(request: Request) -> Response:
            if not self.is_checked(request):
                await _wait_for(self.check, request)
            context: SpaceContext | None = request.state.context
            self.rule.require(context, request.path_params)
            await require_whole_characters(request)
            if is_strict and any(name not in known for name in request.query_params):
                # Few requests need it, and every import makes a cold start longer.
                from shared.http.unknown_names import require_known_parameters

                require_known_parameters(request.query_params, known)
            # Every request has its own context, which lasts until the response has been sent.
            actor.set(request.state.user_id)
            acting_key.set(context.key.id if context and context.key else None)
            bound_space.set(request.state.space_id)
            if self.body_field is not None:
                # Most cold starts serve a read first, and every import makes them longer.
                from shared.http.nested_fields import check_nested_fields

                await check_nested_fields(request, self.body_field.field_info)
            return await handle(request)

        return checked


class ConversationRoute(CheckedRoute):
    """Route for quick successions of calls. All methods may use a recent authentication."""

    def may_be_remembered(self, request: Request) -> bool:  # noqa: ARG002 - the method does not matter
        return True


# Coroutines, because FastAPI runs plain functions in threads.
async def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


async def _context(request: Request) -> SpaceContext:
    context: SpaceContext = request.state.context
    return context


CurrentPrincipal = Annotated[Principal, Depends(_principal)]
CurrentContext = Annotated[SpaceContext, Depends(_context)]


async def _document_space(
    space_id: Annotated[
        str | None, Header(alias="X-Space-Id", description="The space to use; not needed when you have only one.")
    ] = None,
) -> None:
    """Documents the header only. The check reads it."""


async def _document_path(id: Annotated[str, Path(description="The space.")]) -> None:
    """Documents the path only. The check reads it."""


def _operation_id(route: APIRoute) -> str:
    return f"{route.name}_partially" if route.methods == {"PATCH"} else route.name


def _query_names(dependant: Dependant) -> Iterator[str]:
    """Yields the names of all query parameters."""
    yield from (parameter.alias for parameter in dependant.query_params)
    for each in dependant.dependencies:
        yield from _query_names(each)


def _without_documentation(dependant: Dependant) -> Dependant:
    """Returns the dependant without dependencies that only document a route, so that no request resolves them."""
    worked_out = copy(dependant)
    worked_out.dependencies = [
        each
        for each in dependant.dependencies
        if each.call not in (_document_space, _document_path) and not isinstance(each.call, HTTPBearer)
    ]
    return worked_out


class GroupRouter(APIRouter):
    """Router of one group. ``extension=True`` marks a route that the original contract does not have.

    The app serves and documents extensions after the original routes.
    """

    def __init__(
        self, group: str, *, prefix: str | None = None, route_class: type[CheckedRoute] = CheckedRoute
    ) -> None:
        super().__init__(
            prefix=f"/{group}" if prefix is None else prefix,
            tags=[group],
            route_class=route_class,
            generate_unique_id_function=_operation_id,
        )
        self.originals: list[BaseRoute] = []
        self.extensions: list[BaseRoute] = []

    def get(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._register("GET", path=path, **options)

    def post(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._register("POST", path=path, **options)

    def put(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._register("PUT", path=path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._register("DELETE", path=path, **options)

    def update(self, path: str, **options: Any) -> Callable[[E], E]:
        """Registers the same partial update as PUT and as PATCH."""
        return self._register("PUT", "PATCH", path=path, **options)

    def _register(self, *methods: str, path: str, extension: bool = False, **options: Any) -> Callable[[E], E]:
        def register(endpoint: E) -> E:
            for method in methods:
                self.add_api_route(path, endpoint, methods=[method], **options)
                (self.extensions if extension else self.originals).append(self.routes[-1])
            return endpoint

        return register
