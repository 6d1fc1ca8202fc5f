"""Trainings: models that learn from the files of connectors."""

from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from shared.models.base import ALSO_WITH_POINT, KEEP, Entity, Identifier, Model, Name, PartialUpdate, Timestamp
from shared.models.checkpoint import Checkpoint
from shared.models.connector_training import ConnectorTraining, ConnectorTrainings, ConnectorTrainingUpdate
from shared.models.job import MAX_SERIES_POINTS, SeriesPoint
from shared.models.job_status import JobStatus

MAX_BENCHMARKS = 40
# A job reports a few series.
MAX_METRIC_POINTS = 5 * MAX_SERIES_POINTS


def _without_repeats(identifiers: list[str]) -> list[str]:
    return list(dict.fromkeys(identifiers))


ArchitectureName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    Field(description="`auto`, or another one of `GET /architectures`"),
]
BenchmarkIds = Annotated[
    list[Identifier],
    Field(max_length=MAX_BENCHMARKS, description="each checkpoint is evaluated on these benchmarks"),
    AfterValidator(_without_repeats),
]
Configuration = Annotated[
    dict[str, Any], Field(max_length=200, description="settings of the architecture; {} uses its defaults")
]


class TrainingCreate(Model):
    architecture: ArchitectureName
    benchmark_ids: BenchmarkIds = Field(default_factory=list)
    configuration: Configuration
    connectors: ConnectorTrainings
    data_model_id: Identifier
    gpu_count: Annotated[int, ALSO_WITH_POINT] = Field(
        ge=0, strict=True, description="GPUs of each instance; 0 trains on CPU"
    )
    instance_count: Annotated[int, ALSO_WITH_POINT] = Field(
        default=1, ge=1, strict=True, description="instances to train on at the same time; each reads some of the files"
    )
    name: Name


class TrainingUpdate(PartialUpdate):
    """Only ``name`` and ``benchmark_ids`` can still change after the training has started."""

    architecture: ArchitectureName = KEEP
    benchmark_ids: BenchmarkIds | None = None
    configuration: Configuration = KEEP
    connector: Annotated[
        ConnectorTrainingUpdate, Field(description="changes the part of this connector, or adds it")
    ] = KEEP
    name: Name = KEEP


class TrainingProgress(Model):
    """An estimate by the models so far. Until the first one is fitted, it is foretold by the losses of its rounds."""

    share_done: float = Field(description="of the time of fitting, from 0 to 1")
    seconds_left: int


class TrainingCost(Model):
    """An estimate by list prices on demand. Volumes and data transfer are not in it."""

    currency: str
    instance_type: str = Field(description="what the training runs on, or is going to, if AWS has one free")
    hourly: float = Field(description="of all instances")
    so_far: float | None = Field(description="null where the job never ran")
    expected: float | None = Field(
        description="of the whole training: by its own progress, or before that by the last similar training, which "
        "has the same architecture, data model and hardware; null without one"
    )
    prices_as_of: date
    prices_of: str = Field(description="the region whose prices these are")


class Training(Entity):
    architecture: str
    benchmark_ids: list[str] = Field(default_factory=list)
    checkpoint_ids: list[str] = Field(default_factory=list, exclude=True, repr=False)
    checkpoints: list[Checkpoint] = Field(default_factory=list)
    configuration: dict[str, Any]
    connectors: list[ConnectorTraining]
    created_by: str
    data_model_id: str
    gpu_count: int
    instance_count: int = 1
    metrics: list[SeriesPoint] = Field(
        default_factory=list,
        description="metrics on the held-out rows, at the end of the training; a single training also has the "
        "series that its job reports while it runs, before these metrics",
    )
    name: str
    # By connector, the object that names the versions of its files.
    pins: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    status: JobStatus = JobStatus.PENDING
    error: str | None = Field(default=None, description="why the training failed, and what to do about it")
    notes: list[str] = Field(default_factory=list, description="remarks about the data and the fit")
    started_at: Timestamp | None = None
    stop_requested_at: Timestamp | None = Field(
        default=None, description="when a member stopped it; it ends when its job has saved what is fitted"
    )
    ended_at: Timestamp | None = None
    instance_type: str | None = None
    training_seconds: int | None = None
    billable_seconds: int | None = None
    progress: TrainingProgress | None = Field(default=None, description="while the job fits, of a single training")
    cost: TrainingCost | None = Field(default=None, description="null for an instance type without a known price")
    deleted_at: Timestamp | None = Field(default=None, description="only on a deleted training, returned on request")
