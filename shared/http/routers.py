"""Routers that check who may call their routes, so that no route can forget the check.

``space_router``: members of the selected space. ``account_router``: signed-in users. ``public_router``: everyone.
"""

from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from copy import copy
from functools import wraps
from inspect import iscoroutinefunction
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from shared.dynamodb.write_markers import actor
from shared.errors import PermissionDeniedError
from shared.http.authentication import Authentication, Credentials, Identity
from shared.http.errors import errors
from shared.http.text import require_whole_characters
from shared.http.tokens import Principal
from shared.models.api_key import BroadScope, KeyScope
from shared.models.space import UserPermission
from shared.spaces.members import SpaceContext

P = ParamSpec("P")
R = TypeVar("R")
Endpoint = Callable[..., Any]
E = TypeVar("E", bound=Endpoint)
RouteHandler = Callable[[Request], Coroutine[Any, Any, Response]]


# Whether this request is the only one in its process, as in a Lambda function. Then it may block.
alone: ContextVar[bool] = ContextVar("alone", default=False)


def _authentication(request: Request) -> Authentication:
    authentication: Authentication = request.app.state.resources.authentication
    return authentication


def _credentials(request: Request) -> Credentials:
    return Credentials(request.headers.get("authorization", ""), request.headers.get("x-space-id", ""))


def _keep(request: Request, identity: Identity) -> None:
    state = request.state
    state.principal, state.user_id = identity.principal, identity.principal.user_id
    state.context, state.space_id = identity.context, identity.context.space_id if identity.context else None


def _authenticate(request: Request) -> None:
    _keep(request, _authentication(request).identify(_credentials(request)))


def _select_space(request: Request) -> None:
    _keep(request, _authentication(request).enter_space(_credentials(request)))


def _select_space_and_remember(request: Request) -> None:
    _keep(request, _authentication(request).enter_space_and_remember(_credentials(request)))


def _is_remembered(request: Request) -> bool:
    identity = _authentication(request).remembered(_credentials(request))
    if identity is not None:
        _keep(request, identity)
    return identity is not None


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


class _CheckedRoute(APIRoute):
    """Route that checks the caller, and the scopes of an API key, before it reads the body."""

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, _awaited(endpoint), **options)

    @property
    def key_scopes(self) -> Sequence[KeyScope]:
        """Returns the scopes that allow an API key to call the route; empty if no key may call it."""
        return ()

    def require_key_scope(self, context: SpaceContext | None) -> None:
        """Raises PermissionDeniedError, naming the missing scope."""
        if context is None or context.key is None:
            return
        if not self.key_scopes:
            raise PermissionDeniedError("No API key may do this. Sign in, and send the token.")
        if not set(self.key_scopes) & set(context.key.scopes):
            raise PermissionDeniedError(
                f"The API key needs the scope {' or '.join(self.key_scopes)}. Add it to the key."
            )

    @staticmethod
    def check(request: Request) -> None:
        raise NotImplementedError

    @staticmethod
    def is_checked(request: Request) -> bool:  # noqa: ARG004 - subclasses use it
        """Returns whether the check is not needed. It never blocks."""
        return False

    def get_route_handler(self) -> RouteHandler:
        described, self.dependant = self.dependant, _without_documentation(self.dependant)
        handle = super().get_route_handler()
        self.dependant = described
        check, is_checked, require_key_scope = type(self).check, type(self).is_checked, self.require_key_scope

        async def checked(request: Request) -> Response:
            if not is_checked(request):
                await _wait_for(check, request)
            require_key_scope(getattr(request.state, "context", None))
            await require_whole_characters(request)
            # Every request has its own context, which lasts until the response has been sent.
            actor.set(request.state.user_id)
            return await handle(request)

        return checked


class AccountRoute(_CheckedRoute):
    check = staticmethod(_authenticate)


class SpaceRoute(_CheckedRoute):
    """Route of a space. Reads may use an authentication of up to ``admission_seconds`` ago; writes are checked anew."""

    @staticmethod
    def check(request: Request) -> None:
        if request.method == "GET":
            _select_space_and_remember(request)
        else:
            _select_space(request)

    @staticmethod
    def is_checked(request: Request) -> bool:
        return request.method == "GET" and _is_remembered(request)

    @property
    def key_scopes(self) -> Sequence[KeyScope]:
        needed = [each.dependency.wanted for each in self.dependencies if isinstance(each.dependency, _Permission)]
        broad = BroadScope.READ if self.methods == {"GET"} else BroadScope.WRITE
        return (*needed, *([BroadScope.CHAT] if "chats" in self.tags else []), broad)


class SignedInSpaceRoute(SpaceRoute):
    """Route that no API key may call, because a key could extend its own rights with it."""

    @property
    def key_scopes(self) -> Sequence[KeyScope]:
        return ()


class ConversationRoute(SpaceRoute):
    """Route for quick successions of calls. All methods may use a recent authentication."""

    check = staticmethod(_select_space_and_remember)
    is_checked = staticmethod(_is_remembered)


# Coroutines, because FastAPI runs plain functions in threads.
async def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


async def _context(request: Request) -> SpaceContext:
    context: SpaceContext = request.state.context
    return context


CurrentPrincipal = Annotated[Principal, Depends(_principal)]
CurrentContext = Annotated[SpaceContext, Depends(_context)]


class _Permission:
    def __init__(self, wanted: UserPermission) -> None:
        self.wanted = wanted

    async def __call__(self, context: CurrentContext) -> None:
        if not context.allows(self.wanted):
            raise PermissionDeniedError(
                f"You need the permission {self.wanted.value} in this space. Ask its owner for it."
            )


def permission(needed: str) -> Any:
    """Returns a route dependency that accepts only owners and members with the permission."""
    return Depends(_Permission(UserPermission(needed)))


async def _document_space(
    space_id: Annotated[
        str | None, Header(alias="X-Space-Id", description="The space to use; not needed when you have only one.")
    ] = None,
) -> None:
    """Documents the header only. The check reads it."""


def _operation_id(route: APIRoute) -> str:
    return f"{route.name}_partially" if route.methods == {"PATCH"} else route.name


def _without_documentation(dependant: Dependant) -> Dependant:
    """Returns the dependant without dependencies that only document a route, so that no request resolves them."""
    worked_out = copy(dependant)
    worked_out.dependencies = [
        each
        for each in dependant.dependencies
        if each.call is not _document_space and not isinstance(each.call, HTTPBearer)
    ]
    return worked_out


class GroupRouter(APIRouter):
    """Router of one group. ``extension=True`` marks a route that the original contract does not have.

    The app serves and documents extensions after the original routes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(generate_unique_id_function=_operation_id, **options)
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


def space_router(group: str, *, prefix: str | None = None, route_class: type[SpaceRoute] = SpaceRoute) -> GroupRouter:
    """Returns a router for routes of a space."""
    return GroupRouter(
        prefix=f"/{group}" if prefix is None else prefix,
        tags=[group],
        route_class=route_class,
        dependencies=[Security(HTTPBearer(auto_error=False)), Depends(_document_space)],
        responses=errors(400, 401, 403, 404),
    )


def account_router(group: str, *, prefix: str | None = None) -> GroupRouter:
    """Returns a router for routes of any signed-in user, independent of spaces."""
    return GroupRouter(
        prefix=f"/{group}" if prefix is None else prefix,
        tags=[group],
        route_class=AccountRoute,
        dependencies=[Security(HTTPBearer(auto_error=False))],
        responses=errors(400, 401, 403),
    )


def public_router(group: str, *, prefix: str | None = None) -> GroupRouter:
    """Returns a router for routes without a token."""
    return GroupRouter(prefix=f"/{group}" if prefix is None else prefix, tags=[group])
