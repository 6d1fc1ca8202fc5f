"""Status of a training, an evaluation or a scan."""

from enum import StrEnum


class JobStatus(StrEnum):
    """Statuses only move forward; the last three are final."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        return not _NEXT[self]

    def may_become(self, status: "JobStatus") -> bool:
        """Returns whether ``status`` may follow this one."""
        return status in _NEXT[self]


_FINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED})
_NEXT = {
    JobStatus.PENDING: _FINAL | {JobStatus.QUEUED, JobStatus.RUNNING},
    JobStatus.QUEUED: _FINAL | {JobStatus.RUNNING},
    JobStatus.RUNNING: _FINAL,
    **dict.fromkeys(_FINAL, frozenset[JobStatus]()),
}
