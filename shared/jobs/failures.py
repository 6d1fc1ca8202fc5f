"""Explains to users why a job failed, from the errors of Step Functions and SageMaker."""

import json
import re
from dataclasses import dataclass
from typing import Any

from shared.errors import UNEXPECTED_JOB_ERROR
from shared.models.job_status import JobStatus
from shared.observability import measure

MAX_ERROR_LENGTH = 2000
CAPACITY_ERRORS = ("CapacityError", "InsufficientInstanceCapacity", "InsufficientCapacity", "ResourceLimitExceeded")

# The error of an execution that was stopped on request.
STOPPED_ERROR = "Stopped"
STOPPED_BY_MEMBER = "A member stopped it before there was a model to keep."
_DEFECT = "An error on our side stopped the job. Start it again. If it fails again, send its id to support."
_TIMED_OUT = "The job exceeded its time limit. Start it again with less data or fewer rounds."
_NO_SPOT = "AWS had no spot machine for long enough. Start the job again."
_STOPPED = "The job was stopped outside this API."
# SageMaker wraps the job's text: "AlgorithmError: <text>, exit code: 1".
_EXIT_CODE = re.compile(r",? *exit code: \d+\s*$", re.IGNORECASE)
_ALGORITHM_ERROR = re.compile(r"^AlgorithmError:\s*")
# A library in C++ that gets no memory aborts: 134.
_NO_MEMORY = "it probably ran out of memory"
_KILLED_CODES = {"134": _NO_MEMORY, "137": _NO_MEMORY, "143": "AWS took its machine away"}


@dataclass(frozen=True)
class Failure:
    """The status of a failed or stopped job, and the text for its ``error``.

    ``is_ours`` says that neither the customer's data nor the settings of the job caused the failure.
    """

    status: JobStatus
    error: str
    is_ours: bool = False


def explain(error: str, cause: str) -> Failure:
    """Returns the failure for the ``Error`` and ``Cause`` of a failed execution.

    The cause is a Lambda error (``{"errorMessage", "errorType"}``), SageMaker's description of the job
    (``{"TrainingJobStatus", "FailureReason"}``, or the same of a processing job), or plain text from AWS.
    """
    details = _object(cause)
    if "errorType" in details or "errorMessage" in details:
        names = {error, str(details.get("errorType", "")).rpartition(".")[2]}
        is_outage = "OutageError" in names
        if is_outage or names & {"JobFailedError", "TransientError"}:
            return _failed(str(details.get("errorMessage") or _DEFECT), is_ours=is_outage)
        return _failed(_DEFECT, is_ours=True)
    if "TrainingJobStatus" in details:
        if details["TrainingJobStatus"] == "Stopped":
            why = details.get("SecondaryStatus")
            if why == "MaxWaitTimeExceeded":
                return _failed(_NO_SPOT, is_ours=True)
            return _failed(_TIMED_OUT) if why == "MaxRuntimeExceeded" else Failure(JobStatus.STOPPED, _STOPPED)
        reason = str(details.get("FailureReason") or "")
        text = explain_reason(reason)
        is_meant = bool(_ALGORITHM_ERROR.match(reason)) and text != _DEFECT and UNEXPECTED_JOB_ERROR not in text
        return _failed(text, is_ours=not is_meant)
    if "ProcessingJobStatus" in details:
        if details["ProcessingJobStatus"] == "Stopped":
            return Failure(JobStatus.STOPPED, _STOPPED)
        text = str(details.get("ExitMessage") or "")
        reason = explain_reason(str(details.get("FailureReason") or ""))
        return _failed(text or reason, is_ours=not text or UNEXPECTED_JOB_ERROR in text)
    if error == STOPPED_ERROR:
        return Failure(JobStatus.STOPPED, cause or _STOPPED)
    if error == "JobFailedError":
        return _failed(cause or _DEFECT)
    if "Timeout" in error:
        return _failed(_TIMED_OUT)
    if any(word in error or word in cause for word in CAPACITY_ERRORS):
        return _failed(_without_machine(cause or error), is_ours=True)
    if error.startswith(("SageMaker.", "StepFunctions.")) and cause:
        return _failed(f"AWS refused the job: {cause}", is_ours=True)
    return _failed(_DEFECT, is_ours=True)


def explain_reason(reason: str) -> str:
    """Returns the job's text from SageMaker's ``FailureReason``. Texts that AWS wrote stay unchanged."""
    if any(word in reason for word in CAPACITY_ERRORS):
        return _without_machine(reason)
    if not _ALGORITHM_ERROR.match(reason):
        return reason or _DEFECT
    code = re.search(r"exit code: (\d+)", reason, re.IGNORECASE)
    text = _EXIT_CODE.sub("", _ALGORITHM_ERROR.sub("", reason)).strip()
    # The last line that the job writes to stderr.
    text = text.rpartition("JobFailedError: ")[2].strip()
    if text:
        return text
    killed = _KILLED_CODES.get(code[1]) if code else None
    return f"The job was killed before its end: {killed}. Start it again." if killed else _DEFECT


def count_failed_job(failure: Failure) -> None:
    """Counts a job that failed because of us. An alarm watches the number."""
    if failure.is_ours:
        measure("FailedJobs", [1])


def _without_machine(reason: str) -> str:
    return f"AWS has no machine for the job: {reason}"


def _failed(text: str, *, is_ours: bool = False) -> Failure:
    return Failure(JobStatus.FAILED, text[:MAX_ERROR_LENGTH], is_ours)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
