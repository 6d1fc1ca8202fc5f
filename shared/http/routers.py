"""Routers by who may call them: a route can't forget the check, because its router makes it.

``space_router``: a signed-in member of the selected space. ``account_router``: anyone signed in.
``public_router``: anyone.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from shared.aws.resources import Resources
from shared.errors import PermissionDeniedError
from shared.http.errors import errors
from shared.http.tokens import Principal, bearer_token
from shared.models.space import UserPermission
from shared.store.members import Members, Scope
from shared.store.stamps import actor

Endpoint = Callable[..., Any]
RouteHandler = Callable[[Request], Coroutine[Any, Any, Response]]


def resources_of(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


def _authenticate(request: Request) -> None:
    token = bearer_token(request.headers.get("authorization", ""))
    request.state.principal = resources_of(request).token_verifier.verify(token)
    request.state.user_id = request.state.principal.user_id


def _select_space(request: Request) -> None:
    _authenticate(request)
    principal: Principal = request.state.principal
    members = Members(resources_of(request).table)
    request.state.scope = members.select(principal.user_id, request.headers.get("x-space-id") or principal.space_id)
    request.state.space_id = request.state.scope.space_id
    admissions = resources_of(request).admissions
    admissions.keep(*_credentials(request), principal, request.state.scope)


def _is_remembered(request: Request) -> bool:
    admission = resources_of(request).admissions.find(*_credentials(request))
    if admission is None:
        return False
    state = request.state
    state.principal, state.user_id = admission.principal, admission.principal.user_id
    state.scope, state.space_id = admission.scope, admission.scope.space_id
    return True


def _credentials(request: Request) -> tuple[str, str]:
    return request.headers.get("authorization", ""), request.headers.get("x-space-id", "")


class _CheckedRoute(APIRoute):
    """Runs its check before the body is even read."""

    @staticmethod
    def check(request: Request) -> None:
        raise NotImplementedError

    @staticmethod
    def is_checked(request: Request) -> bool:  # noqa: ARG004 - for those who look
        """Whether the check may be left out; this is told without waiting for anything."""
        return False

    def get_route_handler(self) -> RouteHandler:
        handle = super().get_route_handler()
        check, is_checked = type(self).check, type(self).is_checked

        async def checked(request: Request) -> Response:
            if not is_checked(request):
                await run_in_threadpool(check, request)
            # Every request has a context of its own, which lasts until its answer has been sent.
            actor.set(request.state.user_id)
            return await handle(request)

        return checked


class AccountRoute(_CheckedRoute):
    check = staticmethod(_authenticate)


class SpaceRoute(_CheckedRoute):
    """Reads may go by what was checked a moment ago (``admission_seconds``); whatever writes is checked anew."""

    check = staticmethod(_select_space)

    @staticmethod
    def is_checked(request: Request) -> bool:
        return request.method == "GET" and _is_remembered(request)


class ConversationRoute(SpaceRoute):
    """For calls in quick succession: all of them may go by what was checked a moment ago."""

    is_checked = staticmethod(_is_remembered)


# FastAPI runs plain functions in threads, which these are far too short for.
async def _resources(request: Request) -> Resources:
    return resources_of(request)


async def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


async def _scope(request: Request) -> Scope:
    scope: Scope = request.state.scope
    return scope


CurrentPrincipal = Annotated[Principal, Depends(_principal)]
CurrentScope = Annotated[Scope, Depends(_scope)]
CurrentResources = Annotated[Resources, Depends(_resources)]


def permission(needed: str) -> Any:
    """A route dependency: only members with the permission, and owners, get through."""
    wanted = UserPermission(needed)

    async def check(scope: CurrentScope) -> None:
        if not scope.allows(wanted):
            raise PermissionDeniedError(f"You need the permission {wanted.value} in this space. Ask its owner for it.")

    return Depends(check)


async def _document_space(
    space_id: Annotated[
        str | None, Header(alias="X-Space-Id", description="The space to work in; implied when you have just one.")
    ] = None,
) -> None:
    """Only documents the header: the check has read it already."""


def _operation_id(route: APIRoute) -> str:
    return f"{route.name}_partially" if route.methods == {"PATCH"} else route.name


class GroupRouter(APIRouter):
    def __init__(self, **options: Any) -> None:
        super().__init__(generate_unique_id_function=_operation_id, **options)

    def update(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """PUT and PATCH: the same partial update under both names."""

        def register(endpoint: Endpoint) -> Endpoint:
            self.put(path, **options)(endpoint)
            self.patch(path, **options)(endpoint)
            return endpoint

        return register


def space_router(group: str, *, prefix: str | None = None, route_class: type[SpaceRoute] = SpaceRoute) -> GroupRouter:
    """Routes of a group whose entities belong to a space."""
    return GroupRouter(
        prefix=f"/{group}" if prefix is None else prefix,
        tags=[group],
        route_class=route_class,
        dependencies=[Security(HTTPBearer(auto_error=False)), Depends(_document_space)],
        responses=errors(400, 401, 404),
    )


def account_router(group: str, *, prefix: str | None = None) -> GroupRouter:
    """Routes for anyone signed in, whatever the space."""
    return GroupRouter(
        prefix=f"/{group}" if prefix is None else prefix,
        tags=[group],
        route_class=AccountRoute,
        dependencies=[Security(HTTPBearer(auto_error=False))],
        responses=errors(400, 401),
    )


def public_router(group: str, *, prefix: str | None = None) -> GroupRouter:
    """Routes without a token; each of them says why it needs none."""
    return GroupRouter(prefix=f"/{group}" if prefix is None else prefix, tags=[group])
