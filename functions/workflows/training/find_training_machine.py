"""A training needs a machine: before its job, and when AWS refuses the job or ends it without success."""

from typing import Any

from functions.workflows.machines import find_machine
from shared.errors import JobFailedError, NotFoundError
from shared.observability import workflow_step
from shared.resources import Resources
from shared.trainings.store import Trainings

_resources = Resources()


def find_training_machine(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Decides what the state machine does next, and notes on the training what it waits for or runs on.

    Takes ``{space_id, training_id, plan, search, error?, cause?}``; see ``find_machine``. Raises JobFailedError if the
    training was deleted.
    """
    following = find_machine(resources, event["training_id"], event)
    trainings = Trainings(resources.table, resources.clock)
    try:
        runs_on = following.search.instance_type if following.next == "run" else None
        trainings.note_waiting(event["space_id"], event["training_id"], following.waiting, runs_on)
    except NotFoundError:
        raise JobFailedError("The training was deleted.") from None
    return following.output(event)


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return find_training_machine(_resources, event)
