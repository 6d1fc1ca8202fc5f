"""A function decides for the customers in the parts of one task of a decision run.

``deciding.py`` needs packages that are loaded first.
"""

from typing import Any

from functions.workflows.packages import load_packages
from shared.observability import workflow_step
from shared.resources import Resources

_resources = Resources()


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    load_packages()
    from functions.workflows.decision_run.deciding import decide_parts

    return decide_parts(_resources, event)
