"""Log lines of a training's job."""

from pydantic import Field

from shared.models.base import Model, Timestamp


class LogLine(Model):
    at: Timestamp
    message: str


class TrainingLog(Model):
    """Lines in the order in which the job wrote them, the earliest first."""

    data: list[LogLine]
    next: str = Field(description="send it as `after` for the lines that follow, also when there are none yet")
    has_more: bool = Field(description="whether more lines are there already")
