"""State machines pass a validator, and run on the emulator's engine. The tests set the results of the tasks.

``test_checks.py`` gives them to a second validator.
"""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ministack.services import stepfunctions

from infra.constructs import definitions, run_definitions
from infra.constructs.definitions import Definition, JobOptions
from infra.groups import STEPS, Workflow
from tests.infra.conftest import ROOT, Synthesised, node

KEYED = JobOptions(key=True, types_with_volume_key=["ml.m5.2xlarge"])
MACHINES: dict[Workflow, Definition] = {
    Workflow.TRAINING: definitions.training(KEYED, capacity_wait=60),
    Workflow.EVALUATION: definitions.evaluation(JobOptions(warm_pool_seconds=600), capacity_wait=60),
    Workflow.CONNECTOR_SCAN: definitions.connector_scan(concurrency=40),
    Workflow.PREDICTION: run_definitions.batch_run("prediction", "ScoreParts", KEYED, job="predict", concurrency=40),
    Workflow.DECISION_RUN: run_definitions.batch_run(
        "decision_run", "DecideParts", KEYED, job="decide", concurrency=40
    ),
}


def validate(definition: Definition, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "definition.json"
    file.write_text(json.dumps(definition))
    command = [node("node"), str(ROOT / "node_modules/.bin/asl-validator"), "--json-path", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_a_deployed_definition_is_valid(stage: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    synthesised: Synthesised = request.getfixturevalue(stage)
    for machine in synthesised.properties("AWS::StepFunctions::StateMachine"):
        substitutions = {name: f"arn:aws:lambda:eu-west-1:123456789012:function:{name}" for name in
                         machine["DefinitionSubstitutions"]}  # fmt: skip
        text = machine["DefinitionString"]
        for name, value in substitutions.items():
            text = text.replace(f"${{{name}}}", value)
        assert "${" not in text
        done = validate(json.loads(text), tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_deployed_scan_keeps_the_nulls_that_discard_results(local: Synthesised) -> None:
    texts = [machine["DefinitionString"] for machine in local.properties("AWS::StepFunctions::StateMachine")]
    states = next(json.loads(text)["States"] for text in texts if "ScanFiles" in text)
    assert states["FailScan"]["ResultPath"] is None
    for name, step in (("ScanFiles", "ScanFile"), ("ScanTables", "ScanTable")):
        assert states[name]["ResultPath"] is None
        assert states[name]["ItemProcessor"]["States"][step]["OutputPath"] is None


def break_next(definition: Definition) -> None:
    state = definition["States"]["FinishScan" if "FinishScan" in definition["States"] else "RunJob"]
    state["Catch"][0]["Next"] = "Missing"


def break_type(definition: Definition) -> None:
    definition["States"][definition["StartAt"]]["Type"] = "Unknown"


def break_language(definition: Definition) -> None:
    state = definition["States"][definition["StartAt"]]
    state["Parameters" if "Arguments" in state else "Arguments"] = {"FunctionName": "x"}
    state["QueryLanguage"] = "JSONata" if "QueryLanguage" not in definition else "JSONPath"


@pytest.mark.parametrize("damage", [break_next, break_type, break_language])
@pytest.mark.parametrize("workflow", Workflow)
def test_the_validator_refuses_a_broken_definition(
    workflow: Workflow, damage: Callable[[Definition], None], tmp_path: Path
) -> None:
    broken = copy.deepcopy(MACHINES[workflow])
    damage(broken)
    assert validate(broken, tmp_path).returncode != 0


@pytest.mark.parametrize("workflow", Workflow)
def test_a_machine_calls_exactly_its_deployed_steps(workflow: Workflow) -> None:
    text = json.dumps(MACHINES[workflow])
    steps = {spec.name.title().replace("-", "") for spec in STEPS[workflow]}
    called = {part.split("}")[0] for part in text.split('"FunctionName": "${')[1:]}
    assert called == steps


@pytest.mark.parametrize("workflow", Workflow)
def test_every_error_of_a_task_is_caught(workflow: Workflow) -> None:
    for name, state in MACHINES[workflow]["States"].items():
        if state["Type"] == "Task" and not name.startswith("Fail"):
            assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


# --- executions on the emulator's engine

SPACE, TRAINING = "space-1", "training-1"
PREPARED = {
    "space_id": SPACE,
    "training_id": TRAINING,
    "job_name_prefix": f"training-{TRAINING}",
    "job_uri": "s3://bucket/input/",
    "output_uri": "s3://bucket/output/",
    "checkpoint_uri": "s3://bucket/checkpoints/",
    "model_uri": "s3://bucket/model.tar.gz",
    "image_uri": "image:1",
    "instance_types": ["ml.m5.2xlarge", "ml.m5.4xlarge"],
    "instance_count": 1,
    "volume_gb": 30,
    "max_runtime_seconds": 3600,
    "max_wait_seconds": 7200,
    "spot": False,
}
NO_CAPACITY = json.dumps({"TrainingJobStatus": "Failed", "FailureReason": "CapacityError: Unable to provision"})

JOB_KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"
SUBSTITUTED = {"JobRole": "arn:aws:iam::123456789012:role/job", "JobKey": JOB_KEY}


class TaskFailed(Exception):  # noqa: N818 - Step Functions uses this name
    """An error of a task."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(error)
        self.error, self.cause = error, cause


class Engine:
    """An engine for definitions. ``calls`` and ``jobs`` list the requests of tasks. ``results`` sets their results."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.slept: list[float] = []
        self.results: dict[str, Any] = {}
        self.job: Callable[[int], None] = lambda _attempt: None
        self.files: dict[str, str] = {}
        dispatch = {
            "arn:aws:states:::sagemaker:createTrainingJob": self._create_job,
            "arn:aws:states:::sagemaker:createProcessingJob": self._create_job,
        }
        monkeypatch.setattr(stepfunctions, "_call_lambda", self._invoke)
        monkeypatch.setattr(stepfunctions, "_resolve_lambda_function_ref", lambda reference, **_: reference)
        monkeypatch.setattr(stepfunctions, "_SERVICE_DISPATCH", dispatch)
        monkeypatch.setattr(stepfunctions, "_scaled_sleep", self.slept.append)
        monkeypatch.setattr(stepfunctions, "_emit_execution_status_event", lambda _execution: None)
        monkeypatch.setattr(stepfunctions, "_s3_object_text", lambda _bucket, key: self.files[key])

    def _invoke(self, function: str, payload: Any) -> Any:
        self.calls.append((function, copy.deepcopy(payload)))
        result = self.results.get(function, {})
        result = result(payload) if callable(result) else result
        if isinstance(result, TaskFailed):
            raise stepfunctions._ExecutionError(result.error, result.cause)
        return copy.deepcopy(result)

    def _create_job(self, resource: str, request: dict[str, Any]) -> dict[str, Any]:
        assert resource.endswith(".sync")
        self.jobs.append(request)
        try:
            self.job(len(self.jobs))
        except TaskFailed as failed:
            raise stepfunctions._ExecutionError(failed.error, failed.cause) from failed
        if "ProcessingJobName" in request:
            return {"ProcessingJobName": request["ProcessingJobName"], "ProcessingJobStatus": "Completed"}
        artifact = f"{request['OutputDataConfig']['S3OutputPath']}{request['TrainingJobName']}/output/model.tar.gz"
        return {
            "TrainingJobName": request["TrainingJobName"],
            "TrainingJobStatus": "Completed",
            "ModelArtifacts": {"S3ModelArtifacts": artifact},
            "ResourceConfig": request["ResourceConfig"],
            "TrainingTimeInSeconds": 61,
        }

    def payloads(self, function: str) -> list[Any]:
        return [payload for name, payload in self.calls if name == function]

    def add(self, name: str, definition: Definition) -> str:
        text = json.dumps(definition)
        for part in {part.split("}")[0] for part in text.split("${")[1:]}:
            text = text.replace(f"${{{part}}}", SUBSTITUTED.get(part, part))
        arn = f"arn:aws:states:us-east-1:000000000000:stateMachine:{name}"
        stepfunctions._state_machines[arn] = {"name": name, "definition": text, "roleArn": "role"}
        return arn

    def run(self, definition: Definition, event: dict[str, Any]) -> dict[str, Any]:
        arn = self.add("machine", definition)
        _, _, body = stepfunctions._start_sync_execution({"stateMachineArn": arn, "input": json.dumps(event)})
        execution: dict[str, Any] = json.loads(body)
        return execution


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


TRAIN = {"space_id": SPACE, "training_id": TRAINING}
FOUND: dict[str, Any] = {
    **TRAIN,
    "next": "run",
    "job_name": f"training-{TRAINING}-1",
    "search": {"instance_type": "ml.m5.2xlarge", "spot": False},
}
TRAINED = {
    "CheckTraining": PREPARED,
    "FindTrainingMachine": FOUND,
    "RegisterCheckpoints": {**TRAIN, "benchmark_ids": []},
}
MACHINE = definitions.training(JobOptions(), capacity_wait=60)


def test_a_training_runs_its_job_and_registers_its_checkpoints(engine: Engine) -> None:
    engine.results = TRAINED
    assert engine.run(MACHINE, TRAIN)["status"] == "SUCCEEDED"
    [job] = engine.jobs
    assert job["TrainingJobName"] == f"training-{TRAINING}-1"
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    assert job["EnableManagedSpotTraining"] is False
    assert job["ResourceConfig"] == {"InstanceType": "ml.m5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
    assert job["CheckpointConfig"]["S3Uri"] == PREPARED["checkpoint_uri"]
    assert engine.payloads("RegisterCheckpoints") == [
        {
            **TRAIN,
            "job_name": f"training-{TRAINING}-1",
            "output_uri": "s3://bucket/output/",
            "model_uri": f"s3://bucket/output/training-{TRAINING}-1/output/model.tar.gz",
            "instance_type": "ml.m5.2xlarge",
            "training_seconds": 61,
            "billable_seconds": None,
        }
    ]
    assert engine.payloads("FailTraining") == []


@pytest.mark.row("FL-10")
@pytest.mark.parametrize("last", [PREPARED, TaskFailed("JobFailedError", "{}")], ids=["scanned", "failed"])
def test_a_training_checks_its_files_again_after_each_wait_for_scans(engine: Engine, last: Any) -> None:
    waits = [{**TRAIN, "wait_seconds": seconds, "scan_requests": {"c": 1}} for seconds in (2, 3)]
    results = iter([*waits, last])
    engine.results = {**TRAINED, "CheckTraining": lambda _: next(results)}
    execution = engine.run(MACHINE, TRAIN)
    assert (engine.payloads("CheckTraining"), engine.slept) == ([TRAIN, *waits], [2, 3])
    assert (execution["status"], len(engine.jobs)) == (("SUCCEEDED", 1) if last is PREPARED else ("FAILED", 0))
    failures = [] if last is PREPARED else [{**TRAIN, "error": "JobFailedError", "cause": "{}"}]
    assert engine.payloads("FailTraining") == failures


def test_a_spot_job_has_a_maximum_waiting_time(engine: Engine) -> None:
    engine.results = {**TRAINED, "FindTrainingMachine": {**FOUND, "search": {**FOUND["search"], "spot": True}}}
    engine.run(MACHINE, TRAIN)
    assert engine.jobs[0]["EnableManagedSpotTraining"] is True
    assert engine.jobs[0]["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("machine", [Workflow.TRAINING, Workflow.EVALUATION])
def test_the_job_request_fits_botocores_model_of_sagemaker(engine: Engine, machine: Workflow, spot: bool) -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    found = {**FOUND, "search": {**FOUND["search"], "spot": spot}}
    searches = {"FindTrainingMachine": found, "FindEvaluationMachine": found}
    engine.results = {**TRAINED, **searches, "PrepareEvaluation": PREPARED}
    assert engine.run(MACHINES[machine], TRAIN)["status"] == "SUCCEEDED"
    service = botocore.session.get_session().get_service_model("sagemaker")
    shape = service.operation_model("CreateTrainingJob").input_shape
    assert shape is not None
    report = ParamValidator().validate(engine.jobs[0], shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.row("TR-2", "EN-2")
def test_a_failed_job_is_followed_by_what_the_search_for_a_machine_decides(engine: Engine) -> None:
    searches = [{**FOUND["search"], "number": number, "instance_type": f"ml.m{number}.large"} for number in (1, 2)]
    run, again = ({**TRAIN, "next": "run", "job_name": f"job-{each['number']}", "search": each} for each in searches)
    decisions = iter([run, {**TRAIN, "next": "wait", "pause": 2, "search": searches[1]}, again])
    errors = iter([TaskFailed("States.TaskFailed", NO_CAPACITY)])

    def fail_first(_attempt: int) -> None:
        if error := next(errors, None):
            raise error

    engine.results, engine.job = {**TRAINED, "FindTrainingMachine": lambda _: next(decisions)}, fail_first
    assert engine.run(MACHINE, TRAIN)["status"] == "SUCCEEDED"
    asked = [
        {**PREPARED, "plan": PREPARED, "search": {}},
        {**TRAIN, "plan": PREPARED, "search": searches[0], "error": "States.TaskFailed", "cause": NO_CAPACITY},
        {**TRAIN, "plan": PREPARED, "search": searches[1]},
    ]
    assert engine.payloads("FindTrainingMachine") == asked
    started = [(job["TrainingJobName"], job["ResourceConfig"]["InstanceType"]) for job in engine.jobs]
    assert started == [("job-1", "ml.m1.large"), ("job-2", "ml.m2.large")]
    assert 60 <= engine.slept[0] <= 180, "the pause is two minutes, give or take a half"


@pytest.mark.row("EN-2")
def test_the_result_of_an_adopted_job_is_registered(engine: Engine) -> None:
    result = {**TRAIN, "model_uri": "s3://bucket/model.tar.gz", "search": FOUND["search"]}
    engine.results = {**TRAINED, "FindTrainingMachine": {**result, "next": "register"}}
    assert engine.run(MACHINE, TRAIN)["status"] == "SUCCEEDED"
    assert (engine.jobs, engine.payloads("RegisterCheckpoints")) == ([], [{**result, "next": "register"}])


@pytest.mark.row("TR-2")
def test_a_training_fails_with_the_reason_when_no_machine_is_left(engine: Engine) -> None:
    decision = {**TRAIN, "next": "fail", "error": "Quota", "cause": "It is 0.", "search": FOUND["search"]}
    engine.results = {**TRAINED, "FindTrainingMachine": decision}
    execution = engine.run(MACHINE, TRAIN)
    assert (execution["status"], execution["error"], execution["cause"]) == ("FAILED", "Quota", "It is 0.")
    assert engine.payloads("FailTraining") == [decision]


def test_a_throttled_request_is_retried_with_the_same_job_name(engine: Engine) -> None:
    def throttle_twice(attempt: int) -> None:
        if attempt <= 2:
            raise TaskFailed("SageMaker.AmazonSageMakerException", "ThrottlingException")

    engine.results = TRAINED
    engine.job = throttle_twice
    assert engine.run(MACHINE, TRAIN)["status"] == "SUCCEEDED"
    assert {job["TrainingJobName"] for job in engine.jobs} == {f"training-{TRAINING}-1"}


def test_a_data_error_is_not_retried_but_a_failing_step_is(engine: Engine) -> None:
    engine.results = {"CheckTraining": TaskFailed("JobFailedError", '{"errorMessage": "no such column"}')}
    engine.run(MACHINE, TRAIN)
    assert len(engine.payloads("CheckTraining")) == 1
    assert engine.payloads("FailTraining")[0]["cause"] == '{"errorMessage": "no such column"}'
    engine.calls.clear()
    engine.results = {"CheckTraining": TaskFailed("ClientError", "{}")}
    engine.run(MACHINE, TRAIN)
    assert len(engine.payloads("CheckTraining")) == 3


@pytest.mark.row("TR-2")
def test_each_benchmark_gets_an_evaluation_and_a_failing_evaluation_does_not_fail_the_training(engine: Engine) -> None:
    engine.add("evaluation", definitions.evaluation(JobOptions(), capacity_wait=60))
    arn = "arn:aws:states:us-east-1:000000000000:stateMachine:evaluation"
    machine = json.loads(json.dumps(MACHINE).replace("${EvaluationStateMachine}", arn))

    def prepare(event: dict[str, Any]) -> Any:
        broken = event["evaluation_id"] == "evaluation-of-b2"
        return TaskFailed("JobFailedError", "{}") if broken else {**PREPARED, **event, "job_name_prefix": "evaluation"}

    engine.results = {
        **TRAINED,
        "RegisterCheckpoints": {**TRAIN, "checkpoint_id": "c1", "benchmark_ids": ["b1", "b2", "b3"]},
        "CreateEvaluation": lambda event: {
            "space_id": SPACE,
            "evaluation_id": f"evaluation-of-{event['benchmark_id']}",
        },
        "PrepareEvaluation": prepare,
        "FindEvaluationMachine": lambda event: {**FOUND, "evaluation_id": event["evaluation_id"]},
    }
    assert engine.run(machine, TRAIN)["status"] == "SUCCEEDED"
    created = sorted(engine.payloads("CreateEvaluation"), key=lambda event: str(event["benchmark_id"]))
    assert [event["benchmark_id"] for event in created] == ["b1", "b2", "b3"]
    assert all(event["checkpoint_id"] == "c1" for event in created)
    assert {event["evaluation_id"] for event in engine.payloads("RecordEvaluation")} == {
        "evaluation-of-b1",
        "evaluation-of-b3",
    }
    assert [event["evaluation_id"] for event in engine.payloads("FailEvaluation")] == ["evaluation-of-b2"]


def test_a_single_benchmark_is_evaluated(engine: Engine) -> None:
    # JSONata unpacks arrays with one element.
    engine.results = {
        **TRAINED,
        "CheckTraining": {**PREPARED, "instance_types": ["ml.m5.large"]},
        "RegisterCheckpoints": {**TRAIN, "benchmark_ids": ["b1"]},
        "CreateEvaluation": TaskFailed("JobFailedError", "{}"),
    }
    assert engine.run(MACHINE, TRAIN)["status"] == "SUCCEEDED"
    assert [event["benchmark_id"] for event in engine.payloads("CreateEvaluation")] == ["b1"]
    assert engine.payloads("FindTrainingMachine")[0]["plan"]["instance_types"] == ["ml.m5.large"]
