"""A training starts: its data is looked for, and its job's papers are laid out."""

from typing import Any

from functions.workflows.job_inputs import JobInputs
from shared.errors import JobFailedError, NotFoundError
from shared.models.job import TrainingJob
from shared.models.job_status import JobStatus
from shared.observability import workflow_step
from shared.resources import Resources
from shared.trainings.store import Trainings

_resources = Resources()


def check_training(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Moves the training to ``queued``, which ends changes of it, and writes ``job.json`` with its files pinned.

    Takes ``{space_id, training_id}``; returns the input of the SageMaker job.
    Raises JobFailedError when the data can't be what was meant: see ``JobInputs.datasets``.
    """
    space_id, training_id = event["space_id"], event["training_id"]
    try:
        training = Trainings(resources.table, resources.clock).advance(space_id, training_id, JobStatus.QUEUED)
    except NotFoundError:
        raise JobFailedError("The training was deleted.") from None
    if training.status.is_final:
        raise JobFailedError(f"The training has ended {training.status} already.")
    inputs = JobInputs(resources)
    target = next(connector.target for connector in training.connectors if connector.target)
    job = TrainingJob(
        training_id=training_id,
        space_id=space_id,
        data_model_id=training.data_model_id,
        architecture=training.architecture,
        configuration=training.configuration,
        gpu_count=training.gpu_count,
        datasets=inputs.datasets(space_id, inputs.parts(space_id, training.connectors, training.pins), target),
        progress=inputs.progress(),
    )
    return inputs.lay_out(job)


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return check_training(_resources, event)
