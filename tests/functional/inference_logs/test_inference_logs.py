from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.roll_up_inference_logs import roll_up_inference_logs
from shared.clock import new_id
from shared.dynamodb.table import Table
from shared.inference_logs.store import SHARDS
from shared.resources import Resources
from tests.fixtures.aws import LOGS_TABLE
from tests.fixtures.inference_logs import call, stream_event

HOUR = timedelta(hours=1)


def record(client: TestClient, resources: Resources, **changes: Any) -> str:
    """Records a call in the client's space and returns its id."""
    now = datetime.now(UTC)
    changes = {"id": new_id(), **changes}
    resources.inference_logs.record(str(client.headers["X-Space-Id"]), call(now, **changes))
    return str(changes["id"])


@pytest.mark.row("IL-1")
def test_a_call_is_listed_with_all_its_fields(client: TestClient, resources: Resources) -> None:
    log_id = record(client, resources, tags=["night"], latency_ms=20.125, error="the server broke", status="error")
    response = client.get("/inference-logs").json()
    assert (response["count"], response["has_more"]) == (1, False)
    [row] = response["data"]
    assert {
        "id": log_id,
        "type": "chat",
        "model": "small",
        "user": "ann",
        "status": "error",
        "tags": ["night"],
        "correlation_id": "request-1",
        "input_tokens": 3,
        "output_tokens": 4,
        "total_tokens": 7,
        "latency_ms": 20.125,
        "error": "the server broke",
    }.items() <= row.items()
    assert row["created_at"].endswith("Z")


@pytest.mark.row("IL-1")
@pytest.mark.parametrize("name", ["user", "model", "status", "type", "tag", "correlation_id"])
def test_each_filter_finds_the_only_matching_call(client: TestClient, resources: Resources, name: str) -> None:
    other = {"user": "bob", "model": "large", "status": "blocked", "type": "guard", "tag": "x", "correlation_id": "r2"}
    for _ in range(2):
        record(client, resources)
    wanted = record(client, resources, **({"tags": ["x", "y"]} if name == "tag" else {name: other[name]}))
    response = client.get("/inference-logs", params={name: other[name]}).json()
    assert (response["count"], [row["id"] for row in response["data"]]) == (1, [wanted])


@pytest.mark.row("IL-2")
def test_calls_with_repeated_stream_records_are_counted_once(client: TestClient, resources: Resources) -> None:
    for _ in range(3):
        record(client, resources)
    table = Table(resources.dynamodb, LOGS_TABLE)
    rows = [row for shard in range(SHARDS) for row in table.query(f"log#{client.headers['X-Space-Id']}#{shard}")]
    for _ in range(2):
        roll_up_inference_logs(stream_event(rows), resources)
    assert client.get("/inference-logs/summary").json()["total_calls"] == 3


def test_the_pages_return_each_call_once_and_the_newest_first(client: TestClient, resources: Resources) -> None:
    created = [record(client, resources) for _ in range(5)]
    pages = [client.get(f"/inference-logs?page={number}&page_size=2").json() for number in (1, 2, 3, 4)]
    assert [row["id"] for page in pages for row in page["data"]] == created[::-1]
    assert [page["has_more"] for page in pages] == [True, True, False, False]
    assert client.get("/inference-logs?page=2&pageSize=2").json() == pages[1]
    assert {page["count"] for page in pages} == {5}


@pytest.mark.row("IL-1")
@pytest.mark.parametrize("path", ["/inference-logs", "/inference-logs/summary"])
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("start_date=2026-02-02&end_date=2026-02-01", {"query.start_date", "query.end_date"}),
        ("start_date=yesterday", {"query.start_date"}),
        ("end_date=2026-13-01", {"query.end_date"}),
        ("type=poem", {"query.type"}),
    ],
)
def test_an_invalid_query_is_refused_with_the_names_of_the_fields(
    client: TestClient, path: str, query: str, named: set[str]
) -> None:
    response = client.get(f"{path}?{query}")
    assert response.status_code == 400
    assert {detail["field"] for detail in response.json()["details"]} == named


def test_an_unknown_status_is_refused_with_the_valid_statuses(client: TestClient) -> None:
    response = client.get("/inference-logs?status=fine")
    assert response.status_code == 400
    for choice in ("success", "error", "blocked", "cancelled"):
        assert f"'{choice}'" in response.json()["error"]


@pytest.mark.row("IL-2")
def test_a_summary_covers_the_last_30_days_by_default(client: TestClient, resources: Resources) -> None:
    record(client, resources, latency_ms=10)
    record(client, resources, latency_ms=20.001, model="large", status="error")
    summary = client.get("/inference-logs/summary").json()
    assert {
        "total_calls": 2,
        "success_rate": 0.5,
        "avg_latency_ms": 15.0005,
        "input_tokens": 6,
        "output_tokens": 8,
        "total_tokens": 14,
        "model_usage": {"large": 1, "small": 1},
    }.items() <= summary.items()
    start, end = (datetime.fromisoformat(summary[f"period_{edge}_date"]) for edge in ("start", "end"))
    assert end - start == timedelta(days=30)
    assert datetime.now(UTC) - end < timedelta(minutes=1)


@pytest.mark.row("IL-2")
def test_the_summary_of_an_empty_period_contains_zeros(client: TestClient) -> None:
    summary = client.get("/inference-logs/summary").json()
    figures = {name: value for name, value in summary.items() if not name.startswith("period_")}
    assert figures.pop("model_usage") == {}
    assert set(figures.values()) == {0}
    assert len(summary) == 9


@pytest.mark.row("IL-2")
def test_a_summary_accepts_a_start_or_an_end_alone(client: TestClient, resources: Resources) -> None:
    record(client, resources)
    now = datetime.now(UTC)

    def calls(**query: Any) -> int:
        response = client.get("/inference-logs/summary", params=query)
        assert response.status_code == 200, response.text
        return int(response.json()["total_calls"])

    assert calls(start_date=(now - HOUR).isoformat()) == 1
    assert calls(start_date=(now + HOUR).isoformat()) == 0
    assert calls(end_date=(now + HOUR).isoformat()) == 1
    assert calls(end_date=(now - HOUR).isoformat()) == 0
    # An end without a time includes the whole day.
    assert calls(end_date=(now + timedelta(hours=13)).date().isoformat()) == 1
    assert calls(end_date="0001-01-02") == calls(start_date="9999-12-31") == 0
    assert calls(start_date="0001-01-01") == calls(end_date="9999-12-31T23:59:59Z", start_date="2020-01-01") == 1


def test_another_space_sees_no_calls(client: TestClient, other_client: TestClient, resources: Resources) -> None:
    record(client, resources, tags=["x"])
    for query in ("", "?user=ann", "?model=small", "?tag=x", "?correlation_id=request-1"):
        assert other_client.get(f"/inference-logs{query}").json() == {"count": 0, "data": [], "has_more": False}
    assert other_client.get("/inference-logs/summary").json()["total_calls"] == 0


def test_a_caller_without_a_token_cannot_read_the_logs(anonymous: TestClient) -> None:
    assert anonymous.get("/inference-logs").status_code == 401
    assert anonymous.get("/inference-logs/summary").status_code == 401
