"""A scenario of prediction and decision runs side by side, while calls to AWS fail and customers are erased."""

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import polars as pl
from moto.stepfunctions.models import stepfunctions_backends

from functions.events.reconcile_jobs import ReconciliationError, clean_up, reconcile_jobs
from functions.workflows.decision_run.deciding import decide_parts
from functions.workflows.decision_run.fail_decision_run import fail_decision_run
from functions.workflows.decision_run.finish_decision_run import finish_decision_run
from functions.workflows.decision_run.prepare_decision_run import prepare_decision_run
from functions.workflows.prediction.fail_prediction import fail_prediction
from functions.workflows.prediction.finish_prediction import finish_prediction
from functions.workflows.prediction.prepare_prediction import prepare_prediction
from functions.workflows.prediction.scoring import score_parts
from shared.connectors.scans import OWN_FAILURES
from shared.errors import ApiError, JobFailedError
from shared.models.connector import managed_prefix
from shared.models.job import JobFile
from tests.faults.aftermath import problems_afterwards, survives
from tests.faults.boundary import DEATHS, KILLS, WITHOUT_KILLS, seeded
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.killed_workers import Outcome
from tests.fixtures.aws import ACCOUNT, BUCKET, REGION
from tests.fixtures.connectors import Lab
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.trained_models import customers, packed, train_model

STEPS, ROWS, PART_ROWS = 160, 12, 5
ATTEMPTS = 3
FOLDERS = ("out", "out/a", "out/a/b", "other")


class Kind(NamedTuple):
    path: str
    machine: str
    identity: str
    prepare: Callable[..., Any]
    work: Callable[..., Any]
    finish: Callable[..., Any]
    fail: Callable[..., Any]


KINDS = (
    Kind(
        "/predictions",
        "prediction",
        "prediction_id",
        prepare_prediction,
        score_parts,
        finish_prediction,
        fail_prediction,
    ),
    Kind(
        "/decision-runs",
        "decision-run",
        "decision_run_id",
        prepare_decision_run,
        decide_parts,
        finish_decision_run,
        fail_decision_run,
    ),
)


class Execution:
    """An execution of a run's state machine, which goes on by one step at a time."""

    def __init__(self, scene: "Scene", kind: Kind, record: Any) -> None:
        self.id, self.kind = str(record.name), kind
        self._scene, self._record = scene, record
        self._event: dict[str, Any] = {"space_id": scene.lab.space_id, kind.identity: self.id}
        self._failure: dict[str, str] = {}
        self._tasks: list[tuple[dict[str, Any], int]] = []
        self._state, self._attempts = "prepare", 0

    @property
    def is_alive(self) -> bool:
        return bool(self._record.status == "RUNNING")

    def step(self) -> None:
        if self.is_alive:
            getattr(self, f"_{self._state}")()

    def _prepare(self) -> None:
        if prepared := self._call(self.kind.prepare, self._event):
            content = self._scene.lab.s3.get_object(Bucket=BUCKET, Key=prepared["tasks_key"])["Body"].read()
            self._tasks = [({**prepared, "task": task}, 0) for task in json.loads(content)]
            self._state, self._attempts = "work", 0

    def _work(self) -> None:
        """Works on one of the tasks. The map tolerates one that fails three times."""
        if not self._tasks:
            self._state, self._attempts = "finish", 0
            return
        task, attempts = self._tasks.pop(self._scene.dice.randrange(len(self._tasks)))
        try:
            self.kind.work(self._scene.worker, task)
        except (*DEATHS, *OWN_FAILURES, ApiError, JobFailedError):
            if attempts + 1 < ATTEMPTS:
                self._tasks.append((task, attempts + 1))

    def _finish(self) -> None:
        if self._call(self.kind.finish, self._event) is not None:
            self._record.status = "SUCCEEDED"

    def _fail(self) -> None:
        if self._call(self.kind.fail, {**self._event, **self._failure}) is not None:
            self._record.status, self._record.error, self._record.cause = "FAILED", "Ended", "See the record."

    def _call(self, step: Callable[..., Any], event: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the output of a step, or ``None`` if it failed, and is repeated or followed by the failing step."""
        try:
            output: dict[str, Any] = step(self._scene.worker, dict(event))
        except JobFailedError as error:
            cause = json.dumps({"errorType": "JobFailedError", "errorMessage": str(error)})
            self._give_up({"error": "JobFailedError", "cause": cause})
        except (*DEATHS, *OWN_FAILURES, ApiError):
            self._attempts += 1
            if self._attempts >= ATTEMPTS:
                self._give_up({"error": "Lambda.Unknown", "cause": ""})
        else:
            return output
        return None

    def _give_up(self, failure: dict[str, str]) -> None:
        if self._state == "fail":
            # Its record has not ended. The reconciler ends it.
            self._record.status, self._record.error, self._record.cause = "FAILED", "Lambda.Unknown", ""
        self._state, self._attempts, self._failure = "fail", 0, failure


class Scene:
    """A space whose customers are scored and decided by runs of both kinds."""

    def __init__(self, platform: EmulatedPlatform, seed: int) -> None:
        self.platform, self.dice, self.worker = platform, seeded(seed), platform.worker()
        self.lab = Lab(platform.owner(self.worker), self.worker)
        self.executions: dict[str, Execution] = {}
        # When each customer was erased, and which runs the answers named since.
        self.erased: dict[str, tuple[datetime, set[str]]] = {}
        self._source, self._target = self.lab.connector(name="In"), self.lab.connector(name="Out")
        self._checkpoint = self._add_checkpoint()
        offer = {"name": "Card", "description": "", "priority": "high", "type": "offer", "channel": "email"}
        self.lab.client.post("/actions", json={**offer, "status": "active"}).raise_for_status()
        for number, name in enumerate("ab"):
            table = customers(ROWS, number).drop("bought").with_row_index("customer_id", 1 + number * ROWS)
            self.lab.deliver(self.lab.put(self._source, f"{name}.csv", table.write_csv().encode()))
            self.lab.work(self._source)

    def _add_checkpoint(self) -> str:
        # A real one is beside its training, which is not there.
        key = f"{managed_prefix(self.lab.space_id, self.lab.connector(name='Models'))}model.tar.gz"
        stored = self.lab.s3.put_object(Bucket=BUCKET, Key=key, Body=model())
        artifact = JobFile(bucket=BUCKET, key=key, etag=stored["ETag"].strip('"'), size_bytes=len(model()))
        return add_checkpoint(self.worker.table, self.lab.space_id, artifact=artifact).id

    def act(self) -> None:
        """Lets something happen, mostly while calls to AWS fail."""
        actions = [self._go_on] * 14 + [self._start] * 3 + [self._post] * 4 + [self._erase, self._reconcile]
        with self.platform.boundary.failing(*WITHOUT_KILLS, *KILLS, rate=self.dice.choice((0, 0, 0.02, 0.1, 0.4))):
            self.dice.choice(actions)()
        self._discover()
        self.platform.elapsed += timedelta(seconds=self.dice.uniform(0, 60))

    def finish(self) -> None:
        """Lets all executions end without faults."""
        for _ in range(200):
            alive = [each for each in self.executions.values() if each.is_alive]
            for execution in alive:
                execution.step()
            if not alive:
                return

    def problems(self) -> list[str]:
        """Finds erased customers in outputs that no answer has named."""
        broken = []
        prefix = f"spaces/{self.lab.space_id}/connectors/{self._target}/"
        outputs = {
            (run["output"] or {}).get("folder"): run
            for kind in KINDS
            for run in self.lab.client.get(kind.path, params={"limit": 100}).json()["data"]
            if run["status"] == "succeeded"
        }
        for found in self.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", []):
            if not found["Key"].endswith(".parquet"):
                continue
            run = outputs[found["Key"].removeprefix(prefix).rpartition("/")[0]]
            content = self.lab.s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read()
            for key in pl.read_parquet(io.BytesIO(content))["client_key"]:
                erased_at, named = self.erased.get(key, (None, set[str]()))
                began = datetime.fromisoformat(run["created_at"])
                if erased_at is not None and began < erased_at and run["id"] not in named:
                    broken.append(f"the customer {key} was erased at {erased_at}, and is in the output of {run['id']}")
        return broken

    def _go_on(self) -> None:
        if alive := [each for each in self.executions.values() if each.is_alive]:
            self.dice.choice(alive).step()

    def _start(self) -> None:
        kind, is_dry = self.dice.choice(KINDS), self.dice.random() < 0.2
        output = {"connector_id": self._target, "folder": self.dice.choice((*FOLDERS, None, None, None))}
        body: dict[str, Any] = {"connector_id": self._source, "output": output}
        if kind.machine == "prediction":
            body["checkpoint_id"] = self._checkpoint
        elif is_dry:
            body |= {"dry_run": True, "output": None}
        survives(lambda: self.lab.client.post(kind.path, json=body))

    def _post(self) -> None:
        """Stops, restarts or cancels a run."""
        if self.executions:
            verb = self.dice.choice(("stop", "stop", "restart", "restart", "cancel"))
            wanted = [each for each in self.executions.values() if each.is_alive == (verb == "stop")]
            execution = self.dice.choice(wanted or list(self.executions.values()))
            path = f"{execution.kind.path}/{execution.id}/{verb}"
            survives(lambda: self.lab.client.post(path))

    def _erase(self) -> None:
        key, now = str(self.dice.randrange(1, 2 * ROWS + 1)), self.platform.now()
        answers: list[Any] = []
        survives(lambda: answers.append(self.lab.client.delete(f"/clients/{key}")))
        if answers and answers[0].status_code == 200:
            _, named = self.erased.get(key, (now, set[str]()))
            self.erased[key] = now, named | {each["run_id"] for each in answers[0].json()["outputs"]}

    def _reconcile(self) -> None:
        with suppress(*DEATHS, *OWN_FAILURES, ReconciliationError):
            reconcile_jobs(self.worker, 60)
        with suppress(*DEATHS, *OWN_FAILURES):
            clean_up(self.worker)
        self.platform.elapsed += timedelta(minutes=self.dice.choice((1, 8)))

    def _discover(self) -> None:
        """Finds executions whose requests may have got no answer."""
        machines = stepfunctions_backends[ACCOUNT][REGION].state_machines
        for kind in KINDS:
            for machine in machines:
                for record in machine.executions if machine.arn.endswith(f"-{kind.machine}") else ():
                    if record.name not in self.executions:
                        self.executions[record.name] = Execution(self, kind, record)


@cache
def model() -> bytes:
    """Returns the archive of a small model."""
    with tempfile.TemporaryDirectory() as folder:
        return packed(train_model(Path(folder), "lightgbm"))


def batch_runs(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Runs start, stop, go on and are cancelled side by side, some in each other's folders, with faults in between."""
    scene = Scene(platform, seed)
    with ExitStack() as stack:
        for group in ("predictions", "decision_runs"):
            stack.enter_context(patch(f"functions.{group}.service.PART_ROWS", PART_ROWS))
        for _ in range(STEPS):
            scene.act()
    scene.finish()
    broken = scene.problems()
    done = sum(
        run["status"] == "succeeded"
        for kind in KINDS
        for run in scene.lab.client.get(kind.path, params={"limit": 100}).json()["data"]
    )
    broken += problems_afterwards(platform, scene.worker, scene.dice)
    return f"{done} of {len(scene.executions)} runs succeeded, {len(scene.erased)} customers were erased", broken
