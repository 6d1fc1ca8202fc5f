"""Turns the routes of a group into a Lambda function."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

LambdaHandler = Callable[[dict[str, Any], Any], dict[str, Any]]


def load(*routes: str) -> "tuple[FastAPI, LambdaHandler]":
    """Imports modules of routes, and returns their app and its Lambda handler."""
    with _quick_imports():
        from shared.http.app import create_app
        from shared.resources import Resources

        app = create_app(Resources(), *(import_module(name).router for name in routes))
        return app, lambda_handler(app)


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Shortens what imports add to a cold start where there is no SnapStart.

    All that is imported stays, so searching it for garbage only costs time. FastAPI builds OpenAPI's models when it is
    imported, though only the document needs them: the default of pydantic lets them wait.
    """
    from pydantic import BaseModel, ConfigDict

    default = BaseModel.model_config
    gc.disable()
    BaseModel.model_config = ConfigDict(defer_build=True)
    try:
        import fastapi  # noqa: F401
    finally:
        BaseModel.model_config = default
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def lambda_handler(app: "FastAPI") -> LambdaHandler:
    """Returns the Lambda handler of an app. It logs each request, and traces the requests that X-Ray samples."""
    from mangum import Mangum

    from shared.http.routers import alone
    from shared.observability import logger

    serve = Mangum(app, lifespan="off")

    @cache
    def traced() -> LambdaHandler:
        # Importing the tracer takes as long as many requests, and X-Ray samples few.
        from aws_lambda_powertools import Tracer

        # Powertools wraps functions only, and Mangum's object is none.
        capture: LambdaHandler = Tracer().capture_lambda_handler(
            lambda event, context: serve(event, context), capture_response=False
        )
        return capture

    @logger.inject_lambda_context
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        sampled = "Sampled=1" in os.environ.get("_X_AMZN_TRACE_ID", "")
        token = alone.set(True)
        try:
            return traced()(event, context) if sampled else serve(event, context)
        finally:
            alone.reset(token)

    wrapped: LambdaHandler = handler
    return wrapped
