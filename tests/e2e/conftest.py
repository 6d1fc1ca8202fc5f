"""The whole product as deployed: our CDK app on the emulator, reached through the emulated API Gateway.

One stack for the session, on ports and in a directory of its own: a developer's running stack is never touched.
"""

import csv
import io
import itertools
import json
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
# Generous: a machine with two busy cores runs them one after the other.
JOB_SECONDS = 240.0

# The session of a role in which a test does what the role must be refused.
TRESPASSER = "trespasser"
# Further reasons for which IAM refuses a call on purpose: a policy that a test puts there to deny it.
_ON_PURPOSE = (f"/{TRESPASSER}'", "decision='Deny'")

_numbers = itertools.count(1)


class Stack:
    """A running stack, and users of it."""

    def __init__(self, directory: Path) -> None:
        ports: dict[str, Any] = {
            name: free_port() for name in ("api_port", "aws_port", "sagemaker_port", "inference_port")
        }
        self.settings = LocalSettings(
            directory=directory, stop_grace_seconds=10.0, job_environment={"OMP_NUM_THREADS": "1"}, **ports
        )
        self.launcher = launcher.LocalStack(self.settings)
        # Calls of functions that their roles don't grant.
        self.refused: list[str] = []
        self.outputs = self.launcher.start().outputs

    @property
    def url(self) -> str:
        """The emulated API Gateway."""
        return launcher.gateway_url(self.settings, self.outputs)

    def user(self, email: str | None = None) -> ApiClient:
        """A signed-in user; a new one unless named."""
        pool, client = self.outputs["UserPoolId"], self.outputs["UserPoolClientId"]
        email = email or f"user-{next(_numbers)}@example.com"
        return ApiClient(self.url, tokens.token(self.settings, email, pool_id=pool, client_id=client))

    def member(self) -> ApiClient:
        """A new user in a new space."""
        user = self.user()
        user.space_id = user.post("/spaces", {"name": f"Space {next(_numbers)}", "description": "of a test"})["id"]
        return user

    def aws(self, service: str) -> Any:
        """A client of the emulator."""
        return self.settings.client(service)

    def invoke(self, function: str, event: Json) -> Json:
        """Calls a deployed function directly."""
        answer = self.aws("lambda").invoke(
            FunctionName=f"inference-local-{function}", Payload=json.dumps(event).encode()
        )
        payload = json.loads(answer["Payload"].read() or b"null")
        assert "FunctionError" not in answer, payload
        return payload  # type: ignore[no-any-return]

    def plan_fault(self, **fault: Any) -> None:
        """Makes something go wrong in SageMaker (infra/local/sagemaker.py)."""
        httpx.post(f"{self.settings.sagemaker_url}/_local/faults", json=fault, trust_env=False).raise_for_status()

    def clear_faults(self) -> None:
        """Lets all go well again."""
        httpx.delete(f"{self.settings.sagemaker_url}/_local/faults", trust_env=False).raise_for_status()

    def stop(self) -> None:
        """Stops everything, and notes what IAM has refused meanwhile."""
        self.launcher.stop()
        log = (self.settings.directory / "logs/emulator.log").read_text()
        self.refused += [
            line for line in log.splitlines() if "[iam] refused" in line and not any(why in line for why in _ON_PURPOSE)
        ]

    def restart(self) -> None:
        """Stops everything and starts it from what is on disk."""
        self.stop()
        self.outputs = self.launcher.start().outputs


class Lab:
    """A space with uploaded data, ready to train."""

    def __init__(self, stack: Stack, api: ApiClient, data_set: DataSet) -> None:
        self.stack = stack
        self.api = api
        self.data_set = data_set
        self.connector_id: str = api.post("/connectors", {"name": "Customers", "type": "aws-s3"})["id"]
        api.upload(self.connector_id, data_set.files())
        self.data_model_id: str = api.post("/data-models", {"name": "Customers"})["id"]

    def connector(self, file: str | None = None, **changes: Any) -> Json:
        """A training's or a benchmark's reference to the data."""
        return {
            "connector_id": self.connector_id,
            "files": [file or self.data_set.training_file],
            "target": self.data_set.target,
            **changes,
        }

    def rows(self, count: int) -> list[dict[str, str]]:
        """Held-out rows, as a client would send them."""
        content = self.data_set.files()[self.data_set.benchmark_file].decode()
        return list(itertools.islice(csv.DictReader(io.StringIO(content)), count))

    def benchmark(self) -> Json:
        """A benchmark on the held-out rows."""
        created: Json = self.api.post(
            "/benchmarks",
            {
                "name": f"Benchmark {next(_numbers)}",
                "description": "held-out rows",
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
        """The training as it is now."""
        found: Json = self.api.get(f"/trainings/{training_id}")
        return found

    def wait_for(self, training_id: str, *statuses: str) -> Json:
        """The training once it has one of the statuses, or any terminal one."""
        wanted = {*statuses, *TERMINAL}
        found: Json = self.api.wait(
            f"/trainings/{training_id}", lambda training: training["status"] in wanted, seconds=JOB_SECONDS
        )
        return found


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    opened = Stack(tmp_path_factory.mktemp("stack"))
    try:
        yield opened
    finally:
        opened.stop()
    assert opened.refused == []


@pytest.fixture(scope="session")
def lab(stack: Stack) -> Lab:
    german_credit = next(each for each in DATA_SETS if each.name == "german-credit")
    return Lab(stack, stack.member(), german_credit)


@pytest.fixture
def faults(stack: Stack) -> Iterator[Stack]:
    """The stack, for tests that let things go wrong."""
    try:
        yield stack
    finally:
        stack.clear_faults()
