import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.failures import MAX_ERROR_LENGTH, Failure, explain, explain_reason
from shared.models.job_status import JobStatus


def sagemaker(reason: str, status: str = "Failed", **more: Any) -> str:
    return json.dumps({"TrainingJobName": "training-1", "TrainingJobStatus": status, "FailureReason": reason, **more})


@pytest.mark.parametrize(
    ("reason", "wanted", "is_ours"),
    [
        ("AlgorithmError: The file is empty., exit code: 1", "The file is empty.", False),
        ("AlgorithmError: JobFailedError: The file is empty.", "The file is empty.", False),
        (
            "AlgorithmError: JobFailedError: The job failed with an unexpected error (KeyError: 'x').",
            "The job failed with an unexpected error (KeyError: 'x').",
            True,
        ),
        (
            "AlgorithmError: , exit code: 137",
            "The job was killed before its end: it probably ran out of memory. Start it again.",
            False,
        ),
        (
            "AlgorithmError: , exit code: 134",
            "The job was killed before its end: it probably ran out of memory. Start it again.",
            False,
        ),
        (
            "AlgorithmError: , exit code: 1",
            "An error on our side stopped the job. Start it again. If it fails again, send its id to support.",
            True,
        ),
        ("ClientError: Data download failed", "ClientError: Data download failed", True),
        (
            "CapacityError: Unable to provision requested ML compute capacity.",
            "AWS has no machine for the job: CapacityError: Unable to provision requested ML compute capacity.",
            True,
        ),
    ],
)
def test_a_failure_reason_becomes_the_message_of_the_job_or_of_aws(reason: str, wanted: str, is_ours: bool) -> None:
    assert explain_reason(reason) == wanted
    assert explain("States.TaskFailed", sagemaker(reason)) == Failure(JobStatus.FAILED, wanted, is_ours)


@pytest.mark.parametrize(
    ("error", "cause", "status", "wanted"),
    [
        ("JobFailedError", '{"errorMessage": "No files.", "errorType": "JobFailedError"}', "failed", "No files."),
        ("Runtime.HandlerError", '{"errorMessage": "No files.", "errorType": "JobFailedError"}', "failed", "No files."),
        ("JobFailedError", "No files.", "failed", "No files."),
        ("TransientError", '{"errorMessage": "Full.", "errorType": "TransientError"}', "failed", "Full."),
        ("OutageError", '{"errorMessage": "No response.", "errorType": "OutageError"}', "failed", "No response."),
        ("KeyError", '{"errorMessage": "\'password\'", "errorType": "KeyError"}', "failed", "error on our side"),
        ("Lambda.Unknown", "The runtime exited.", "failed", "error on our side"),
        ("States.Timeout", "", "failed", "exceeded its time limit"),
        ("States.TaskFailed", sagemaker("", "Stopped", SecondaryStatus="Stopped"), "stopped", "outside this API"),
        (
            "States.TaskFailed",
            sagemaker("", "Stopped", SecondaryStatus="MaxRuntimeExceeded"),
            "failed",
            "exceeded its time limit",
        ),
        ("SageMaker.ResourceLimitExceededException", "The account-level service limit is 0.", "failed", "limit is 0."),
        ("SageMaker.AmazonSageMakerException", "No such role.", "failed", "AWS refused the job: No such role."),
        ("", "", "failed", "error on our side"),
        ("", "[1]", "failed", "error on our side"),
    ],
)
def test_an_error_of_step_functions_becomes_a_message_for_users(
    error: str, cause: str, status: str, wanted: str
) -> None:
    failure = explain(error, cause)
    assert failure.status == status
    assert wanted in failure.error
    assert "password" not in failure.error


@given(st.text(max_size=300), st.one_of(st.text(max_size=3000), st.text(max_size=3000).map(sagemaker)))
def test_any_error_of_aws_becomes_a_message_of_limited_length(error: str, cause: str) -> None:
    failure = explain(error, cause)
    assert failure.status in (JobStatus.FAILED, JobStatus.STOPPED)
    assert 0 < len(failure.error) <= MAX_ERROR_LENGTH


@pytest.mark.parametrize(("error", "is_ours"), [("TransientError", False), ("OutageError", True)])
def test_only_an_outage_of_ours_counts_as_our_failure(error: str, is_ours: bool) -> None:
    assert explain(error, json.dumps({"errorMessage": "Full.", "errorType": error})).is_ours is is_ours


@pytest.mark.parametrize(
    ("job", "wanted"),
    [
        (
            {"ProcessingJobStatus": "Failed", "ExitMessage": "The plan is gone.", "FailureReason": "AlgorithmError: x"},
            Failure(JobStatus.FAILED, "The plan is gone."),
        ),
        (
            {"ProcessingJobStatus": "Failed", "FailureReason": "CapacityError: no machine"},
            Failure(JobStatus.FAILED, "AWS has no machine for the job: CapacityError: no machine", is_ours=True),
        ),
        ({"ProcessingJobStatus": "Stopped"}, Failure(JobStatus.STOPPED, "The job was stopped outside this API.")),
    ],
)
def test_the_failure_of_a_processing_job_is_its_own_text_or_that_of_aws(job: dict[str, str], wanted: Failure) -> None:
    assert explain("States.TaskFailed", json.dumps(job)) == wanted
