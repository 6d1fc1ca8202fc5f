"""Checkpoints: trained models."""

from typing import Annotated, Any

from pydantic import Field

from shared.models.base import Entity, Model
from shared.models.job import JobFile, MetricName
from shared.models.reading import COLUMNS_LIMIT

MAX_ROWS = 10_000
UNSEEN_CATEGORIES = 20
UNSEEN_CHARACTERS = 100


class Checkpoint(Entity):
    """``metrics`` are measured on the rows that the training held out."""

    architecture: str
    artifact: JobFile = Field(exclude=True, repr=False)
    metrics: dict[MetricName, float | None]
    name: str
    size_bytes: int
    target: str | None = None
    training_id: str


ScoringRow = Annotated[dict[str, Any], Field(max_length=COLUMNS_LIMIT, description="values by column name")]


class PredictionRequest(Model):
    rows: list[ScoringRow] = Field(min_length=1, max_length=MAX_ROWS)


class Prediction(Model):
    """Probability of the positive label, and the label that follows from the checkpoint's threshold."""

    probability: float
    label: str


class UnseenCategory(Model):
    """A category that the model was not trained on. It counts as missing."""

    column: str
    value: str = Field(description=f"its first {UNSEEN_CHARACTERS} characters")


class Predictions(Model):
    predictions: list[Prediction]
    unseen_categories: list[UnseenCategory] = Field(
        default_factory=list, description=f"the first {UNSEEN_CATEGORIES} in these rows, each once"
    )
