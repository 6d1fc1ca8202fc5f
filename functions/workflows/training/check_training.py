"""A training starts: its files are pinned and scanned, and its job specification is written."""

from collections.abc import Sequence
from typing import Any

from functions.workflows.job_files import DataPart
from functions.workflows.job_inputs import JobInputs
from functions.workflows.training.scan_wait import ScanWait, ScanWaits
from shared.errors import JobFailedError, NotFoundError
from shared.models.job import JobWeights, TrainingJob
from shared.models.job_status import JobStatus
from shared.models.training import Training
from shared.observability import workflow_step
from shared.propensity.architectures.registry import describe_architecture
from shared.resources import Resources
from shared.settings import Settings
from shared.trainings.availability import weights_of
from shared.trainings.store import Trainings

_resources = Resources()


def check_training(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Moves the training to ``queued``, which ends changes of it, and writes ``job.json`` with its pinned files.

    Takes ``{space_id, training_id}``; returns the input of the SageMaker job. While files wait for a scan, it returns
    ``wait_seconds`` and more instead, and is called with that again after this time.
    Raises JobFailedError when the data can't be what was meant: see ``JobInputs`` and ``ScanWaits``.
    """
    space_id, training_id = event["space_id"], event["training_id"]
    trainings = Trainings(resources.table, resources.clock)
    try:
        training = trainings.advance(space_id, training_id, JobStatus.QUEUED)
        if training.status.is_final:
            raise JobFailedError(f"The training has ended {training.status} already.")
        inputs = JobInputs(resources)
        parts = inputs.parts(space_id, training.connectors, training.pins)
        _pin(resources, trainings, space_id, training, parts)
        if output := _wait(resources, trainings, inputs, event, parts):
            return output
    except NotFoundError:
        raise JobFailedError("The training was deleted.") from None
    return inputs.lay_out(_job(resources, inputs, space_id, training, parts))


def _pin(
    resources: Resources, trainings: Trainings, space_id: str, training: Training, parts: Sequence[DataPart]
) -> None:
    """Pins the files of connectors that the request could not list."""
    pins = {
        part.connector.id: resources.file_pins.save(space_id, part.connector.id, part.versions)
        for part in parts
        if part.connector.id not in training.pins
    }
    if pins:
        trainings.pin(space_id, training.id, pins)


def _wait(
    resources: Resources, trainings: Trainings, inputs: JobInputs, event: dict[str, Any], parts: Sequence[DataPart]
) -> dict[str, Any] | None:
    """Returns the input of the next check while files wait for a scan, and notes their number on the training."""
    space_id, training_id = event["space_id"], event["training_id"]
    waits = ScanWaits(resources.connector_scans, inputs.files, resources.clock)
    wait = ScanWait.of(event, resources.clock())
    unread = waits.unread(space_id, parts, wait)
    files = sum(map(len, unread.values()))
    waiting = f"Waiting for the scan of {files} {'file' if files == 1 else 'files'}." if files else None
    trainings.note_waiting(space_id, training_id, waiting)
    if not unread:
        return None
    wait = waits.request(space_id, parts, unread, wait)
    return {"space_id": space_id, "training_id": training_id, **wait.output()}


def _job(
    resources: Resources, inputs: JobInputs, space_id: str, training: Training, parts: Sequence[DataPart]
) -> TrainingJob:
    target = next(connector.target for connector in training.connectors if connector.target)
    return TrainingJob(
        training_id=training.id,
        space_id=space_id,
        data_model_id=training.data_model_id,
        architecture=training.architecture,
        configuration=training.configuration,
        gpu_count=training.gpu_count,
        instance_count=training.instance_count,
        datasets=inputs.datasets(space_id, parts, target, needs_profiles=True),
        progress=inputs.progress(),
        weights=_weights(training.architecture, resources.settings),
    )


def _weights(name: str, settings: Settings) -> JobWeights | None:
    architecture = describe_architecture(name)
    weights = weights_of(architecture, settings)
    if architecture.weights_key and not weights:
        raise JobFailedError(
            f"The weights of the architecture {name} were taken away from this deployment before the training began. "
            "Ask its operator, or choose another architecture."
        )
    return weights


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return check_training(_resources, event)
