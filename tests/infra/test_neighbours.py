"""Floods of one tenant move no alarm and roll no release back. The same number of failures of ours does."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events import authorize
from functions.events.roll_up_inference_logs import roll_up_inference_logs
from infra.groups import AUTHORIZE, FAIL_STEPS, ROLL_UP_INFERENCE_LOGS, Workflow
from shared.dynamodb.table import Table
from shared.errors import ContendedError
from shared.jobs.failures import count_failed_job, explain
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.cloudwatch import Point
from tests.fixtures.identity import Issuer
from tests.fixtures.inference_logs import call, stream_event
from tests.fixtures.upstream import FakeUpstream, Refusal, served
from tests.infra.stage_metrics import SPACE, Stage, alarms, composed, runbook, states

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "model": "small"}
DEAD = "http://127.0.0.1:9/v1"
# Of a hundred requests of a minute. Four failures of ours set off the alarms of availability.
FLOOD = 50


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True, "upstream_timeout_seconds": 1})


@pytest.fixture
def tenant(stage: Stage, issuer: Issuer) -> TestClient:
    """Returns a client of a tenant with a space."""
    client = stage.client(stage.resources)
    client.headers["Authorization"] = f"Bearer {issuer.token('mallory')}"
    client.headers["X-Space-Id"] = client.post("/spaces", json={"name": "Loud", "description": ""}).json()["id"]
    return client


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream()) as upstream:
        yield upstream


def version_of(stage: Stage, function: str) -> str:
    """Returns the version that the release alarm of a function watches."""
    [alarm] = [one for one in alarms(stage.template).values() if f" of {function} fails" in one["AlarmDescription"]]
    dimensions = [
        each for one in alarm["Metrics"] for each in one.get("MetricStat", {}).get("Metric", {}).get("Dimensions", [])
    ]
    return next(stage.physical(each["Value"]) for each in dimensions if each["Name"] == "version")


def alarms_after(stage: Stage, flood: list[Point]) -> set[str]:
    """Returns the alarms that are on after a minute's flood among healthy requests, repeated for all their windows."""
    healthy = stage.request(stage.client(stage.resources), "/health") * (100 - FLOOD)
    found = {
        name for name in ("AvailabilityBurnsFast", "AvailabilityBurnsSlowly")
        if states(stage, composed(stage, name), [*healthy, *flood], healthy)[1]
    }  # fmt: skip
    for name, alarm in alarms(stage.template).items():
        if not name.startswith("AvailabilityBurns") and states(stage, [alarm], [*healthy, *flood], healthy)[1]:
            found.add(name if runbook(alarm) != "new-version-fails" else "release")
    return found


def register(tenant: TestClient, address: str, **more: Any) -> None:
    body = {"ingress_url": address, "manager_url": address, "default_model": "small", **more}
    assert tenant.post("/clusters", json=body).status_code == 201


def chat(stage: Stage, tenant: TestClient, body: Any = HELLO) -> list[Point]:
    return stage.request(tenant, "/chats", method="POST", body=body, version=version_of(stage, "chats"))


def read(stage: Stage, tenant: TestClient, path: str, milliseconds: int = 20) -> list[Point]:
    return stage.request(tenant, path, milliseconds, version=version_of(stage, path.split("/")[1]))


def bad_tokens(stage: Stage, *_: Any) -> list[Point]:
    """Returns the metrics of a bad token: API Gateway's response, and an error if the authorizer raises one."""
    event = {"authorizationToken": "Bearer x.y.z", "methodArn": "arn:aws:execute-api:us-east-1:0:a/api/GET/actions"}
    points = stage.logged("GET", "/actions", 401, error="ACCESS_DENIED")
    try:
        authorize.handler(event, None)
    except Exception:  # noqa: BLE001 - Lambda counts all errors that a function raises
        version = version_of(stage, AUTHORIZE.name)
        names = {"FunctionName": "inference-prod-authorize", "ExecutedVersion": version}
        points.append(Point("AWS/Lambda", "Errors", 1, {**names, "Resource": "inference-prod-authorize:live"}))
    return points


def unknown_ids(stage: Stage, tenant: TestClient, *_: Any) -> list[Point]:
    return read(stage, tenant, "/actions/nothing") + read(stage, tenant, f"/checkpoints/aliases/{'x' * 1100}")


def bad_bodies(stage: Stage, tenant: TestClient, *_: Any) -> list[Point]:
    return chat(stage, tenant, {"messages": "hello"}) + chat(stage, tenant, HELLO | {"model": 5})


def foreign_schemas(stage: Stage, tenant: TestClient, upstream: FakeUpstream) -> list[Point]:
    register(tenant, upstream.url)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$schema": "https://elsewhere.example/s"}}}
    body = {"name": "Loans", "description": "", "tools": [tool]}
    return stage.request(tenant, "/experts", method="POST", body=body, version=version_of(stage, "experts"))


def no_cluster(stage: Stage, tenant: TestClient, *_: Any) -> list[Point]:
    return chat(stage, tenant) + read(stage, tenant, "/models")


def dead_cluster(stage: Stage, tenant: TestClient, *_: Any) -> list[Point]:
    register(tenant, DEAD)
    guarded = chat(stage, tenant, HELLO | {"guard_enabled": True})
    return chat(stage, tenant) + guarded + read(stage, tenant, "/models") + read(stage, tenant, "/clusters", 4_500)


def silent_cluster(stage: Stage, tenant: TestClient, upstream: FakeUpstream) -> list[Point]:
    upstream.delay_seconds = 3
    register(tenant, upstream.url)
    return chat(stage, tenant)


def odd_cluster(stage: Stage, tenant: TestClient, upstream: FakeUpstream) -> list[Point]:
    register(tenant, upstream.url)
    points = []
    for answer in (b"[" * 100_000, b'{"choices": 5}', b'{"choices": [{"message": {"content": 1e400}}]}', Refusal(500)):
        upstream.script = partial(_same, answer)
        points += chat(stage, tenant)
    return points


def _same(answer: Any, _: Any) -> Any:
    return answer


def busy_cluster(stage: Stage, tenant: TestClient, upstream: FakeUpstream) -> list[Point]:
    upstream.script = lambda _: Refusal(429)
    register(tenant, upstream.url)
    return chat(stage, tenant) + chat(stage, tenant, HELLO | {"guard_enabled": True})


def slow_tokens(stage: Stage, *_: Any) -> list[Point]:
    now = stage.resources.clock()
    row = {**call(now, first_token_ms=9_000.0).model_dump(), "PK": f"log#{SPACE}", "SK": call(now).id}
    rows = [{**row, "is_own_cluster": True}]
    return stage.printed(
        ROLL_UP_INFERENCE_LOGS.name, lambda: roll_up_inference_logs(stream_event(rows), stage.resources)
    )


def failing_jobs(stage: Stage, *_: Any) -> list[Point]:
    failure = explain("JobFailedError", '{"errorMessage": "The file is empty.", "errorType": "JobFailedError"}')
    return stage.printed(FAIL_STEPS[Workflow.TRAINING].name, lambda: count_failed_job(failure))


FLOODS: list[Callable[..., list[Point]]] = [
    bad_tokens, unknown_ids, bad_bodies, foreign_schemas, no_cluster, dead_cluster, silent_cluster, odd_cluster,
    busy_cluster, slow_tokens, failing_jobs,
]  # fmt: skip


@pytest.mark.row("SE-4", "X-15")
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_one_tenant_sets_off_no_alarm(
    stage: Stage, tenant: TestClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, flood: Any
) -> None:
    for name, value in stage.resources.settings.model_dump(exclude_none=True).items():
        monkeypatch.setenv(name.upper(), str(value))
    authorize._resources.cache_clear()
    points = flood(stage, tenant, upstream)
    assert alarms_after(stage, points * FLOOD) == set()


@pytest.mark.row("SE-4", "X-15")
def test_writers_who_disturb_each_other_set_off_no_alarm(
    stage: Stage, tenant: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contend(*_: Any) -> None:
        raise ContendedError("Too many simultaneous writes to the same items.")

    monkeypatch.setattr(Table, "transact", contend)
    points = stage.request(tenant, "/data-models", method="POST", body={"name": "Churn"})
    assert [point.value for point in points if point.name == "5XXError"] == [1]
    assert alarms_after(stage, points * FLOOD) == set()


@pytest.mark.row("SE-4", "X-15")
def test_as_many_failures_of_ours_set_off_the_alarms(stage: Stage, broken: TestClient) -> None:
    failed = read(stage, broken, "/actions")
    assert alarms_after(stage, failed * FLOOD) == {"AvailabilityBurnsFast", "AvailabilityBurnsSlowly", "release"}


@pytest.mark.row("SE-4", "X-15")
def test_an_outage_of_the_shared_cluster_is_a_failure_of_ours(
    stage: Stage, settings: Settings, tenant: TestClient
) -> None:
    shared = stage.client(Resources(settings.model_copy(update={"default_cluster_url": DEAD})))
    shared.headers.update(tenant.headers)
    points = chat(stage, shared)
    assert alarms_after(stage, points * FLOOD) == {"AvailabilityBurnsFast", "AvailabilityBurnsSlowly"}


@pytest.mark.row("SE-4", "X-15")
def test_slow_tokens_and_failed_jobs_of_ours_set_off_their_alarms(stage: Stage) -> None:
    now = stage.resources.clock()
    rows = [{**call(now, first_token_ms=9_000.0).model_dump(), "PK": f"log#{SPACE}", "SK": call(now).id}]
    slow = stage.printed(
        ROLL_UP_INFERENCE_LOGS.name, lambda: roll_up_inference_logs(stream_event(rows), stage.resources)
    )
    defect = explain("KeyError", '{"errorMessage": "x", "errorType": "KeyError"}')
    failed = stage.printed(FAIL_STEPS[Workflow.TRAINING].name, partial(count_failed_job, defect))
    assert alarms_after(stage, [*slow, *failed] * FLOOD) == {"SlowFirstTokens", "TrainingFails"}
