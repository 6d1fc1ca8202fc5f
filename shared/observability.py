"""Logs, metrics and traces (AWS Lambda Powertools), set up once for every function."""

import functools
import os
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from shared.errors import JobFailedError

logger = Logger()

Step = Callable[[dict[str, Any]], dict[str, Any]]


def workflow_step(function: Step) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Make a Step Functions task's handler of a function from its input to its output.

    A JobFailedError is the user's to read: it leaves as it is, logged without a stack trace.
    """

    @functools.wraps(function)
    def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        identifiers = {name: value for name, value in event.items() if name.endswith("_id")}
        with logger.append_context_keys(step=function.__module__, **identifiers):
            try:
                return function(event)
            except JobFailedError as error:
                logger.warning("job failed", extra={"reason": str(error)})
                raise
            except Exception:
                logger.exception("step failed")
                raise

    return handler


def count(event: str, **dimensions: str) -> None:
    """Count one event in CloudWatch (embedded metric format)."""
    namespace = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Inference")
    with single_metric(name=event, unit=MetricUnit.Count, value=1, namespace=namespace, default_dimensions=dimensions):
        pass
