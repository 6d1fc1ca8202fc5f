"""Finds a machine for a job, and decides what follows when AWS refuses its SageMaker job or the job fails.

Before each decision AWS is asked for the job by its name, because the response to a request may be lost: a job that
exists is adopted after every kind of error. A job uses its number up, a refused request does not.

- AWS has no instance free: two jobs for each instance type, with a pause before each.
- The account's quota is in use: the other instance types, then waiting, for up to a day, in the order of the requests.
- The quota is 0: the next instance type.
- No spot instance was free for the longest time: on demand. The job continues from its last saved models.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from shared.aws.training_jobs import SageMakerJobs, SageMakerJobStatus
from shared.jobs.failures import CAPACITY_ERRORS, explain
from shared.jobs.store import Jobs
from shared.models.base import Timestamp
from shared.resources import Resources

JOBS_PER_INSTANCE_TYPE = 2
# As long as a job may run that uses the quota.
LONGEST_WAIT = timedelta(days=1)
# Pauses grow, because an execution has at most 25,000 events. The state machine defines the unit.
PAUSE_GROWTH = 1.5
LONGEST_PAUSE_FOR_QUOTA = 2.0
LONGEST_PAUSE_FOR_JOB = 5.0
# A job that does not ask again within this time has lost its place in the line.
PLACE = timedelta(minutes=15)
# A request for a machine takes less. The next in line does not wait longer for a job that has got its machine.
TURN = timedelta(seconds=30)
_QUOTA_OF_NONE = re.compile(r"\bis 0 Instances\b")
_ENDS = ("TrainingJobStatus", "SecondaryStatus", "FailureReason")


class MachineSearch(BaseModel):
    """State of a search, which the state machine keeps from one decision to the next."""

    number: int = 1
    instance_type: str = ""
    spot: bool = False
    # Whether a job with this number may exist.
    is_requested: bool = False
    failed_jobs: dict[str, int] = Field(default_factory=dict)
    # Instance types whose quota is in use, since the last pause.
    refused: list[str] = Field(default_factory=list)
    waiting_since: Timestamp | None = None
    pause: float = 0
    error: str = ""
    cause: str = ""


@dataclass(frozen=True)
class NextStep:
    """What the state machine does next: ``run``, ``wait``, ``register`` or ``fail``. ``waiting`` is for the owner."""

    next: str
    search: MachineSearch
    values: Mapping[str, Any]
    waiting: str | None = None

    def output(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the output of the step: the ids of its input, and the decision."""
        ids = {name: value for name, value in event.items() if name.endswith("_id")}
        return {**ids, **self.values, "next": self.next, "search": self.search.model_dump(mode="json")}


def find_machine(
    resources: Resources, job_id: str, event: Mapping[str, Any], *, keeps_stopped: bool = False
) -> NextStep:
    """Takes the job's ``plan``, the last ``search``, and ``error`` and ``cause`` of the last request, if it failed.

    With ``keeps_stopped``, what a stopped job has left is registered, too.
    """
    return _Finder(resources, job_id, event, keeps_stopped=keeps_stopped).decide()


class _Finder:
    def __init__(self, resources: Resources, job_id: str, event: Mapping[str, Any], *, keeps_stopped: bool) -> None:
        self._keeps_stopped = keeps_stopped
        self._plan = event["plan"]
        self._search = MachineSearch.model_validate(event["search"] or {"spot": self._plan["spot"]})
        self._error, self._cause = str(event.get("error") or ""), str(event.get("cause") or "")
        self._job_id = job_id
        self._sagemaker = SageMakerJobs(resources.sagemaker)
        self._jobs = Jobs(resources.table, resources.clock)
        self._clock = resources.clock

    def decide(self) -> NextStep:
        search = self._search
        if not search.is_requested:
            return self._next_request()
        description = self._description()
        if description is None:
            return self._after_refusal()
        status = SageMakerJobStatus(description["TrainingJobStatus"])
        if status is SageMakerJobStatus.COMPLETED:
            return NextStep("register", search, _result(description, self._plan))
        if not status.is_over:
            return self._wait(None, LONGEST_PAUSE_FOR_JOB)
        is_kept = self._keeps_stopped and not self._lacked_spot(description)
        if is_kept and status is SageMakerJobStatus.STOPPED and (found := self._left_by_stopped()):
            return NextStep("register", search, found)
        search.number += 1
        search.is_requested, search.waiting_since = False, None
        return self._after_end(description)

    def _description(self) -> Mapping[str, Any] | None:
        """Returns AWS's description of the job: the cause of its failure, or else what AWS says now."""
        try:
            cause = json.loads(self._cause)
        except ValueError:
            cause = None
        if isinstance(cause, dict) and "TrainingJobStatus" in cause:
            return cause
        return self._sagemaker.describe(self._name())

    def _left_by_stopped(self) -> Mapping[str, Any] | None:
        """Returns the same as a job that has ended well, and how it ended. ``None`` if it left nothing.

        When AWS stops a job, it packs the folder of models as it is.
        """
        description = self._sagemaker.describe(self._name())
        if description is None or not description.get("ModelArtifacts", {}).get("S3ModelArtifacts"):
            return None
        failure = explain("", json.dumps(_selected(description)))
        return {**_result(description, self._plan), "stopped": {"status": failure.status, "error": failure.error}}

    def _after_end(self, description: Mapping[str, Any]) -> NextStep:
        search = self._search
        reason = str(description.get("FailureReason") or "")
        search.error, search.cause = self._error or "States.TaskFailed", json.dumps(_selected(description))
        if any(word in reason for word in CAPACITY_ERRORS):
            search.failed_jobs[search.instance_type] = search.failed_jobs.get(search.instance_type, 0) + 1
            if self._types():
                waiting = f"Waiting for a machine: AWS has no {search.instance_type} free now."
                return self._wait(waiting, pause=1)
            return self._next_request()
        if self._lacked_spot(description):
            self._leave_spot()
            return self._next_request()
        return self._fail()

    def _lacked_spot(self, description: Mapping[str, Any]) -> bool:
        return self._search.spot and description.get("SecondaryStatus") == "MaxWaitTimeExceeded"

    def _after_refusal(self) -> NextStep:
        search = self._search
        search.is_requested = False
        search.error, search.cause = self._error, self._cause
        if not any(word in self._error or word in self._cause for word in CAPACITY_ERRORS):
            return self._fail()
        if _QUOTA_OF_NONE.search(self._cause):
            search.failed_jobs[search.instance_type] = JOBS_PER_INSTANCE_TYPE
        else:
            search.refused.append(search.instance_type)
        return self._next_request()

    def _next_request(self) -> NextStep:
        """Requests the next instance type for which nobody else is first, or waits for one."""
        search = self._search
        if not self._types():
            if not search.spot:
                return self._fail()
            self._leave_spot()
        wanted = self._jobs.wanted_before(self._job_id)
        free = [each for each in self._types() if each not in search.refused and self._machine(each) not in wanted]
        if not free:
            return self._wait_in_line()
        if search.waiting_since:
            self._jobs.wait_in_line(self._job_id, map(self._machine, self._types()), self._clock() + TURN)
        search.instance_type, search.is_requested = free[0], True
        return NextStep("run", search, {"job_name": self._name()})

    def _wait_in_line(self) -> NextStep:
        search, now = self._search, self._clock()
        search.waiting_since = search.waiting_since or now
        hours = round(LONGEST_WAIT / timedelta(hours=1))
        if now - search.waiting_since > LONGEST_WAIT:
            reason = search.cause or "the machines that AWS allows were in use by jobs that were requested before"
            search.error, search.cause = search.error or CAPACITY_ERRORS[-1], f"not within {hours} hours: {reason}"
            return self._fail()
        search.refused = []
        types = self._types()
        self._jobs.wait_in_line(self._job_id, map(self._machine, types), now + PLACE)
        waiting = (
            f"Waiting for a machine since {search.waiting_since:%Y-%m-%d %H:%M} UTC, for at most {hours} hours: as "
            f"many {' and '.join(types)} as AWS allows here are in use. Jobs get machines in the order of their "
            "requests."
        )
        return self._wait(waiting, LONGEST_PAUSE_FOR_QUOTA)

    def _wait(self, waiting: str | None, longest: float = 1, *, pause: float | None = None) -> NextStep:
        search = self._search
        search.pause = pause or min(longest, max(1, search.pause * PAUSE_GROWTH))
        return NextStep("wait", search, {"pause": search.pause}, waiting)

    def _fail(self) -> NextStep:
        return NextStep("fail", self._search, {"error": self._search.error, "cause": self._search.cause})

    def _leave_spot(self) -> None:
        search = self._search
        search.spot, search.failed_jobs, search.refused = False, {}, []

    def _types(self) -> list[str]:
        """Returns the instance types that are left to try, the preferred one first."""
        failed = self._search.failed_jobs
        return [each for each in self._plan["instance_types"] if failed.get(each, 0) < JOBS_PER_INSTANCE_TYPE]

    def _machine(self, instance_type: str) -> str:
        """Returns the name of a quota."""
        return f"{instance_type} spot" if self._search.spot else instance_type

    def _name(self) -> str:
        return f"{self._plan['job_name_prefix']}-{self._search.number}"


def _selected(description: Mapping[str, Any]) -> dict[str, Any]:
    return {name: description[name] for name in _ENDS if name in description}


def _result(description: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the same as the state that runs a job."""
    return {
        "job_name": description["TrainingJobName"],
        "output_uri": plan["output_uri"],
        "model_uri": description["ModelArtifacts"]["S3ModelArtifacts"],
        "instance_type": description["ResourceConfig"]["InstanceType"],
        "training_seconds": description.get("TrainingTimeInSeconds"),
        "billable_seconds": description.get("BillableTimeInSeconds"),
    }
