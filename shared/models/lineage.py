"""Lineage: the chain from an argument or an insight back to the files that its model learned from."""

from pydantic import Field

from shared.models.base import Model
from shared.models.job import MetricName


class LineageScore(Model):
    """Score of the checkpoint on a leaderboard at the time of the decision."""

    evaluation_id: str
    benchmark_id: str
    benchmark_revision: int
    metrics: dict[MetricName, float | None]


class DecisionLineage(Model):
    """Sources of a decision. They are stored with it, so that later deletions do not remove them.

    The checkpoint and everything before it are None if no model was used.
    """

    action_id: str | None = None
    checkpoint_id: str | None = None
    training_id: str | None = None
    scores: list[LineageScore] = Field(default_factory=list)


class LineageFile(Model):
    """One object version that the model learned from, and the scan that read it."""

    connector_id: str
    file: str
    bucket: str
    key: str
    etag: str
    version_id: str | None
    scan_id: str | None


class LineageReview(Model):
    status: str
    reviewer: str | None = None


class Lineage(DecisionLineage):
    """The whole chain, from the files to the review. A missing link is ``None``."""

    files: list[LineageFile] = Field(default_factory=list)
    data_model_id: str | None = None
    insight_id: str | None = None
    argument_id: str | None = None
    review: LineageReview | None = None
