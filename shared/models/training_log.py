"""Log lines of a training's job."""

from pydantic import Field

from shared.models.base import Model, Timestamp


class LogLine(Model):
    at: Timestamp
    machine: str = Field(description="algo-1 and so on: one for each instance of the job")
    message: str


class TrainingLog(Model):
    """Lines in the order in which each machine wrote them, the earliest first."""

    data: list[LogLine]
    next: str = Field(description="send it as `after` for the lines that follow, also when there are none yet")
    has_more: bool = Field(description="whether more lines are there already")
