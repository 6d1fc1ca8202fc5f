"""Turns an app into a Lambda handler."""

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import FastAPI
from mangum import Mangum

from shared.http.routers import alone
from shared.observability import logger

LambdaHandler = Callable[[dict[str, Any], Any], dict[str, Any]]


def lambda_handler(app: FastAPI) -> LambdaHandler:
    """Returns the Lambda handler of an app. It logs each request, and traces the requests that X-Ray samples."""
    serve = Mangum(app, lifespan="off")

    @cache
    def traced() -> LambdaHandler:
        # Importing the tracer takes as long as many requests, and X-Ray samples few.
        from aws_lambda_powertools import Tracer

        # Powertools wraps functions only, and Mangum's object is not a function.
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
