"""A function scores the parts of one task of a prediction run. ``scoring.py`` needs packages that are loaded first."""

from typing import Any

from functions.workflows.packages import load_packages
from shared.observability import workflow_step
from shared.resources import Resources

_resources = Resources()


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    load_packages()
    from functions.workflows.prediction.scoring import score_parts

    return score_parts(_resources, event)
