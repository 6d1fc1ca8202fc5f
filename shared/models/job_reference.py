"""References to jobs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class JobKind(StrEnum):
    """Kind of a job, and of its entity in the table."""

    TRAINING = "training"
    EVALUATION = "evaluation"
    SCAN = "scan"
    PREDICTION = "prediction"
    DECISION_RUN = "decision_run"

    @property
    def runs_on_sagemaker(self) -> bool:
        """Returns whether its workflow always starts a SageMaker training job."""
        return self in (JobKind.TRAINING, JobKind.EVALUATION)

    @property
    def longest(self) -> timedelta:
        """Returns the time after which the state machine gives up."""
        return timedelta(days=1) if self is JobKind.SCAN else timedelta(days=7)


@dataclass(frozen=True)
class JobReference:
    """Reference to a job by the id of its entity; ``parent_id`` is the connector of a scan.

    A job that ``has_ended`` and is open has due evaluations.
    """

    kind: JobKind
    space_id: str
    id: str
    opened_at: datetime
    parent_id: str | None = None
    has_ended: bool = False

    @property
    def execution_input(self) -> dict[str, str]:
        """Returns the input of its state machine."""
        parent = {"connector_id": self.parent_id} if self.parent_id else {}
        return {"space_id": self.space_id, **parent, f"{self.kind}_id": self.id}
