"""Executions of a state machine, each named by the entity that it works for."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


class ExecutionStatus(StrEnum):
    RUNNING = "RUNNING"
    PENDING_REDRIVE = "PENDING_REDRIVE"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    ABORTED = "ABORTED"

    @property
    def is_over(self) -> bool:
        return self not in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING_REDRIVE)


@dataclass(frozen=True)
class Execution:
    """State of an execution; ``error`` and ``cause`` are texts of Step Functions."""

    status: ExecutionStatus
    error: str = ""
    cause: str = ""


class Executions:
    """The executions of one state machine."""

    def __init__(self, client: "SFNClient", state_machine_arn: str) -> None:
        self._client = client
        self._state_machine_arn = state_machine_arn

    def start(self, name: str, values: dict[str, str]) -> None:
        """Starts the execution of that name, unless there has been one."""
        try:
            self._client.start_execution(stateMachineArn=self._state_machine_arn, name=name, input=json.dumps(values))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
                raise

    def stop(self, name: str, reason: str) -> None:
        """Aborts the execution; one that is over, or never was, is left as it is."""
        try:
            self._client.stop_execution(executionArn=self._arn(name), error="Stopped", cause=reason)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise

    def describe(self, name: str) -> Execution | None:
        """Returns the execution, or ``None`` if the name is unknown. AWS forgets executions after 90 days."""
        try:
            found = self._client.describe_execution(executionArn=self._arn(name))
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
                return None
            raise
        return Execution(ExecutionStatus(found["status"]), found.get("error", ""), found.get("cause", ""))

    def _arn(self, name: str) -> str:
        return f"{self._state_machine_arn.replace(':stateMachine:', ':execution:')}:{name}"
