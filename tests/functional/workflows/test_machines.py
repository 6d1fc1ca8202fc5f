"""Tests of the search for machines: full quotas, missing capacity, spot, and lost responses."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.workflows.evaluation.fail_evaluation import fail_evaluation
from functions.workflows.evaluation.find_evaluation_machine import find_evaluation_machine
from functions.workflows.machines import LONGEST_WAIT, PLACE, TURN
from functions.workflows.training.fail_training import fail_training
from functions.workflows.training.find_training_machine import find_training_machine
from shared.dynamodb.table import Table
from shared.errors import JobFailedError
from shared.jobs.store import Jobs
from shared.resources import Resources
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.sagemaker import FakeSageMaker
from tests.fixtures.trainings import add_benchmark, space_of, training_request
from tests.functional.conftest import same_caller

SMALL, LARGE = "ml.m5.2xlarge", "ml.m5.4xlarge"
QUOTA = "SageMaker.ResourceLimitExceededException"
IN_USE = "The account-level service limit '{}' is 2 Instances, with current utilization of 2 Instances."
NONE_ALLOWED = "The account-level service limit '{}' is 0 Instances, with current utilization of 0 Instances."


@dataclass
class Lab:
    """A space of Alice whose trainings search for machines."""

    client: TestClient
    resources: Resources
    sagemaker: FakeSageMaker
    clock: MovableClock
    request: dict[str, Any]

    def training(self) -> "Search":
        return Search(self, "training", self.client.post("/trainings", json=self.request).json()["id"])

    def evaluation(self) -> "Search":
        benchmark = add_benchmark(self.client, self.request["connectors"][0]["connector_id"])
        checkpoint = add_checkpoint(self.resources.table, space_of(self.client)).id
        body = {"benchmark_id": benchmark, "checkpoint_id": checkpoint, "gpu_count": 0}
        return Search(self, "evaluation", self.client.post("/evaluations", json=body).json()["id"])


class Search:
    """The search of one job, with the state that its state machine keeps."""

    def __init__(self, lab: Lab, kind: str, job_id: str) -> None:
        self.id = job_id
        self.event = {"space_id": space_of(lab.client), f"{kind}_id": job_id}
        self.plan = {
            "job_name_prefix": f"{kind}-{job_id}",
            "instance_types": [SMALL, LARGE],
            "spot": False,
            "output_uri": "s3://bucket/output/",
        }
        self.found: dict[str, Any] = {"search": {}}
        self._lab = lab
        self._step = find_training_machine if kind == "training" else find_evaluation_machine

    def go_on(self, error: str = "", cause: str = "", *, after: timedelta = timedelta(0)) -> str:
        """Returns the next decision; for a request with the job's number and its instance type."""
        self._lab.clock.now += after
        failure = {"error": error, "cause": cause} if error else {}
        event = {**self.event, **failure, "plan": self.plan, "search": self.found["search"]}
        # Step Functions keeps JSON.
        self.found = json.loads(json.dumps(self._step(self._lab.resources, event)))
        if self.found["next"] != "run":
            return str(self.found["next"])
        search = self.found["search"]
        return f"{self.found['job_name'].rpartition('-')[2]} {search['instance_type']}{' spot' * search['spot']}"

    def refused(self, text: str = IN_USE) -> str:
        return self.go_on(QUOTA, text.format(self.found["search"]["instance_type"]))

    def ended(self, status: str = "Failed", reason: str = "", **more: Any) -> str:
        """Ends the job that runs, as Step Functions reports it."""
        description = {"TrainingJobStatus": status, "FailureReason": reason, **more}
        self._lab.sagemaker.run(self.found["job_name"], status, FailureReason=reason, **more)
        return self.go_on("States.TaskFailed", json.dumps(description))

    def notes(self) -> list[str]:
        notes: list[str] = self._lab.client.get(f"/trainings/{self.id}").json()["notes"]
        return notes


@pytest.fixture
def lab(client: TestClient, resources: Resources, table: Table, clock: MovableClock) -> Lab:
    sagemaker = FakeSageMaker()
    resources = Resources(resources.settings, clock, sagemaker=sagemaker)
    return Lab(same_caller(client, resources), resources, sagemaker, clock, training_request(client, table))


@pytest.mark.row("EN-2", "TR-2")
def test_a_quota_in_use_is_waited_for_for_hours_and_uses_up_no_attempt(lab: Lab) -> None:
    training = lab.training()
    assert training.go_on() == f"1 {SMALL}"
    assert training.refused() == f"1 {LARGE}", "another quota may be free"
    assert training.refused() == "wait"
    [note] = training.notes()
    assert note.startswith(f"Waiting for a machine since {lab.clock.now:%Y-%m-%d %H:%M} UTC, for at most 24 hours")
    pauses = []
    for _ in range(20):
        pauses.append(training.found["pause"])
        assert training.go_on(after=timedelta(minutes=30)) == f"1 {SMALL}"
        training.refused()
        assert training.refused() == "wait"
    assert pauses[:4] == [1, 1.5, 2, 2]
    assert training.notes() == [note]
    assert training.go_on(after=timedelta(minutes=2)) == f"1 {SMALL}"
    assert training.notes() == []
    assert training.ended(reason="AlgorithmError: no such column, exit code: 1") == "fail"
    assert lab.client.get(f"/trainings/{training.id}").json()["status"] == "pending", "another step ends it"


@pytest.mark.row("EN-2", "TR-2")
def test_a_training_that_gets_no_machine_within_a_day_fails_with_the_reason_of_aws(lab: Lab) -> None:
    training = lab.training()
    training.go_on()
    training.refused()
    assert training.refused() == "wait"
    training.go_on(after=LONGEST_WAIT + timedelta(minutes=1))
    training.refused()
    assert training.refused() == "fail"
    fail_training(lab.resources, {**training.event, **training.found})
    shown = lab.client.get(f"/trainings/{training.id}").json()
    assert (shown["status"], shown["notes"]) == ("failed", [])
    assert f"no machine for the job: not within 24 hours: The account-level service limit '{LARGE}'" in shown["error"]


@pytest.mark.row("EN-2", "TR-2")
def test_a_quota_of_none_is_not_waited_for(lab: Lab) -> None:
    training = lab.training()
    training.go_on()
    assert training.refused(NONE_ALLOWED) == f"1 {LARGE}"
    assert training.refused(NONE_ALLOWED) == "fail"
    assert "is 0 Instances" in training.found["cause"]


@pytest.mark.row("EN-2")
def test_machines_are_given_in_the_order_of_the_requests(lab: Lab) -> None:
    first, second = lab.training(), lab.training()
    assert (first.go_on(), first.refused(), first.refused()) == (f"1 {SMALL}", f"1 {LARGE}", "wait")
    assert second.go_on() == "wait", "the first one waits for the same machines"
    third = lab.evaluation()
    assert third.go_on() == "wait"
    waiting = lab.client.get(f"/evaluations/{third.id}").json()["result"]["waiting"]
    assert waiting.endswith("Jobs get machines in the order of their requests.")

    assert first.go_on(after=timedelta(minutes=2)) == f"1 {SMALL}"
    assert second.go_on(after=timedelta(seconds=5)) == "wait", "the first one may still be refused"
    assert second.go_on(after=TURN) == f"1 {SMALL}"
    assert third.go_on() == "wait"
    lab.resources.table.write(Jobs(lab.resources.table).close(second.id))
    assert third.go_on() == f"1 {SMALL}", "a job that has ended keeps nobody waiting"
    assert lab.client.get(f"/evaluations/{third.id}").json()["result"]["waiting"] is None


@pytest.mark.row("EN-2")
def test_a_job_that_no_longer_asks_loses_its_place(lab: Lab) -> None:
    first, second = lab.training(), lab.training()
    first.go_on()
    first.refused()
    first.refused()
    assert second.go_on() == "wait"
    assert second.go_on(after=PLACE + timedelta(seconds=1)) == f"1 {SMALL}"


@pytest.mark.row("TR-2")
def test_without_capacity_each_instance_type_is_tried_twice(lab: Lab) -> None:
    training = lab.training()
    reason = "CapacityError: Unable to provision requested ML compute capacity."
    tried = [training.go_on()]
    while training.ended(reason=reason) == "wait":
        assert training.notes() == [f"Waiting for a machine: AWS has no {tried[-1][2:]} free now."]
        tried.append(training.go_on())
    assert tried == [f"1 {SMALL}", f"2 {SMALL}", f"3 {LARGE}", f"4 {LARGE}"]
    assert (training.found["next"], reason in training.found["cause"]) == ("fail", True)


@pytest.mark.row("EN-2", "TR-2")
@pytest.mark.parametrize("is_without_capacity", [False, True])
def test_a_job_without_a_spot_machine_runs_on_demand(lab: Lab, is_without_capacity: bool) -> None:
    training = lab.training()
    training.plan |= {"spot": True, "instance_types": [SMALL]}
    assert training.go_on() == f"1 {SMALL} spot"
    if is_without_capacity:
        assert training.ended(reason="CapacityError: none.") == "wait"
        assert training.go_on() == f"2 {SMALL} spot"
        assert training.ended(reason="CapacityError: none.") == f"3 {SMALL}"
    else:
        saved = {"S3ModelArtifacts": "s3://models/model.tar.gz"}
        assert training.ended("Stopped", SecondaryStatus="MaxWaitTimeExceeded", ModelArtifacts=saved) == f"2 {SMALL}"
    assert training.ended("Stopped", SecondaryStatus="MaxRuntimeExceeded") == "fail"
    fail_training(lab.resources, {**training.event, **training.found})
    assert "exceeded its time limit" in lab.client.get(f"/trainings/{training.id}").json()["error"]


@pytest.mark.row("EN-2", "EN-4")
@pytest.mark.parametrize(
    "error",
    [
        ("SageMaker.ResourceInUseException", "Training job names must be unique."),
        ("SageMaker.SdkClientException", "Read timed out."),
        ("SageMaker.AmazonSageMakerException", "Rate exceeded"),
        (QUOTA, "The account-level service limit is 1 Instances, with current utilization of 1 Instances."),
    ],
)
def test_a_job_whose_response_was_lost_is_adopted(lab: Lab, error: tuple[str, str]) -> None:
    training = lab.training()
    training.go_on()
    name = training.found["job_name"]
    lab.sagemaker.run(name)
    assert training.go_on(*error) == "wait"
    pauses = [training.found["pause"]]
    while pauses[-1] < 5:
        assert training.go_on() == "wait"
        pauses.append(training.found["pause"])
    assert lab.sagemaker.jobs[name]["TrainingJobStatus"] == "InProgress", "nobody stops a healthy job"
    done = {"ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/model.tar.gz"}, "TrainingTimeInSeconds": 61}
    lab.sagemaker.run(name, "Completed", ResourceConfig={"InstanceType": SMALL}, **done)
    assert training.go_on() == "register"
    result = {key: training.found[key] for key in ("job_name", "model_uri", "instance_type", "training_seconds")}
    assert list(result.values()) == [name, "s3://bucket/model.tar.gz", SMALL, 61]


@pytest.mark.row("EN-2", "EV-1")
def test_an_evaluation_whose_response_was_lost_is_adopted(lab: Lab) -> None:
    evaluation = lab.evaluation()
    evaluation.go_on()
    lab.sagemaker.run(evaluation.found["job_name"])
    assert evaluation.go_on("SageMaker.SdkClientException", "Read timed out.") == "wait"


@pytest.mark.row("EN-2")
def test_an_adopted_job_that_fails_ends_its_training_with_its_own_reason(lab: Lab) -> None:
    training = lab.training()
    training.go_on()
    name = training.found["job_name"]
    lab.sagemaker.run(name)
    assert training.go_on("SageMaker.ResourceInUseException", "Names must be unique.") == "wait"
    lab.sagemaker.run(name, "Failed", FailureReason="AlgorithmError: The file is empty.")
    assert training.go_on() == "fail"
    fail_training(lab.resources, {**training.event, **training.found})
    assert lab.client.get(f"/trainings/{training.id}").json()["error"] == "The file is empty."


@pytest.mark.row("EN-1", "TR-5")
def test_a_job_that_follows_a_refusal_is_shown_and_stopped(lab: Lab) -> None:
    training = lab.training()
    training.go_on()
    assert training.refused() == f"1 {LARGE}"
    name = training.found["job_name"]
    lab.sagemaker.run(name, TrainingStartTime=lab.clock.now)
    assert lab.client.delete(f"/trainings/{training.id}").status_code == 200
    assert lab.sagemaker.jobs[name]["TrainingJobStatus"] == "Stopping"


@pytest.mark.row("EN-1")
@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_job_is_found_although_numbers_before_it_are_missing(lab: Lab, number: int) -> None:
    training = lab.training()
    name = f"training-{training.id}-{number}"
    lab.sagemaker.run(name, TrainingStartTime=lab.clock.now)
    lab.client.delete(f"/trainings/{training.id}")
    assert lab.sagemaker.jobs[name]["TrainingJobStatus"] == "Stopping"


@pytest.mark.row("EN-1")
def test_a_workflow_that_fails_stops_its_job_before_its_record_ends(lab: Lab) -> None:
    training, evaluation = lab.training(), lab.evaluation()
    for search, fail in ((training, fail_training), (evaluation, fail_evaluation)):
        search.go_on()
        lab.sagemaker.run(search.found["job_name"])
        fail(lab.resources, {**search.event, "error": "Lambda.Unknown", "cause": "The runtime exited."})
        assert lab.sagemaker.jobs[search.found["job_name"]]["TrainingJobStatus"] == "Stopping"
    assert list(Jobs(lab.resources.table).open_jobs()) == []


@pytest.mark.row("TR-5")
def test_a_deleted_training_gets_no_machine(lab: Lab) -> None:
    training = lab.training()
    lab.client.delete(f"/trainings/{training.id}")
    with pytest.raises(JobFailedError, match="was deleted"):
        training.go_on()
