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
    """Returns a call of just now, in the client's space; answers its id."""
    now = datetime.now(UTC)
    changes = {"id": new_id(), **changes}
    resources.inference_logs.record(str(client.headers["X-Space-Id"]), call(now, **changes))
    return str(changes["id"])


@pytest.mark.row("IL-1")
def test_a_call_is_listed_with_all_that_is_known_of_it(client: TestClient, resources: Resources) -> None:
    log_id = record(client, resources, tags=["night"], latency_ms=20.125, error="the server broke", status="error")
    answer = client.get("/inference-logs").json()
    assert (answer["count"], answer["has_more"]) == (1, False)
    [row] = answer["data"]
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
def test_each_filter_finds_the_one_call_that_differs(client: TestClient, resources: Resources, name: str) -> None:
    other = {"user": "bob", "model": "large", "status": "blocked", "type": "guard", "tag": "x", "correlation_id": "r2"}
    for _ in range(2):
        record(client, resources)
    wanted = record(client, resources, **({"tags": ["x", "y"]} if name == "tag" else {name: other[name]}))
    answer = client.get("/inference-logs", params={name: other[name]}).json()
    assert (answer["count"], [row["id"] for row in answer["data"]]) == (1, [wanted])


@pytest.mark.row("IL-2")
def test_calls_with_repeated_stream_records_are_summed_up_once(client: TestClient, resources: Resources) -> None:
    for _ in range(3):
        record(client, resources)
    table = Table(resources.dynamodb, LOGS_TABLE)
    rows = [row for shard in range(SHARDS) for row in table.query(f"log#{client.headers['X-Space-Id']}#{shard}")]
    for _ in range(2):
        roll_up_inference_logs(stream_event(rows), resources)
    assert client.get("/inference-logs/summary").json()["total_calls"] == 3


def test_pages_follow_one_another_newest_first_under_either_spelling(client: TestClient, resources: Resources) -> None:
    made = [record(client, resources) for _ in range(5)]
    pages = [client.get(f"/inference-logs?page={number}&page_size=2").json() for number in (1, 2, 3, 4)]
    assert [row["id"] for page in pages for row in page["data"]] == made[::-1]
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
def test_what_cannot_be_asked_is_refused_by_name(client: TestClient, path: str, query: str, named: set[str]) -> None:
    answer = client.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert {detail["field"] for detail in answer.json()["details"]} == named


def test_an_unknown_status_is_refused_with_the_choices(client: TestClient) -> None:
    answer = client.get("/inference-logs?status=fine")
    assert answer.status_code == 400
    for choice in ("success", "error", "blocked", "cancelled"):
        assert f"'{choice}'" in answer.json()["error"]


@pytest.mark.row("IL-2")
def test_a_summary_adds_up_the_last_30_days_and_says_so(client: TestClient, resources: Resources) -> None:
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
def test_an_empty_period_is_zeros(client: TestClient) -> None:
    summary = client.get("/inference-logs/summary").json()
    figures = {name: value for name, value in summary.items() if not name.startswith("period_")}
    assert figures.pop("model_usage") == {}
    assert set(figures.values()) == {0}
    assert len(summary) == 9


@pytest.mark.row("IL-2")
def test_one_date_alone_works(client: TestClient, resources: Resources) -> None:
    record(client, resources)
    now = datetime.now(UTC)

    def calls(**query: Any) -> int:
        answer = client.get("/inference-logs/summary", params=query)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["total_calls"])

    assert calls(start_date=(now - HOUR).isoformat()) == 1
    assert calls(start_date=(now + HOUR).isoformat()) == 0
    assert calls(end_date=(now + HOUR).isoformat()) == 1
    assert calls(end_date=(now - HOUR).isoformat()) == 0
    assert calls(end_date=(now + timedelta(hours=13)).date().isoformat()) == 1  # all of that day
    assert calls(end_date="0001-01-02") == calls(start_date="9999-12-31") == 0
    assert calls(start_date="0001-01-01") == calls(end_date="9999-12-31T23:59:59Z", start_date="2020-01-01") == 1


def test_another_space_sees_nothing(client: TestClient, other_client: TestClient, resources: Resources) -> None:
    record(client, resources, tags=["x"])
    for query in ("", "?user=ann", "?model=small", "?tag=x", "?correlation_id=request-1"):
        assert other_client.get(f"/inference-logs{query}").json() == {"count": 0, "data": [], "has_more": False}
    assert other_client.get("/inference-logs/summary").json()["total_calls"] == 0


def test_logs_are_for_members_only(anonymous: TestClient) -> None:
    assert anonymous.get("/inference-logs").status_code == 401
    assert anonymous.get("/inference-logs/summary").status_code == 401
