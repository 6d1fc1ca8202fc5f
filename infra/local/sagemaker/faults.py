"""Faults that tests plan for training jobs."""

import threading
from dataclasses import dataclass
from enum import StrEnum

from infra.local.sagemaker.job import EmulatedTrainingJob


class FaultKind(StrEnum):
    """The kinds of faults.

    ``capacity``: the job fails because no instance is available. ``limit`` and ``throttle``: CreateTrainingJob is
    refused. ``interrupt``: a spot job loses its instance after its next checkpoint. ``kill``: the process of the job is
    killed, as when memory runs out.
    """

    CAPACITY = "capacity"
    LIMIT = "limit"
    THROTTLE = "throttle"
    INTERRUPT = "interrupt"
    KILL = "kill"


@dataclass
class Fault:
    """A fault of the next ``count`` jobs with this name prefix and instance type."""

    kind: FaultKind
    job_name_prefix: str = ""
    instance_type: str | None = None
    count: int = 1

    def applies_to(self, kind: FaultKind, job: EmulatedTrainingJob) -> bool:
        return (
            self.kind is kind
            and self.count > 0
            and job.name.startswith(self.job_name_prefix)
            and self.instance_type in (None, job.instance_type)
        )


class PlannedFaults:
    """The faults that are planned."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, kind: FaultKind, job: EmulatedTrainingJob) -> bool:
        """Returns whether a fault of this kind applies to the job, and counts it as used."""
        with self._lock:
            for fault in self._faults:
                if fault.applies_to(kind, job):
                    fault.count -= 1
                    return True
        return False
