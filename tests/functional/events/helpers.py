"""Helpers of the tests of events."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import reconcile_jobs
from shared.dynamodb.table import Table
from shared.jobs.store import Jobs
from shared.resources import Resources
from tests.fixtures.clocks import MovableClock
from tests.fixtures.grants import hold_to_grants
from tests.fixtures.sagemaker import FakeSageMaker
from tests.fixtures.trainings import active_uses, space_of

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeStepFunctions:
    """Fake Step Functions, where tests end executions by name."""

    def __init__(self) -> None:
        self.executions: dict[str, dict[str, Any]] = {}
        self.down = False

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> None:  # noqa: N803
        hold_to_grants("stepfunctions", "StartExecution", {"stateMachineArn": stateMachineArn})
        if self.down:
            raise refused("StartExecution", "ServiceUnavailable")
        if name in self.executions and self.executions[name]["status"] != "RUNNING":
            raise refused("StartExecution", "ExecutionAlreadyExists")
        self.executions[name] = {"status": "RUNNING", "input": json.loads(input)}

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803
        hold_to_grants("stepfunctions", "DescribeExecution", {"executionArn": executionArn})
        name = executionArn.rpartition(":")[2]
        if name not in self.executions:
            raise refused("DescribeExecution", "ExecutionDoesNotExist")
        return self.executions[name]

    def stop_execution(self, *, executionArn: str, error: str, cause: str) -> None:  # noqa: N803
        hold_to_grants("stepfunctions", "StopExecution", {"executionArn": executionArn})
        self.describe_execution(executionArn=executionArn).update(status="ABORTED", error=error, cause=cause)

    def end(self, name: str, status: str, error: str = "", cause: Any = "") -> None:
        text = cause if isinstance(cause, str) else json.dumps(cause)
        self.executions[name] = {"status": status, "error": error, "cause": text}


def refused(operation: str, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


@dataclass
class World:
    """A training in Alice's space, with fakes of Step Functions and SageMaker."""

    client: TestClient
    resources: Resources
    table: Table
    steps: FakeStepFunctions
    sagemaker: FakeSageMaker
    training: dict[str, Any]
    clock: MovableClock

    @property
    def id(self) -> str:
        return str(self.training["id"])

    @property
    def job(self) -> str:
        return f"training-{self.id}-1"

    def reconcile(self, after: timedelta = timedelta(0)) -> None:
        self.clock.now += after
        reconcile_jobs(self.resources, 30)

    def get_training(self, **params: Any) -> dict[str, Any]:
        training: dict[str, Any] = self.client.get(f"/trainings/{self.id}", params=params).json()
        return training

    def reference_count(self) -> int:
        return active_uses(self.table, "data_model", space_of(self.client), self.training["data_model_id"])

    def open_jobs(self) -> list[str]:
        return [job.id for job in Jobs(self.table).open_jobs()]


def sagemaker_event(name: str) -> dict[str, Any]:
    return {"source": "aws.sagemaker", "detail": {"TrainingJobName": name, "TrainingJobStatus": "InProgress"}}


def execution_event(name: str) -> dict[str, Any]:
    return {"source": "aws.states", "detail": {"name": name, "status": "FAILED"}}
