"""Each alarm starts during the fault that it detects and ends after the fault.

The real code of the service makes its metrics: functions run during the fault, and the tests read the metrics from
their output and from the access log that API Gateway would write. Metrics of AWS are constants.
"""

from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import reconcile_jobs
from functions.events.roll_up_inference_logs import roll_up_inference_logs
from infra.groups import FAIL_STEPS, GROUPS, RECONCILE_JOBS, ROLL_UP_INFERENCE_LOGS, Workflow
from shared.aws.space_guard import ForeignSpaceError
from shared.dynamodb.table import Key
from shared.jobs.failures import count_failed_job, explain
from shared.jobs.store import Jobs
from shared.models.job_reference import JobKind
from shared.observability import workflow_step
from shared.resources import Resources
from tests.fixtures.aws import WEBHOOK_SECRET_NAME
from tests.fixtures.cloudwatch import CloudWatch, Point, window
from tests.fixtures.inference_logs import call, stream_event
from tests.infra.stage_metrics import MINUTE, SPACE, Stage, alarms, composed, runbook, states

# --- metrics of the service


@pytest.mark.row("X-15")
@pytest.mark.parametrize("name", ["AvailabilityBurnsFast", "AvailabilityBurnsSlowly"])
def test_failing_requests_trigger_the_availability_alarms(stage: Stage, broken: TestClient, name: str) -> None:
    healthy = stage.request(stage.client(stage.resources), "/health")
    failed = stage.request(broken, "/actions")
    assert [point.name for point in failed if point.value].count("5XXError") == 1
    # 4% of failures exceed the threshold of both alarms.
    assert states(stage, composed(stage, name), healthy * 96 + failed * 4, healthy * 100) == [False, True, False]


@pytest.mark.row("X-15")
def test_a_fault_that_has_ended_does_not_trigger_the_fast_alarm(stage: Stage, broken: TestClient) -> None:
    [long, short] = sorted(composed(stage, "AvailabilityBurnsFast"), key=window, reverse=True)
    healthy = stage.request(stage.client(stage.resources), "/health", 20)
    failed = stage.request(broken, "/actions")
    cloudwatch = CloudWatch(stage.physical)
    for minute in range(1, 61):
        cloudwatch.record(minute * MINUTE, failed * 50 if 40 < minute <= 45 else healthy * 50)
    assert cloudwatch.is_alarm(long, 3600)
    assert not cloudwatch.is_alarm(short, 3600)


@pytest.mark.row("X-15")
def test_responses_of_api_gateway_itself_count_as_failures(stage: Stage) -> None:
    responses = (
        (502, None),
        (503, None),
        (504, "INTEGRATION_TIMEOUT"),
        (502, "INTEGRATION_FAILURE"),
        (401, "ACCESS_DENIED"),
    )
    names = [{one.name for one in stage.logged("POST", "/insights", status, 5, error)} for status, error in responses]
    assert ["GatewayFailures" in each for each in names] == [False, False, True, True, False]


@pytest.mark.row("X-15")
def test_slow_reads_trigger_an_alarm(stage: Stage) -> None:
    client = stage.client(stage.resources)
    quick, slow = stage.request(client, "/health", 20), stage.request(client, "/health", 1_500)
    alarm = alarms(stage.template)["SlowReads"]
    assert states(stage, [alarm], quick * 95 + slow * 5, quick * 100) == [False, True, False]


@pytest.mark.row("X-15")
def test_reads_that_wait_for_other_systems_do_not_count(stage: Stage) -> None:
    paths = ("/chats/1/window", "/clusters", "/models", "/connectors/1/files", "/connectors", "/actions")
    points = {path: stage.logged("GET", path, 200, 60_000) for path in paths}
    measured = [path for path, found in points.items() if "ReadLatency" in {each.name for each in found}]
    assert measured == ["/connectors", "/actions"]


@pytest.mark.row("X-15")
def test_late_first_tokens_trigger_an_alarm(stage: Stage) -> None:
    def chats(milliseconds: float) -> list[Point]:
        now = stage.resources.clock()
        rows = [
            {**call(now, first_token_ms=milliseconds).model_dump(), "PK": f"log#{SPACE}", "SK": call(now).id}
            for _ in range(10)
        ]
        return stage.printed(
            ROLL_UP_INFERENCE_LOGS.name, lambda: roll_up_inference_logs(stream_event(rows), stage.resources)
        )

    late, quick = chats(8_000), chats(400)
    assert len(late) == len(quick) == 10
    assert states(stage, [alarms(stage.template)["SlowFirstTokens"]], late, quick) == [False, True, False]


@pytest.mark.row("X-15")
def test_a_job_that_never_ends_triggers_an_alarm(stage: Stage) -> None:
    resources = stage.resources
    opened = resources.clock() - JobKind.SCAN.longest - timedelta(hours=2)

    def reconciled_with(kind: JobKind) -> list[Point]:
        table = resources.table
        job_id = "0197a3c0-0000-7000-8000-000000000001"
        table.transact(Jobs(table, lambda: opened).open(kind, SPACE, job_id, parent_id=job_id))
        return stage.printed(RECONCILE_JOBS.name, lambda: reconcile_jobs(resources, 60))

    overdue, young = reconciled_with(JobKind.SCAN), reconciled_with(JobKind.TRAINING)
    assert ([one.value for one in overdue], [one.value for one in young]) == ([1], [0])
    assert states(stage, [alarms(stage.template)["JobsOverdue"]], overdue, young) == [False, True, False]


@pytest.mark.row("X-15", "C-2")
def test_a_call_for_another_space_triggers_its_alarm(stage: Stage, resources: Resources) -> None:
    def ask_for(space_id: str) -> list[Point]:
        step = workflow_step(lambda _: {"row": resources.table.get(Key(f"action#{space_id}", "1"))})

        def run() -> None:
            with suppress(ForeignSpaceError):
                step({"space_id": SPACE}, None)

        return stage.printed("actions", run)

    foreign, own = ask_for(SPACE.replace("a", "b")), ask_for(SPACE)
    assert states(stage, [alarms(stage.template)["ForeignSpaceCalls"]], foreign, own) == [False, True, False]


@pytest.mark.row("X-15")
def test_a_failing_new_version_triggers_its_alarm(stage: Stage, broken: TestClient) -> None:
    for group in GROUPS:
        start = f"The new version of {group.name} fails"
        [alarm] = [one for one in alarms(stage.template).values() if one["AlarmDescription"].startswith(start)]
        [version] = {
            stage.physical(dimension["Value"])
            for one in alarm["Metrics"]
            for dimension in one.get("MetricStat", {}).get("Metric", {}).get("Dimensions", [])
            if dimension["Name"] in ("ExecutedVersion", "version")
        }

        def failing(version: str, function: str = group.name) -> list[Point]:
            run = partial(broken.get, "/actions")
            return stage.printed(function, run, AWS_LAMBDA_FUNCTION_VERSION=version) * 3

        assert states(stage, [alarm], failing(version), []) == [False, True, False], group.name
        # Failures of the previous version do not trigger the alarm.
        assert states(stage, [alarm], failing("previous"), []) == [False, False, False], group.name


@pytest.mark.row("SE-7")
def test_a_webhook_secret_that_is_no_key_triggers_an_alarm(stage: Stage) -> None:
    def refused() -> list[Point]:
        client = stage.client(stage.resources)
        return stage.printed("webhooks", lambda: client.post("/webhooks", json={}))

    healthy = refused()
    stage.resources.secrets_manager.put_secret_value(SecretId=WEBHOOK_SECRET_NAME, SecretString="no key!")
    stage.resources = Resources(stage.resources.settings)
    assert states(stage, [alarms(stage.template)["WebhookKeyUnusable"]], refused(), healthy) == [False, True, False]


# --- metrics of AWS

DEPLOYED = "inference-prod-"


def lambda_metric(function: str, name: str, value: float) -> list[Point]:
    return [Point("AWS/Lambda", name, value, {"FunctionName": DEPLOYED + function})]


def machine_metric(stage: Stage, name: str, metric: str, value: float) -> list[Point]:
    machines = stage.template.resources("AWS::StepFunctions::StateMachine")
    [machine] = [one["Properties"]["StateMachineName"] for key, one in machines.items() if key.startswith(name)]
    arn = f"arn:AWS::Partition:states:AWS::Region:AWS::AccountId:stateMachine:{machine}"
    return [Point("AWS/States", metric, value, {"StateMachineArn": arn})]


def queue_metric(stage: Stage, name: str, metric: str, value: float) -> list[Point]:
    queues = stage.template.resources("AWS::SQS::Queue")
    [queue] = [one["Properties"]["QueueName"] for key, one in queues.items() if key[:-8] == name]
    return [Point("AWS/SQS", metric, value, {"QueueName": queue})]


def aws_metrics(stage: Stage, name: str) -> tuple[list[Point], list[Point]]:
    """Returns the metrics that AWS publishes with and without the fault that an alarm detects."""
    for workflow in Workflow:
        title = workflow.title().replace("-", "")
        if name == f"{title}Fails":
            defect = explain("KeyError", '{"errorMessage": "x", "errorType": "KeyError"}')
            return stage.printed(FAIL_STEPS[workflow].name, partial(count_failed_job, defect)) * 10, []
        if name == f"{title}TimesOut":
            return machine_metric(stage, title, "ExecutionsTimedOut", 1), []
    if queue := name.removesuffix("Waiting") if name.endswith("Waiting") else "":
        metric = "ApproximateNumberOfMessagesVisible"
        return queue_metric(stage, queue, metric, 1), queue_metric(stage, queue, metric, 0)
    age = "ApproximateAgeOfOldestMessage"
    return {
        "Throttles": ([Point("AWS/Lambda", "Throttles", 4)], [Point("AWS/Lambda", "Throttles", 0)]),
        "ReconcilerFails": (lambda_metric("reconcile-jobs", "Errors", 1), lambda_metric("reconcile-jobs", "Errors", 0)),
        "PurgeFails": (lambda_metric("purge-spaces", "Errors", 1), []),
        "RollUpsLag": (
            lambda_metric("roll-up-inference-logs", "IteratorAge", 400_000),
            lambda_metric("roll-up-inference-logs", "IteratorAge", 90),
        ),
        "AuditLags": (
            lambda_metric("write-audit-log", "IteratorAge", 400_000),
            lambda_metric("write-audit-log", "IteratorAge", 90),
        ),
        "WebhooksLag": (
            lambda_metric("publish-webhook-events", "IteratorAge", 400_000),
            lambda_metric("publish-webhook-events", "IteratorAge", 90),
        ),
        "ScansWait": (queue_metric(stage, "ObjectEvents", age, 400), queue_metric(stage, "ObjectEvents", age, 2)),
    }[name]


SERVICE_METRICS = {"SlowReads", "SlowFirstTokens", "JobsOverdue", "ForeignSpaceCalls", "WebhookKeyUnusable"}


@pytest.mark.row("X-15")
def test_each_alarm_on_aws_metrics_starts_and_ends_with_its_fault(stage: Stage) -> None:
    evaluated = set()
    for name, alarm in alarms(stage.template).items():
        if name in SERVICE_METRICS or name.startswith("AvailabilityBurns") or runbook(alarm) == "new-version-fails":
            continue
        fault, health = aws_metrics(stage, name)
        assert states(stage, [alarm], fault, health) == [False, True, False], name
        evaluated.add(name)
    assert len(evaluated) >= 16
