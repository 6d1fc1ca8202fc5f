"""Logs, metrics and traces (AWS Lambda Powertools), set up once for every function."""

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit, single_metric

from shared.errors import JobFailedError, OutageError, TransientError
from shared.secret_names import without_secrets
from shared.space_binding import bound_space


class SecretsFormatter(LambdaPowertoolsFormatter):
    """Writes log lines without secrets: neither values with the name of one, nor texts that look like one."""

    def serialize(self, log: Any) -> str:
        return super().serialize(without_secrets(log, in_texts=True))


logger = Logger(logger_formatter=SecretsFormatter())

OUTAGE = "AWS did not respond for some minutes. Try again later."
Step = Callable[[dict[str, Any]], dict[str, Any]]


def workflow_step(function: Step) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Returns a Step Functions task's handler for a function from its input to its output.

    A JobFailedError is meant for the user, so it is logged without a stack trace and raised unchanged. A failure of AWS
    that may pass becomes an OutageError, which is repeated for longer than other errors.
    """

    @functools.wraps(function)
    def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        identifiers = {name: value for name, value in event.items() if name.endswith("_id")}
        binding = bound_space.set(event.get("space_id"))
        with logger.append_context_keys(step=function.__module__, **identifiers):
            try:
                return function(event)
            except JobFailedError as error:
                logger.warning("job failed", extra={"reason": str(error)})
                raise
            except TransientError as error:
                logger.warning("step will be repeated", extra={"reason": str(error)})
                raise
            except Exception as error:
                from shared.transient import is_outage

                logger.exception("step failed")
                if is_outage(error):
                    raise OutageError(OUTAGE) from error
                raise
            finally:
                bound_space.reset(binding)

    return handler


def count(event: str, **dimensions: str) -> None:
    """Counts one event in CloudWatch (embedded metric format)."""
    with single_metric(
        name=event, unit=MetricUnit.Count, value=1, namespace=_namespace(), default_dimensions=dimensions
    ):
        pass


def measure(name: str, values: Iterable[float], unit: MetricUnit = MetricUnit.Count) -> None:
    """Sends measurements to CloudWatch (embedded metric format), under the function's name."""
    metrics = EphemeralMetrics(namespace=_namespace())
    for value in values:
        metrics.add_metric(name=name, unit=unit, value=value)
    if metrics.metric_set:
        metrics.flush_metrics()


def count_failure() -> None:
    """Counts a response with a defect of the API, by version: a new version with defects is rolled back."""
    version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
    count("ServerErrors", service=os.environ.get("POWERTOOLS_SERVICE_NAME", "api"), version=version)


def count_failed_request() -> None:
    """Counts a response that is a failure of ours. Failures of what belongs to a space are not counted."""
    count("Failures", service="api")


def _namespace() -> str:
    return os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Inference")
