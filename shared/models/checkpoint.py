"""Checkpoints: trained models."""

from typing import Annotated, Any

from pydantic import Field

from shared.models.base import Entity, Model
from shared.models.job import CalibrationMeasurement, CurvePoint, Interval, JobFile, MetricName, ReportedFile
from shared.models.reading import COLUMNS_LIMIT

MAX_ROWS = 10_000
INPUTS_LIMIT = 500
UNSEEN_CATEGORIES = 20
UNSEEN_CHARACTERS = 100


class CheckpointInput(Model):
    """A column that each row must have, with null where the value is unknown."""

    name: str
    type: str = Field(description="`numeric`, `boolean`, `categorical` or `datetime`")


class CheckpointCalibration(Model):
    """How well the probabilities fit the labels of the rows that the training held out."""

    method: str = Field(description="`none`, `logistic` or `isotonic`: what corrects the model's own probabilities")
    measured: CalibrationMeasurement
    raw: CalibrationMeasurement | None = Field(description="without the correction; null without one")


class CheckpointReport(Model):
    """What only the report of a training shows. ``curve``, ``rows`` and ``positives`` are of the held-out rows."""

    curve: list[CurvePoint]
    rows: int
    positives: int
    positive_label: str
    holdout: str
    trained_rows: int | None
    configuration: dict[str, Any]
    seed: int | None
    files: list[ReportedFile]
    file_count: int
    library_versions: dict[str, str]


class Checkpoint(Entity):
    """``metrics`` are measured on the rows that the training held out."""

    architecture: str
    artifact: JobFile = Field(exclude=True, repr=False)
    explains_exactly: bool = Field(
        default=True,
        description="whether contributions are exact; if not, a part comes from a neural network and is estimated. "
        "They always add up to the log odds",
    )
    input_count: int | None = Field(default=None, description="null for checkpoints of earlier versions")
    inputs: list[CheckpointInput] = Field(
        default_factory=list, description=f"the first {INPUTS_LIMIT} columns that the model reads, fewer of long names"
    )
    metrics: dict[MetricName, float | None]
    intervals: dict[MetricName, Interval] = Field(default_factory=dict, description="95% intervals of the metrics")
    calibration: CheckpointCalibration | None = Field(default=None, description="null as `input_count`")
    name: str
    size_bytes: int
    target: str | None = None
    threshold: float | None = Field(
        default=None, description="from this probability on, a row gets the positive label; null as `input_count`"
    )
    threshold_rule: str | None = Field(default=None, description="by which the threshold was chosen")
    training_id: str


ScoringRow = Annotated[dict[str, Any], Field(max_length=COLUMNS_LIMIT, description="values by column name")]


class PredictionRequest(Model):
    rows: list[ScoringRow] = Field(min_length=1, max_length=MAX_ROWS)
    threshold: float | None = Field(
        default=None, ge=0, le=1, strict=True, allow_inf_nan=False, description="in place of the checkpoint's own"
    )


class Prediction(Model):
    """Probability of the positive label, and the label that follows from the threshold."""

    probability: float
    label: str


class UnseenCategory(Model):
    """A category that the model was not trained on. It counts as missing."""

    column: str
    value: str = Field(description=f"its first {UNSEEN_CHARACTERS} characters")


class Predictions(Model):
    predictions: list[Prediction]
    threshold: float = Field(description="the one that the labels follow from")
    unseen_categories: list[UnseenCategory] = Field(
        default_factory=list, description=f"the first {UNSEEN_CATEGORIES} in these rows, each once"
    )
