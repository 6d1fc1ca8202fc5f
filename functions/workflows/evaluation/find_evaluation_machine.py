"""An evaluation needs a machine: before its job, and when AWS refuses the job or ends it without success."""

from typing import Any

from functions.workflows.machines import find_machine
from shared.observability import workflow_step
from shared.resources import Resources

_resources = Resources()


def find_evaluation_machine(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Decides what the state machine does next, and notes on the evaluation what it waits for.

    Takes ``{space_id, evaluation_id, plan, search, error?, cause?}``; see ``find_machine``.
    """
    following = find_machine(resources, event["evaluation_id"], event)
    resources.evaluations.note_waiting(event["space_id"], event["evaluation_id"], following.waiting)
    return following.output(event)


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return find_evaluation_machine(_resources, event)
