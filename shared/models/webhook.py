"""Reports of running jobs and of other services."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from shared.models.base import Identifier, Model, Timestamp
from shared.models.job import JobEstimate, SeriesPoint
from shared.models.training import MAX_METRIC_POINTS

Word = Annotated[str, StringConstraints(max_length=200)]


class WebhookMessage(Model):
    """A status update about one entity, named by ``id``; ``payload`` depends on the type and the event."""

    event: Word | None = Field(default=None, description="such as created, updated, deleted or progress")
    id: Identifier
    name: Word | None = None
    payload: Annotated[dict[str, Any], Field(max_length=1000)] = Field(default_factory=dict)
    status: Word | None = None
    timestamp: Timestamp | None = Field(default=None, description="time of the status; else the time of sending")
    type: Word | None = Field(default=None, description="such as training, evaluation or aws-s3")


class Progress(Model):
    """The payload of a training's progress: the whole series so far, and when the job expects to be done."""

    metrics: list[SeriesPoint] | None = Field(default=None, max_length=MAX_METRIC_POINTS)
    estimate: JobEstimate | None = None


class WebhookReceipt(Model):
    """The id of the entity that the message was about."""

    id: str
