"""A training job has ended well, or was stopped: its model becomes a checkpoint, and the training ends."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

from botocore.exceptions import ClientError

from shared.checkpoints.reports import CheckpointReports
from shared.clock import new_id
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Write
from shared.errors import JobFailedError, NotFoundError
from shared.evaluations.scores import finite
from shared.models.checkpoint import (
    INPUTS_LIMIT,
    Checkpoint,
    CheckpointCalibration,
    CheckpointInput,
    CheckpointReport,
)
from shared.models.job import REPORTED_NAMES, CheckpointSummary, JobFile, ReportedFile, SeriesPoint
from shared.models.job_status import JobStatus
from shared.models.training import Training
from shared.observability import workflow_step
from shared.propensity.artifacts import MAX_PACKED_BYTES, MAX_SCORED_BYTES, read_checkpoint_metadata
from shared.propensity.errors import CheckpointError
from shared.resources import Resources
from shared.trainings.store import Trainings

MAX_NOTES = 100
INPUTS_CHARACTERS = 20_000
_BLOCK = 1 << 20
# More than the headers of all files of an archive.
_ARCHIVE_OVERHEAD = 1 << 20
_resources = Resources()


def register_checkpoints(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Reads the job's model artifact and makes it a checkpoint, in the transaction that ends the training
    ``succeeded``, or ``stopped`` with what was fitted until then.

    Takes ``{space_id, training_id, model_uri, stopped?, instance_type?, training_seconds?, billable_seconds?}``;
    answers ``{space_id, training_id, checkpoint_id, benchmark_ids}``, the same when it is done again. ``stopped`` has
    the ``status`` and ``error`` of a stopped job, by which the training ends if it left no model.
    Raises JobFailedError when a job that ended well left no whole model, and when the training was deleted or has
    ended otherwise.
    """
    space_id, training_id = event["space_id"], event["training_id"]
    trainings = Trainings(resources.table, resources.clock)
    checkpoints = Repository(resources.table, Checkpoint, kind="checkpoint", clock=resources.clock)
    try:
        training = trainings.get(space_id, training_id)
        if not training.status.is_final:
            training = _end(event, training, trainings, checkpoints, resources)
    except NotFoundError:
        raise JobFailedError("The training was deleted.") from None
    if not training.checkpoint_ids and "stopped" not in event:
        raise JobFailedError(f"The training has ended {training.status} already.")
    return {
        "space_id": space_id,
        "training_id": training_id,
        "checkpoint_id": next(iter(training.checkpoint_ids), None),
        "benchmark_ids": training.benchmark_ids if training.checkpoint_ids else [],
    }


def _end(
    event: dict[str, Any],
    training: Training,
    trainings: Trainings,
    checkpoints: Repository[Checkpoint],
    resources: Resources,
) -> Training:
    space_id, stopped = event["space_id"], event.get("stopped")
    ran = {name: event.get(name) for name in ("instance_type", "training_seconds", "billable_seconds")}
    try:
        artifact, metadata = _read(event, training, resources)
    except JobFailedError:
        if stopped is None:
            raise
        return trainings.end(space_id, training.id, JobStatus(stopped["status"]), {"error": stopped["error"], **ran})
    now = resources.clock()
    metrics = finite(metadata.measurement.metrics)
    checkpoint = Checkpoint(
        id=new_id(),
        created_at=now,
        updated_at=now,
        architecture=metadata.architecture,
        artifact=artifact,
        input_count=len(metadata.features.features) or None,
        inputs=_inputs(metadata),
        metrics=metrics,
        intervals=metadata.measurement.intervals,
        calibration=_calibration(metadata),
        name=training.name,
        size_bytes=artifact.size_bytes,
        target=metadata.target,
        threshold=metadata.threshold,
        explains_exactly=metadata.explains_exactly,
        threshold_rule=metadata.threshold_rule or None,
        training_id=training.id,
    )
    last_step = max((point.step for point in metadata.series), default=0)
    values = {
        "checkpoint_ids": [checkpoint.id],
        "metrics": [
            SeriesPoint(name=name, value=value, step=last_step, at=now)
            for name, value in metrics.items()
            if value is not None
        ],
        "notes": [*training.notes, *metadata.notes][:MAX_NOTES],
        "error": stopped["error"] if stopped else None,
        **ran,
    }
    series = trainings.keep_series(space_id, training.id, metadata.series)
    report = CheckpointReports(resources.table).keep(space_id, checkpoint.id, _report(metadata))

    def commit(actions: list[Write]) -> None:
        checkpoints.create(space_id, checkpoint, also=[*actions, series, report])

    status = JobStatus.STOPPED if stopped else JobStatus.SUCCEEDED
    return trainings.end(space_id, training.id, status, values, commit=commit)


def _inputs(metadata: CheckpointSummary) -> list[CheckpointInput]:
    """Returns as many columns as a list of 100 checkpoints has room for."""
    inputs, characters = [], 0
    for column in metadata.features.features[:INPUTS_LIMIT]:
        characters += len(column.name)
        if characters > INPUTS_CHARACTERS:
            break
        inputs.append(CheckpointInput(name=column.name, type=column.kind))
    return inputs


def _calibration(metadata: CheckpointSummary) -> CheckpointCalibration | None:
    measured, raw = metadata.measurement.calibration, metadata.measurement.raw_calibration
    if measured is None:
        return None
    method = metadata.calibration.kind if metadata.calibration else "none"
    return CheckpointCalibration(method=method, measured=measured, raw=raw)


def _report(metadata: CheckpointSummary) -> CheckpointReport:
    holdout = metadata.holdout
    return CheckpointReport(
        curve=metadata.measurement.curve,
        rows=metadata.measurement.rows,
        positives=metadata.measurement.positives,
        positive_label=metadata.positive_label,
        holdout=f"{holdout.kind}{f' by {holdout.column}' if holdout.column else ''}" if holdout else "",
        trained_rows=metadata.trained_rows,
        configuration={name: _shortened(value) for name, value in metadata.configuration.items()},
        seed=metadata.seed,
        files=ReportedFile.of(metadata.trained_files),
        file_count=len(metadata.trained_files),
        library_versions=metadata.library_versions,
    )


def _shortened(value: Any) -> Any:
    return value[:REPORTED_NAMES] if isinstance(value, list) else value


def _read(event: dict[str, Any], training: Training, resources: Resources) -> tuple[JobFile, CheckpointSummary]:
    """Returns where the model is, pinned, and what it says of itself, once it is known to be whole and of this
    training.
    """
    bucket, key = _location(event, resources)
    try:
        found = resources.s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
        raise JobFailedError("The job ended without leaving a model. Start the training again.") from error
    artifact = JobFile.of_object(bucket, key, found)
    if artifact.size_bytes > MAX_PACKED_BYTES:
        raise JobFailedError(
            f"The model is larger than {MAX_PACKED_BYTES >> 20} MB, so predictions could not use it. Train with fewer "
            "rounds or smaller trees."
        )
    try:
        with _spooled(found["Body"].iter_chunks(_BLOCK)) as content:
            _check_whole(content)
            metadata = read_checkpoint_metadata(content)
    except CheckpointError as error:
        raise JobFailedError(
            f"The model that the job left can't be used: {error}. Start the training again."
        ) from error
    if metadata.architecture != training.architecture:
        raise JobFailedError(f"The job left a model of the architecture {metadata.architecture}.")
    return artifact, metadata


def _location(event: dict[str, Any], resources: Resources) -> tuple[str, str]:
    bucket, _, key = str(event["model_uri"]).removeprefix("s3://").partition("/")
    folder = f"spaces/{event['space_id']}/trainings/{event['training_id']}/"
    if bucket != resources.settings.bucket_name or not key.startswith(folder):
        raise JobFailedError("The job left its model outside of the training's own folder.")
    return bucket, key


@contextmanager
def _spooled(blocks: Iterator[bytes]) -> Iterator[IO[bytes]]:
    with TemporaryFile() as file:
        for block in blocks:
            file.write(block)
        file.seek(0)
        yield file


def _check_whole(content: IO[bytes]) -> None:
    """Reads the whole archive to its checksum at the end, and returns to its start."""
    total = 0
    try:
        with gzip.open(content) as unpacked:
            while block := unpacked.read(_BLOCK):
                total += len(block)
                if total > MAX_SCORED_BYTES + _ARCHIVE_OVERHEAD:
                    raise CheckpointError(f"it unpacks to more than {MAX_SCORED_BYTES >> 20} MB")
    except (OSError, EOFError, zlib.error) as error:
        raise CheckpointError(f"it is damaged ({error})") from error
    content.seek(0)


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return register_checkpoints(_resources, event)
