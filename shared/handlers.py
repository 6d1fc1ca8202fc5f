"""Makes the Lambda handler of a group from its routes."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from snapshot_restore_py import register_before_snapshot

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from shared.http.adapter import LambdaHandler

# The web adapter of streaming functions asks once whether the app is ready, and requests of different kinds load more.
FIRST_REQUESTS = 10


def load(*routes: str, before_snapshot: Sequence[str] = ()) -> "tuple[FastAPI, LambdaHandler]":
    """Imports modules of routes, and returns their app and its Lambda handler.

    Some requests import the modules ``before_snapshot``, or need what ``module:function`` prepares. SnapStart does that
    before it takes the snapshot, so no request waits for it. Without SnapStart the first such request does it.
    """
    for name in before_snapshot:
        register_before_snapshot(_prepare, name)
    with _quick_imports():
        from shared.http.adapter import lambda_handler
        from shared.http.app import create_app
        from shared.resources import Resources

        app = create_app(Resources(), *(import_module(name).router for name in routes))
        app.add_middleware(KeepFirstLoads)
        return app, lambda_handler(app)


class KeepFirstLoads:
    """Leaves what the first requests loaded out of later searches for garbage.

    These are libraries, clients and models, which stay. A search through all of them takes a tenth of a second, in the
    middle of a request.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app
        self._left = FIRST_REQUESTS

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        await self._app(scope, receive, send)
        if self._left and scope["type"] == "http":
            self._left -= 1
            gc.freeze()


def _prepare(name: str) -> None:
    module, _, function = name.partition(":")
    imported = import_module(module)
    if function:
        getattr(imported, function)()


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Shortens what imports add to a cold start where there is no SnapStart.

    All imports stay, so a search for garbage among them only costs time. FastAPI would build OpenAPI's models at its
    import, but only the document needs them: pydantic's default lets them wait.
    """
    gc.disable()
    try:
        from pydantic import BaseModel, ConfigDict

        default = BaseModel.model_config
        BaseModel.model_config = ConfigDict(defer_build=True)
        try:
            import fastapi  # noqa: F401
        finally:
            BaseModel.model_config = default
        yield
    finally:
        gc.freeze()
        gc.enable()
