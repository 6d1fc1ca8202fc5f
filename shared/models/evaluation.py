"""Evaluations: a checkpoint measured on a benchmark."""

from typing import Annotated

from pydantic import Field

from shared.models.base import ALSO_WITH_POINT, Entity, Identifier, Model, Timestamp
from shared.models.job import CalibrationMeasurement, CurvePoint, Interval, JobFile, MetricName, ReportedFile
from shared.models.job_status import JobStatus


class EvaluationCreate(Model):
    benchmark_id: Identifier
    checkpoint_id: Identifier
    gpu_count: Annotated[int, ALSO_WITH_POINT] = Field(ge=0, strict=True, description="0 runs on CPU")


class DueEvaluation(Model):
    """An evaluation that follows a successful training, with the id that it will have."""

    id: str
    benchmark_id: str
    checkpoint_id: str
    created_by: str


class EvaluationOutcome(Model):
    """Status of an evaluation and, at its end, its measurements."""

    status: JobStatus = JobStatus.PENDING
    metrics: dict[MetricName, float | None] = Field(default_factory=dict)
    reasons: dict[MetricName, str] = Field(default_factory=dict, description="why a metric is null")
    intervals: dict[MetricName, Interval] = Field(default_factory=dict, description="95% intervals of metrics")
    benchmark_revision: int
    rows: int | None = None
    positives: int | None = None
    excluded_training_rows: int | None = Field(
        default=None, description="rows left out because the model was fitted on them"
    )
    dropped_rows: int | None = Field(default=None, description="rows without a usable target")
    curve: list[CurvePoint] | None = Field(
        default=None, description="ROC points; KS is the largest difference between their rates; left out of lists"
    )
    threshold: float | None = Field(default=None, description="from which on a row was called positive")
    files: list[ReportedFile] = Field(
        default_factory=list, description="the first 100 files that were read, with their versions; left out of lists"
    )
    file_count: int | None = None
    calibration: CalibrationMeasurement | None = Field(
        default=None, description="how well the probabilities fit the labels; left out of lists"
    )
    raw_calibration: CalibrationMeasurement | None = Field(
        default=None, description="without the checkpoint's calibration; null if it has none; left out of lists"
    )
    warnings: list[str] = Field(
        default_factory=list, description="doubts about the benchmark's data, such as values that the model can't read"
    )
    error: str | None = None
    waiting: str | None = Field(default=None, description="what the job of an unfinished evaluation waits for")
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None


class Evaluation(Entity):
    benchmark_id: str
    checkpoint_id: str
    created_by: str
    gpu_count: int
    # By connector, the object that names the versions of its files, of this revision of the benchmark.
    pins: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    pinned_revision: int | None = Field(default=None, exclude=True, repr=False)
    # What the job left: its result, and the scores of single rows.
    artifact: JobFile | None = Field(default=None, exclude=True, repr=False)
    result: EvaluationOutcome
    training_id: str | None = Field(default=None, description="the training that created the checkpoint")
    updated_by: str
