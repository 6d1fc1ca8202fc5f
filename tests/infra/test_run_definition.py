"""The state machine of runs runs on the emulator's engine."""

import json
from typing import Any

import pytest

from infra.constructs import run_definitions
from infra.constructs.definitions import JobOptions
from infra.groups import Workflow
from tests.infra.test_definitions import MACHINES, Engine, TaskFailed

RUN = {"space_id": "space-1", "prediction_id": "run-2"}
TASKS = [{"file": {"key": "a.csv"}, "parts": [{"number": 0}]}, {"file": {"key": "b.csv"}, "parts": [{"number": 1}]}]
PREPARED: dict[str, Any] = {**RUN, "work_id": "run-1", "engine": "lambda", "tasks_key": "tasks.json"}
JOB = {
    "name": "prediction-run-2",
    "image_uri": "image:1",
    "instance_type": "ml.m5.2xlarge",
    "instance_count": 3,
    "volume_gb": 30,
    "tasks_uri": "s3://data/temporary/spaces/space-1/runs/run-1/tasks/",
}
MACHINE = MACHINES[Workflow.PREDICTION]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine(monkeypatch)
    engine.files = {"tasks.json": json.dumps(TASKS)}
    engine.results = {"PreparePrediction": PREPARED}
    return engine


@pytest.mark.row("BD-5")
def test_each_task_has_a_function_and_one_that_fails_three_times_stops_no_other(engine: Engine) -> None:
    engine.results["ScoreParts"] = lambda event: (
        TaskFailed("Runtime.ExitError", "out of memory") if event["task"] == TASKS[0] else {}
    )

    assert engine.run(MACHINE, RUN)["status"] == "SUCCEEDED"

    inputs = [{**RUN, "work_id": "run-1", "task": task} for task in TASKS]
    worked = engine.payloads("ScoreParts")
    assert (worked.count(inputs[0]), worked.count(inputs[1])) == (3, 1)
    assert engine.payloads("FinishPrediction") == [RUN]
    assert engine.jobs == []


@pytest.mark.row("BD-5")
def test_a_large_run_is_one_job_with_several_machines(engine: Engine) -> None:
    engine.results["PreparePrediction"] = {**PREPARED, "engine": "processing", "job": JOB}

    assert engine.run(MACHINE, RUN)["status"] == "SUCCEEDED"

    [job] = engine.jobs
    assert job["ProcessingJobName"] == "prediction-run-2"
    assert job["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 3
    identity = {"SPACE_ID": "space-1", "RUN_ID": "run-2", "WORK_ID": "run-1"}
    assert identity.items() <= job["Environment"].items()
    assert engine.payloads("ScoreParts") == []
    assert engine.payloads("FinishPrediction") == [RUN]


@pytest.mark.parametrize("step", ["PreparePrediction", "FinishPrediction"])
def test_a_step_that_fails_records_the_reason(engine: Engine, step: str) -> None:
    engine.results[step] = TaskFailed("JobFailedError", "The folder is not empty.")

    assert engine.run(MACHINE, RUN)["status"] == "FAILED"

    assert engine.payloads("FailPrediction") == [
        {**RUN, "error": "JobFailedError", "cause": "The folder is not empty."}
    ]


def test_a_job_that_fails_records_the_reason(engine: Engine) -> None:
    engine.results["PreparePrediction"] = {**PREPARED, "engine": "processing", "job": JOB}
    cause = json.dumps({"ProcessingJobStatus": "Failed", "ExitMessage": "The disk is full."})

    def fail(_attempt: int) -> None:
        raise TaskFailed("States.TaskFailed", cause)

    engine.job = fail
    assert engine.run(MACHINE, RUN)["status"] == "FAILED"
    assert engine.payloads("FailPrediction") == [{**RUN, "error": "States.TaskFailed", "cause": cause}]


@pytest.mark.parametrize("instance_type", ["ml.m5.2xlarge", "ml.m5d.2xlarge"])
def test_only_machines_without_own_disks_get_the_volume_key(engine: Engine, instance_type: str) -> None:
    options = JobOptions(key=True, types_with_volume_key=["ml.m5.2xlarge"], run_instance_type=instance_type)
    machine = run_definitions.batch_run("prediction", "ScoreParts", options, job="predict", concurrency=40)
    job = {**JOB, "instance_type": instance_type}
    engine.results["PreparePrediction"] = {**PREPARED, "engine": "processing", "job": job}

    assert engine.run(machine, RUN)["status"] == "SUCCEEDED"

    [started] = engine.jobs
    cluster = started["ProcessingResources"]["ClusterConfig"]
    assert (cluster["InstanceType"], "VolumeKmsKeyId" in cluster) == (instance_type, instance_type == "ml.m5.2xlarge")
