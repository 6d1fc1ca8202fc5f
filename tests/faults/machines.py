"""A scenario of trainings that compete for few machines, while calls to AWS fail and their space is deleted."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.stepfunctions.models import stepfunctions_backends

from functions.events.job_state_changed import job_state_changed
from functions.events.reconcile_jobs import ReconciliationError, reconcile_jobs
from functions.workflows.machines import JOBS_PER_INSTANCE_TYPE, PLACE
from functions.workflows.training.check_training import check_training
from functions.workflows.training.create_evaluation import create_evaluation
from functions.workflows.training.fail_training import fail_training
from functions.workflows.training.find_training_machine import find_training_machine
from functions.workflows.training.register_checkpoints import register_checkpoints
from shared.connectors.scans import OWN_FAILURES
from shared.errors import ApiError, JobFailedError
from tests.faults.aftermath import problems_afterwards
from tests.faults.boundary import DEATHS, KILLS, WITHOUT_KILLS, seeded
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.killed_workers import Outcome
from tests.faults.sagemaker_account import ENDED, Job, SageMakerAccount
from tests.fixtures.aws import REGION
from tests.fixtures.training_workflow import World as TrainingWorld
from tests.fixtures.trainings import add_benchmark, space_of, training_request

QUOTAS = {"ml.m5.2xlarge": 1, "ml.m5.4xlarge": 1}
STEPS = 180
ACCOUNT = "123456789012"
# As in the state machine.
STEP_ATTEMPTS, REQUEST_ATTEMPTS = 3, 6
NAMED = ("ResourceInUse", "ResourceLimitExceeded")
# The second one if the space was restored before anybody looked. The emulated Step Functions does not tell the cause.
SPACE_DELETED = ("Its space was deleted.", "Its workflow was stopped from outside.")
DATA, CAPACITY = "The file is empty.", "CapacityError: Unable to provision requested ML compute capacity."
ENDS: tuple[dict[str, str], ...] = (
    {"status": "Completed"},
    {"status": "Completed"},
    {"status": "Failed", "FailureReason": f"AlgorithmError: {DATA}, exit code: 1"},
    {"status": "Failed", "FailureReason": CAPACITY},
    {"status": "Stopped", "SecondaryStatus": "MaxWaitTimeExceeded"},
)


class Execution:
    """An execution of a training's state machine, which goes on by one state at a time."""

    def __init__(self, scene: "Scene", training: TrainingWorld, *, spot: bool) -> None:
        self.id = str(training.training["id"])
        self.is_broken = self.is_deleted = self.is_in_deleted_space = False
        self.search: dict[str, Any] = {}
        self.state = "find"
        self.asked_at: datetime | None = None
        self._scene, self._training = scene, training
        self._plan = {**check_training(scene.worker, training.event), "spot": spot}
        self._event: dict[str, Any] = training.event
        self._attempts = 0
        self._due_at: datetime | None = None

    @property
    def is_alive(self) -> bool:
        return bool(self._record.status == "RUNNING")

    @cached_property
    def _record(self) -> Any:
        """Returns the execution in the emulated Step Functions."""
        machines = stepfunctions_backends[ACCOUNT][REGION].state_machines
        return next(each for machine in machines for each in machine.executions if each.name == self.id)

    @property
    def machines(self) -> set[tuple[str, bool]]:
        """Returns the machines that the training waits for."""
        failed = self.search["failed_jobs"]
        types = [each for each in self._plan["instance_types"] if failed.get(each, 0) < JOBS_PER_INSTANCE_TYPE]
        return {(each, self.search["spot"]) for each in types}

    @property
    def is_in_line(self) -> bool:
        is_waiting = self.state == "wait" and bool(self.search["waiting_since"]) and not self.search["is_requested"]
        return is_waiting and self.asked_at is not None and self._scene.platform.now() - self.asked_at < PLACE

    def step(self) -> None:
        if self.is_alive:
            getattr(self, f"_{self.state}")()

    def _find(self) -> None:
        event = {**self._event, "plan": self._plan, "search": self.search}
        output = self._call(find_training_machine, event)
        if output is None:
            return
        self._event, self.search, self.asked_at = output, output["search"], self._scene.platform.now()
        states = {"run": "create", "wait": "wait", "register": "register", "fail": "fail"}
        self._go(states[output["next"]])
        if self.state == "wait":
            minutes = output["pause"] * self._scene.dice.uniform(0.5, 1.5)
            self._due_at = self.asked_at + timedelta(minutes=minutes)
        if self.state == "create":
            self._scene.check_order(self, (self.search["instance_type"], self.search["spot"]))

    def _wait(self) -> None:
        if self._due_at is None or self._scene.platform.now() >= self._due_at:
            self._event = self._training.event
            self._go("find")

    def _create(self) -> None:
        # The request is on its way while others go on.
        self._scene.in_between()
        request = {
            "TrainingJobName": self._event["job_name"],
            "AlgorithmSpecification": {"TrainingImage": self._plan["image_uri"], "TrainingInputMode": "File"},
            "RoleArn": "arn:aws:iam::123456789012:role/job",
            "OutputDataConfig": {"S3OutputPath": self._plan["output_uri"]},
            "ResourceConfig": {
                "InstanceType": self.search["instance_type"],
                "InstanceCount": 1,
                "VolumeSizeInGB": 30,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            "EnableManagedSpotTraining": self.search["spot"],
        }
        try:
            self._scene.step_functions.create_training_job(**request)
        except (ClientError, BotoCoreError, *DEATHS) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else "SdkClient"
            self._attempts += 1
            if code in NAMED or self._attempts >= REQUEST_ATTEMPTS:
                self._event = {**self._training.event, "error": f"SageMaker.{code}Exception", "cause": str(error)}
                self._go("find")
        else:
            self._go("monitor")

    def _monitor(self) -> None:
        job = self._scene.account.jobs[self._event["job_name"]]
        if job["TrainingJobStatus"] == "Completed":
            self._event = {**self._training.event, "model_uri": job["ModelArtifacts"]["S3ModelArtifacts"]}
            self._go("register")
        elif job["TrainingJobStatus"] in ENDED:
            self._event = {**self._training.event, "error": "States.TaskFailed", "cause": json.dumps(job)}
            self._go("find")

    def _register(self) -> None:
        if output := self._call(register_checkpoints, self._event):
            self._event = output
            self._go("evaluate")

    def _evaluate(self) -> None:
        for benchmark_id in self._event["benchmark_ids"]:
            if self._call(create_evaluation, {**self._event, "benchmark_id": benchmark_id}) is None:
                # The state machine goes on without the evaluation, and the reconciler creates it.
                break
        self._end("SUCCEEDED")

    def _fail(self) -> None:
        if self._call(fail_training, {"error": "", "cause": "", **self._event}) is not None:
            self._end("FAILED")

    def _call(self, step: Callable[..., dict[str, Any]], event: dict[str, Any]) -> dict[str, Any] | None:
        """Returns the output of a step, or ``None`` if it failed and is repeated, or leads to the failing step."""
        try:
            output: dict[str, Any] = json.loads(json.dumps(step(self._scene.worker, event)))
        except JobFailedError as error:
            cause = json.dumps({"errorType": "JobFailedError", "errorMessage": str(error)})
            self._event = {**self._training.event, "error": "JobFailedError", "cause": cause}
            self._go("fail")
        except (*DEATHS, *OWN_FAILURES, ApiError):
            self._attempts += 1
            if self._attempts >= STEP_ATTEMPTS:
                self.is_broken = True
                if self.state == "fail":
                    self._end("FAILED")
                self._event = {**self._training.event, "error": "Lambda.Unknown", "cause": ""}
                self._go("fail")
        else:
            return output
        return None

    def _go(self, state: str) -> None:
        self.state, self._attempts = state, 0

    def _end(self, status: str) -> None:
        self._record.status, self._record.error, self._record.cause = status, "Ended", "See the record."
        self._scene.account.events.append({"source": "aws.states", "detail": {"name": self.id, "status": status}})


class Scene:
    """A space with trainings, and an account with few machines."""

    def __init__(self, platform: EmulatedPlatform, seed: int) -> None:
        self.platform, self.dice, self.worker = platform, seeded(seed), platform.worker()
        self.account = SageMakerAccount(QUOTAS, may_stop=self._may_stop)
        platform.boundary.served["sagemaker"] = self.account.answer
        self.step_functions = platform.worker().sagemaker
        self.owner = platform.owner(self.worker)
        self.space = f"/spaces/{space_of(self.owner)}"
        self.executions: list[Execution] = []
        self.broken: list[str] = []
        self._request = training_request(self.owner, self.worker.table)
        TrainingWorld(self.owner, self.worker, self.worker.table, self._request).upload("2026.csv")
        benchmark = add_benchmark(self.owner, self._request["connectors"][0]["connector_id"])
        self._request["benchmark_ids"] = [benchmark]

    def train(self) -> None:
        training = TrainingWorld(self.owner, self.worker, self.worker.table, self._request)
        training.put_model()
        self.executions.append(Execution(self, training, spot=self.dice.random() < 0.3))

    def act(self) -> None:
        """Lets something happen, mostly while calls to AWS fail."""
        actions: list[Callable[[], None]] = [self._go_on] * 10 + [self._deliver, self._deliver, self._end_job]
        rare: list[Callable[[], None]] = [self._delete, self._reconcile]
        with self.platform.boundary.failing(*WITHOUT_KILLS, *KILLS, rate=self.dice.choice((0, 0.1, 0.4))):
            self.dice.choice(actions if self.dice.random() < 0.94 else rare)()
        self.platform.elapsed += timedelta(seconds=self.dice.uniform(0, 40))

    def in_between(self) -> None:
        """Lets somebody delete a training, and an event arrive, while a request is on its way."""
        if self.dice.random() < 0.05:
            self._delete()
            self._deliver()

    def delete_and_restore_space(self) -> None:
        """Deletes the space, with its jobs, and restores it after a while."""
        for execution in self.executions:
            execution.is_in_deleted_space = True
        self.owner.delete(self.space).raise_for_status()
        for _ in range(self.dice.randrange(6)):
            self.dice.choice((self._deliver, self._reconcile, self._end_job))()
        self.owner.post(f"{self.space}/restore").raise_for_status()
        self._reconcile()

    def finish(self) -> None:
        """Lets all executions end without faults."""
        for _ in range(400):
            alive = [each for each in self.executions if each.is_alive]
            if not alive:
                break
            for execution in alive:
                execution.step()
            self._end_job()
            self.platform.elapsed += timedelta(seconds=60)
        while self.account.events:
            self._deliver()
        alive = [each for each in self.executions if each.is_alive]
        self.broken += [f"the execution of {each.id} is still in {each.state}" for each in alive]

    def check_order(self, first: Execution, machine: tuple[str, bool]) -> None:
        """Finds older trainings that wait for the machine that a younger one requests."""
        for other in self.executions:
            if other.id < first.id and other.is_in_line and machine in other.machines and other.is_alive:
                self.broken.append(f"{first.id} requests {machine}, for which {other.id} waits longer")

    def problems(self) -> list[str]:
        """Returns broken promises about order, healthy jobs and reasons of failures."""
        for execution in self.executions:
            shown = self.owner.get(f"/trainings/{execution.id}").json()
            reasons = [DATA, CAPACITY, *(SPACE_DELETED if execution.is_in_deleted_space else ())]
            if execution.is_deleted or execution.is_broken or shown["status"] == "succeeded":
                continue
            if not any(reason in str(shown["error"]) for reason in reasons):
                self.broken.append(f"the training {execution.id} is {shown['status']}: {shown['error']}")
        return self.broken + self.account.broken

    def _go_on(self) -> None:
        if self.executions:
            self.dice.choice(self.executions).step()

    def _delete(self) -> None:
        present = [each for each in self.executions if not each.is_deleted]
        running = [each for each in present if each.state == "monitor"]
        if present:
            execution = self.dice.choice(running if running and self.dice.random() < 0.7 else present)
            execution.is_deleted = True
            with suppress(*DEATHS):
                self.owner.delete(f"/trainings/{execution.id}")

    def _deliver(self) -> None:
        """Delivers one of the next events, sometimes twice. One that fails comes again."""
        if self.account.events:
            event = self.dice.choice(self.account.events[:5])
            try:
                job_state_changed(event, self.worker)
            except (*DEATHS, *OWN_FAILURES, ApiError):
                return
            if self.dice.random() < 0.8:
                self.account.events.remove(event)

    def _end_job(self) -> None:
        stopping = [job for job in self.account.jobs.values() if job["TrainingJobStatus"] == "Stopping"]
        if stopping:
            self.account.end(self.dice.choice(stopping), "Stopped")
        # One that no workflow waits for runs until somebody stops it.
        if running := [job for job in self.account.running if (owner := self._owner(job)) and owner.is_alive]:
            job = self.dice.choice(running)
            chosen = dict(self.dice.choice(ENDS if job["EnableManagedSpotTraining"] else ENDS[:-1]))
            self.account.end(job, chosen.pop("status"), **chosen)

    def _reconcile(self) -> None:
        with suppress(*DEATHS, *OWN_FAILURES, ReconciliationError):
            reconcile_jobs(self.worker, 60)

    def _may_stop(self, job: Job) -> bool:
        """Returns whether a job may be stopped: its workflow does not go on, or somebody has deleted its training."""
        owner = self._owner(job)
        if owner is None:
            return True
        return owner.is_deleted or owner.is_broken or owner.is_in_deleted_space or not owner.is_alive

    def _owner(self, job: Job) -> Execution | None:
        return next((each for each in self.executions if each.id in job["TrainingJobName"]), None)


def machines(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Runs trainings on few machines: requests are refused, lost and adopted, trainings and their space are deleted."""
    scene = Scene(platform, seed)
    gone_at = scene.dice.randrange(2 * STEPS)
    for number in range(STEPS):
        if number % 12 == 0:
            scene.train()
        scene.act()
        if number == gone_at:
            scene.delete_and_restore_space()
    scene.finish()
    broken = scene.problems()
    jobs = len(scene.account.jobs)
    broken += problems_afterwards(platform, scene.worker, scene.dice)
    return f"{jobs} SageMaker jobs of {len(scene.executions)} trainings", broken
