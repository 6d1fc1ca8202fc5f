"""Each alarm starts during the fault that it detects and ends after the fault.

The real code of the service makes its metrics: functions run during the fault, and the tests read the metrics from
their output and from the access log that API Gateway would write. Metrics of AWS are constants.
"""

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from functions.events.reconcile_jobs import reconcile_jobs
from functions.events.roll_up_inference_logs import roll_up_inference_logs
from infra.groups import GROUPS, RECONCILE_JOBS, ROLL_UP_INFERENCE_LOGS
from shared.jobs.store import Jobs
from shared.models.job_reference import JobKind
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.cloudwatch import CloudWatch, Point, embedded_points, filtered_points, window
from tests.fixtures.inference_logs import call, stream_event
from tests.infra.conftest import Synthesised

MINUTE = 60
SPACE = "0197a3c0-0000-7000-8000-00000000000a"
Properties = dict[str, Any]


def alarms(stage: Synthesised, kind: str = "Alarm") -> dict[str, Properties]:
    """Returns the alarms by their construct ids."""
    found = stage.resources(f"AWS::CloudWatch::{kind}")
    return {name[:-8]: {**resource["Properties"], "_id": name} for name, resource in found.items()}


def runbook(alarm: Properties) -> str:
    found: str = alarm["AlarmDescription"].rpartition("docs/runbooks/")[2].removesuffix(".md")
    return found


class Stage:
    """A stage that runs its functions and returns the metrics that AWS would record."""

    def __init__(
        self,
        prod: Synthesised,
        resources: Resources,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.template, self.resources = prod, resources
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def physical(self, value: Any) -> str:
        """Resolves a reference to a name, or to a logical id if only AWS knows the name."""
        match value:
            case str(name):
                return name
            case {"Ref": name} | {"Fn::GetAtt": [name, "Version" | "QueueName" | "Arn"]}:
                functions = self.template.resources("AWS::Lambda::Function")
                return str(functions[name]["Properties"]["FunctionName"]) if name in functions else str(name)
            case {"Fn::ImportValue": export}:
                outputs = (one for stack in self.template.stacks for one in self.outputs(stack))
                return self.physical(next(one["Value"] for one in outputs if one.get("Export") == {"Name": export}))
            case {"Fn::Join": [separator, parts]}:
                return str(separator).join(map(self.physical, parts))
        raise ValueError(f"no name for {value}")

    def outputs(self, stack: str) -> Iterable[Properties]:
        return list(self.template.template(stack).get("Outputs", {}).values())

    def printed(self, function: str, run: Callable[[], Any], **environment: str) -> list[Point]:
        """Returns the metrics that ``run`` prints with the environment of a deployed function."""
        [deployed] = [
            one
            for one in self.template.properties("AWS::Lambda::Function")
            if one["FunctionName"] == f"inference-prod-{function}"
        ]
        for name, value in {**deployed["Environment"]["Variables"], **environment}.items():
            if name.startswith(("POWERTOOLS_", "AWS_LAMBDA_FUNCTION_")):
                self._monkeypatch.setenv(name, value)
        self._capsys.readouterr()
        run()
        return list(embedded_points(self._capsys.readouterr().out))

    def request(self, client: TestClient, path: str, milliseconds: int) -> list[Point]:
        """Returns the metrics of a GET from API Gateway and from its access log."""
        status = client.get(path).status_code
        [deployed] = self.template.properties("AWS::ApiGateway::Stage")
        context = {
            "$context.status": str(status),
            "$context.httpMethod": "GET",
            "$context.resourcePath": path,
            "$context.error.responseType": "-",
            "$context.responseLatency": str(milliseconds),
        }
        text = deployed["AccessLogSetting"]["Format"]
        for name, value in context.items():
            text = text.replace(name, value)
        api = {"ApiName": "inference-prod-api", "Stage": "api"}
        return [
            Point("AWS/ApiGateway", "Count", 1, api),
            Point("AWS/ApiGateway", "5XXError", status >= 500, api),
            *filtered_points(self.template.properties("AWS::Logs::MetricFilter"), json.loads(text)),
        ]

    def client(self, resources: Resources) -> TestClient:
        return TestClient(build_api(resources), raise_server_exceptions=False)


@pytest.fixture
def stage(
    prod: Synthesised,
    resources: Resources,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    return Stage(prod, resources, capsys, monkeypatch)


@pytest.fixture
def broken(settings: Settings, stage: Stage, issuer: Any) -> TestClient:
    """Returns a client of an API without a table."""
    client = stage.client(Resources(settings.model_copy(update={"table_name": "missing"})))
    client.headers["Authorization"] = f"Bearer {issuer.token('alice')}"
    client.headers["X-Space-Id"] = SPACE
    return client


def states(stage: Stage, parts: list[Properties], fault: list[Point], health: list[Point]) -> list[bool]:
    """Returns whether all parts of an alarm are on before a fault, at its end and after it."""
    minutes = max(map(window, parts)) // MINUTE
    cloudwatch = CloudWatch(stage.physical)
    found = []
    for phase, points in enumerate((health, fault, health)):
        for minute in range(minutes):
            cloudwatch.record((phase * minutes + minute + 1) * MINUTE, points)
        found.append(all(cloudwatch.is_alarm(one, (phase + 1) * minutes * MINUTE) for one in parts))
    return found


def composed(stage: Stage, name: str) -> list[Properties]:
    """Returns the parts of a composite alarm that needs all of them."""
    rule = alarms(stage.template, "CompositeAlarm")[name]["AlarmRule"]
    parts = rule["Fn::Join"][1]
    named = [part["Fn::GetAtt"][0] for part in parts if isinstance(part, dict)]
    text = "".join("?" if isinstance(part, dict) else part for part in parts)
    assert text == '(ALARM("?") AND ALARM("?"))'
    children = {one["_id"]: one for one in alarms(stage.template).values()}
    return [children[name] for name in named]


# --- metrics of the service


@pytest.mark.row("X-15")
@pytest.mark.parametrize("name", ["AvailabilityBurnsFast", "AvailabilityBurnsSlowly"])
def test_failing_requests_trigger_the_availability_alarms(stage: Stage, broken: TestClient, name: str) -> None:
    healthy = stage.request(stage.client(stage.resources), "/health", 20)
    failed = stage.request(broken, "/actions", 20)
    assert failed[1].value == 1
    # 4% of failures exceed the threshold of both alarms.
    assert states(stage, composed(stage, name), healthy * 96 + failed * 4, healthy * 100) == [False, True, False]


@pytest.mark.row("X-15")
def test_a_fault_that_has_ended_does_not_trigger_the_fast_alarm(stage: Stage, broken: TestClient) -> None:
    [long, short] = sorted(composed(stage, "AvailabilityBurnsFast"), key=window, reverse=True)
    healthy = stage.request(stage.client(stage.resources), "/health", 20)
    failed = stage.request(broken, "/actions", 20)
    cloudwatch = CloudWatch(stage.physical)
    for minute in range(1, 61):
        cloudwatch.record(minute * MINUTE, failed * 50 if 40 < minute <= 45 else healthy * 50)
    assert cloudwatch.is_alarm(long, 3600)
    assert not cloudwatch.is_alarm(short, 3600)


@pytest.mark.row("X-15")
def test_errors_of_systems_that_spaces_use_do_not_count_as_failures(stage: Stage) -> None:
    filters = stage.template.properties("AWS::Logs::MetricFilter")
    line = {"method": "POST", "route": "/insights", "latency_ms": 5}
    found = {
        (status, error): [one.name for one in filtered_points(filters, {**line, "status": status, "error": error})]
        for status, error in (("502", "-"), ("504", "-"), ("500", "-"), ("503", "-"), ("504", "INTEGRATION_TIMEOUT"))
    }
    assert [bool(names) for names in found.values()] == [False, False, True, True, True]


@pytest.mark.row("X-15")
def test_slow_reads_trigger_an_alarm(stage: Stage) -> None:
    client = stage.client(stage.resources)
    quick, slow = stage.request(client, "/health", 20), stage.request(client, "/health", 1_500)
    alarm = alarms(stage.template)["SlowReads"]
    assert states(stage, [alarm], quick * 95 + slow * 5, quick * 100) == [False, True, False]


@pytest.mark.row("X-15")
def test_chats_do_not_count_as_reads(stage: Stage) -> None:
    line = {"method": "GET", "status": "200", "error": "-", "latency_ms": 60_000}
    filters = stage.template.properties("AWS::Logs::MetricFilter")
    measured = [
        route for route in ("/chats/{proxy+}", "/actions") if list(filtered_points(filters, line | {"route": route}))
    ]
    assert measured == ["/actions"]


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


# --- metrics of AWS

DEPLOYED = "inference-prod-"


def lambda_metric(function: str, name: str, value: float) -> list[Point]:
    return [Point("AWS/Lambda", name, value, {"FunctionName": DEPLOYED + function})]


def machine_metric(stage: Stage, name: str, metric: str, value: float) -> list[Point]:
    machines = stage.template.resources("AWS::StepFunctions::StateMachine")
    [machine] = [one["Properties"]["StateMachineName"] for id, one in machines.items() if id.startswith(name)]
    arn = f"arn:AWS::Partition:states:AWS::Region:AWS::AccountId:stateMachine:{machine}"
    return [Point("AWS/States", metric, value, {"StateMachineArn": arn})]


def queue_metric(stage: Stage, name: str, metric: str, value: float) -> list[Point]:
    queues = stage.template.resources("AWS::SQS::Queue")
    [queue] = [one["Properties"]["QueueName"] for id, one in queues.items() if id[:-8] == name]
    return [Point("AWS/SQS", metric, value, {"QueueName": queue})]


def aws_metrics(stage: Stage, name: str) -> tuple[list[Point], list[Point]]:
    """Returns the metrics that AWS publishes with and without the fault that an alarm detects."""
    for ending, metric, many in (("Fails", "ExecutionsFailed", 10), ("TimesOut", "ExecutionsTimedOut", 1)):
        workflow = name.removesuffix(ending)
        if ending in name and workflow in ("Training", "Evaluation", "ConnectorScan"):
            return machine_metric(stage, workflow, metric, many), []
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


SERVICE_METRICS = {"SlowReads", "SlowFirstTokens", "JobsOverdue"}


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
