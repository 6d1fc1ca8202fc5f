"""A training needs a machine: before its job, and when AWS refuses the job or ends it without success."""

from typing import Any

from functions.workflows.machines import NextStep, find_machine
from shared.errors import JobFailedError, NotFoundError
from shared.jobs.failures import STOPPED_BY_MEMBER, STOPPED_ERROR
from shared.observability import workflow_step
from shared.resources import Resources
from shared.trainings.store import Trainings

_resources = Resources()


def find_training_machine(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Decides what the state machine does next, and notes on the training what it waits for or runs on.

    Takes ``{space_id, training_id, plan, search, error?, cause?}``; see ``find_machine``. Raises JobFailedError if the
    training was deleted. A training that a member has stopped gets no machine any more.
    """
    trainings = Trainings(resources.table, resources.clock)
    try:
        training = trainings.get(event["space_id"], event["training_id"])
        following = find_machine(resources, training.id, event, keeps_stopped=True)
        if training.stop_requested_at and _is_without_job(following):
            cause = {"error": STOPPED_ERROR, "cause": STOPPED_BY_MEMBER}
            following = NextStep("fail", following.search, cause)
        runs_on = following.search.instance_type if following.next == "run" else None
        trainings.note_waiting(event["space_id"], event["training_id"], following.waiting, runs_on)
    except NotFoundError:
        raise JobFailedError("The training was deleted.") from None
    return following.output(event)


def _is_without_job(following: NextStep) -> bool:
    return following.next == "run" or (following.next == "wait" and not following.search.is_requested)


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return find_training_machine(_resources, event)
