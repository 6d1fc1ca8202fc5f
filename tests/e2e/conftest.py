"""Fixtures of the deployed app: one local stack for the session, behind the emulated API Gateway.

The stack has its own ports and state directory, so the tests do not change a developer's running stack.
"""

import csv
import io
import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local import launcher, tokens
from infra.local.client import ApiClient, Json
from infra.local.demo_data import DATA_SETS, DataSet
from infra.local.processes import free_port
from infra.local.settings import LocalSettings

TERMINAL = ("succeeded", "failed", "stopped")
# A machine with two busy cores runs the jobs one after the other.
JOB_SECONDS = 240.0

# A test makes the calls that IAM must refuse in a role session with this name.
REFUSED_SESSION = "refused"
# IAM's log messages about expected refusals contain all texts of one of these. The second is a denial by a test's own
# policy. The emulator checks mails against no identity, but the role that invites may only use the sender's.
_EXPECTED_REFUSALS = (
    (f"/{REFUSED_SESSION}'",),
    ("decision='Deny'",),
    ("ses:SendEmail on *", "/inference-local-spaces'"),
)

_numbers = itertools.count(1)


class Stack:
    """A running stack that makes its users."""

    def __init__(self, directory: Path) -> None:
        ports: dict[str, Any] = {
            name: free_port() for name in ("api_port", "aws_port", "sagemaker_port", "inference_port")
        }
        self.settings = LocalSettings(
            directory=directory, stop_grace_seconds=10.0, job_environment={"OMP_NUM_THREADS": "1"}, **ports
        )
        self.launcher = launcher.LocalStack(self.settings)
        # The log lines of calls that IAM refused unexpectedly.
        self.refusals: list[str] = []
        self.outputs = self.launcher.start().outputs

    @property
    def url(self) -> str:
        return launcher.gateway_url(self.settings, self.outputs)

    def user(self, email: str | None = None) -> ApiClient:
        """Returns a client of a signed-in user, by default of a new one."""
        pool, client = self.outputs["UserPoolId"], self.outputs["UserPoolClientId"]
        email = email or f"user-{next(_numbers)}@example.com"
        return ApiClient(self.url, tokens.token(self.settings, email, pool_id=pool, client_id=client))

    def member(self) -> ApiClient:
        """Returns a client of a new user in a new space."""
        user = self.user()
        user.space_id = user.post("/spaces", {"name": f"Space {next(_numbers)}", "description": "of a test"})["id"]
        return user

    def aws(self, service: str) -> Any:
        return self.settings.client(service)

    def invoke(self, function: str, event: Json) -> Json:
        response = self.aws("lambda").invoke(
            FunctionName=f"inference-local-{function}", Payload=json.dumps(event).encode()
        )
        payload = json.loads(response["Payload"].read() or b"null")
        assert "FunctionError" not in response, payload
        return payload  # type: ignore[no-any-return]

    def plan_fault(self, **fault: Any) -> None:
        """Plans a fault of the SageMaker endpoint (infra/local/sagemaker/faults.py)."""
        httpx.post(f"{self.settings.sagemaker_url}/_local/faults", json=fault, trust_env=False).raise_for_status()

    def clear_faults(self) -> None:
        httpx.delete(f"{self.settings.sagemaker_url}/_local/faults", trust_env=False).raise_for_status()

    def stop(self) -> None:
        """Stops the services and keeps the unexpected refusals of IAM."""
        self.launcher.stop()
        log = (self.settings.directory / "logs/emulator.log").read_text()
        self.refusals += [
            line
            for line in log.splitlines()
            if "[iam] refused" in line and not any(all(text in line for text in texts) for texts in _EXPECTED_REFUSALS)
        ]

    def restart(self) -> None:
        """Stops the services and starts them again with their stored state."""
        self.stop()
        self.outputs = self.launcher.start().outputs


class TrainingSpace:
    """A space with uploaded data and a data model."""

    def __init__(self, stack: Stack, api: ApiClient, data_set: DataSet) -> None:
        self.stack = stack
        self.api = api
        self.data_set = data_set
        self.connector_id: str = api.post("/connectors", {"name": "Customers", "type": "aws-s3"})["id"]
        api.upload(self.connector_id, data_set.files())
        self.data_model_id: str = api.post("/data-models", {"name": "Customers"})["id"]

    def connector(self, file: str | None = None, **changes: Any) -> Json:
        """Returns the reference to the data for a training or a benchmark."""
        return {
            "connector_id": self.connector_id,
            "files": [file or self.data_set.training_file],
            "target": self.data_set.target,
            **changes,
        }

    def rows(self, count: int) -> list[dict[str, str]]:
        """Returns benchmark rows as a client sends them."""
        content = self.data_set.files()[self.data_set.benchmark_file].decode()
        return list(itertools.islice(csv.DictReader(io.StringIO(content)), count))

    def benchmark(self) -> Json:
        """Creates a benchmark."""
        created: Json = self.api.post(
            "/benchmarks",
            {
                "name": f"Benchmark {next(_numbers)}",
                "description": "benchmark rows",
                "task": "binary_classification",
                "metrics": ["roc_auc", "ks", "log_loss"],
                "connectors": [self.connector(self.data_set.benchmark_file)],
            },
        )
        return created

    def train(self, **changes: Any) -> Json:
        """Starts a short training."""
        created: Json = self.api.post(
            "/trainings",
            {
                "name": f"Training {next(_numbers)}",
                "architecture": "lightgbm",
                "configuration": {"n_estimators": 30, "ensemble_size": 1},
                "connectors": [self.connector()],
                "data_model_id": self.data_model_id,
                "gpu_count": 0,
                **changes,
            },
        )
        return created

    def train_long(self, **changes: Any) -> Json:
        """Starts a training that runs until it is stopped."""
        slow = {
            "n_estimators": 20_000,
            "early_stopping_rounds": 1000,
            "learning_rate": 0.0001,
            "max_depth": 16,
            "ensemble_size": 20,
        }
        return self.train(configuration=slow, **changes)

    def training(self, training_id: str) -> Json:
        """Reads a training."""
        found: Json = self.api.get(f"/trainings/{training_id}")
        return found

    def wait_for(self, training_id: str, *statuses: str) -> Json:
        """Waits until a training has one of the statuses or a terminal one, and returns it."""
        wanted = {*statuses, *TERMINAL}
        found: Json = self.api.wait(
            f"/trainings/{training_id}", lambda training: training["status"] in wanted, seconds=JOB_SECONDS
        )
        return found


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # nox sends SIGTERM after an interrupt. With this handler the fixture still stops the stack.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    opened = Stack(tmp_path_factory.mktemp("stack"))
    try:
        yield opened
    finally:
        opened.stop()
    assert opened.refusals == []


@pytest.fixture(scope="session")
def space(stack: Stack) -> TrainingSpace:
    german_credit = next(each for each in DATA_SETS if each.name == "german-credit")
    return TrainingSpace(stack, stack.member(), german_credit)


@pytest.fixture
def faults(stack: Stack) -> Iterator[Stack]:
    """Yields the stack, and removes the planned faults afterwards."""
    try:
        yield stack
    finally:
        stack.clear_faults()
