"""Between API Gateway's events and the app."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Tracer
from fastapi import FastAPI
from mangum import Mangum

from shared.observability import logger

LambdaHandler = Callable[[dict[str, Any], Any], dict[str, Any]]


def lambda_handler(app: FastAPI) -> LambdaHandler:
    """The Lambda handler of an app, logged and traced."""
    serve = Mangum(app, lifespan="off")
    tracer = Tracer()

    # Powertools wraps functions only, and Mangum's object is none.
    @logger.inject_lambda_context
    @tracer.capture_lambda_handler(capture_response=False)
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return serve(event, context)

    wrapped: LambdaHandler = handler
    return wrapped
