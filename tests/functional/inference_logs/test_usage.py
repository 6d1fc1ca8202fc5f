"""Usage by day, hour, model, type and user, which must equal the sums of the same calls in the summary."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.roll_up_inference_logs import roll_up_inference_logs
from shared.dynamodb.table import Table
from shared.inference_logs.store import SHARDS
from shared.resources import Resources
from tests.fixtures.aws import LOGS_TABLE
from tests.fixtures.evaluations import add_member
from tests.fixtures.inference_logs import call, stream_event

DAY = timedelta(days=1)
PRICES = {"prices": {"small": {"input": 1, "output": 2}, "large": {"input": 10, "output": 20}}}


class Log:
    """Calls of the client's space, which are rolled up as the stream does."""

    def __init__(self, client: TestClient, resources: Resources) -> None:
        self.client, self.resources = client, resources
        self.space_id = str(client.headers["X-Space-Id"])

    def record(self, moment: datetime, **changes: Any) -> None:
        self.resources.inference_logs.record(self.space_id, call(moment, **changes))

    def roll_up(self) -> None:
        table = Table(self.resources.dynamodb, LOGS_TABLE)
        rows = [row for shard in range(SHARDS) for row in table.query(f"log#{self.space_id}#{shard}")]
        roll_up_inference_logs(stream_event(rows), self.resources)

    def usage(self, by: str, **query: Any) -> list[dict[str, Any]]:
        response = self.client.get("/inference-logs/usage", params={"by": by, **query})
        assert response.status_code == 200, response.text
        rows: list[dict[str, Any]] = response.json()["data"]
        return rows


@pytest.fixture
def log(client: TestClient, resources: Resources) -> Log:
    return Log(client, resources)


@pytest.mark.row("IL-2")
@pytest.mark.parametrize("by", ["day", "hour", "model", "type", "user"])
def test_usage_adds_up_to_the_summary_whatever_it_is_added_up_by(log: Log, by: str) -> None:
    now = datetime.now(UTC)
    me = log.client.get("/me", headers={"X-Space-Id": ""}).json()["id"]
    for days in range(4):
        log.record(now - days * DAY, user=me if days % 2 else "a program's user", model="large" if days else "small")
        log.record(now - days * DAY, type="guard", status="error")
    log.roll_up()
    log.record(now)
    rows, summary = log.usage(by), log.client.get("/inference-logs/summary").json()
    assert len(rows) == {"day": 4, "hour": 4, "model": 2, "type": 2, "user": 2}[by]
    for total, name in (("total_calls", "calls"), ("total_tokens",) * 2, ("input_tokens",) * 2):
        assert sum(row[name] for row in rows) == summary[total]
    assert sum(row["succeeded"] for row in rows) == round(summary["success_rate"] * summary["total_calls"])


@pytest.mark.row("IL-2")
def test_the_dearest_user_of_yesterday_comes_first(log: Log, resources: Resources, other_client: TestClient) -> None:
    ids = [each.get("/me", headers={"X-Space-Id": ""}).json()["id"] for each in (log.client, other_client)]
    add_member(resources.table, other_client, log.space_id, [])
    log.client.put(f"/spaces/{log.space_id}/limits", json=PRICES).raise_for_status()
    yesterday = datetime.now(UTC).replace(hour=12) - DAY
    log.record(yesterday, user=ids[0], input_tokens=1_000_000, output_tokens=0)
    log.record(yesterday, user=ids[1], model="large", input_tokens=1_000_000, output_tokens=100_000)
    log.record(yesterday, user="a program's user", input_tokens=0, output_tokens=250_000)
    log.record(yesterday - DAY, user=ids[0], model="large", input_tokens=9_000_000)
    log.roll_up()
    day = yesterday.date().isoformat()
    rows = log.usage("user", start_date=f"{day}T00:00:00Z", end_date=day)
    assert [(row["name"], row["cost"]) for row in rows] == [(ids[1], 12.0), (ids[0], 1.0), (None, 0.5)]


def test_without_prices_no_cost_is_claimed(log: Log) -> None:
    log.record(datetime.now(UTC))
    [row] = log.usage("model")
    assert (row["name"], row["calls"], row["cost"], row["avg_latency_ms"]) == ("small", 1, None, 12.5)


def test_the_filters_of_the_summary_hold_for_usage(log: Log) -> None:
    now = datetime.now(UTC)
    log.record(now)
    log.record(now, user="bob", model="large", type="guard", correlation_id="other")
    for query in ({"user": "bob"}, {"model": "large"}, {"type": "guard"}, {"correlation_id": "other"}):
        [row] = log.usage("model", **query)
        assert (row["name"], row["calls"]) == ("large", 1)
    [row] = log.usage("user", user="bob")
    assert (row["name"], row["calls"]) == ("bob", 1)
    refused = log.client.get("/inference-logs/usage", params={"start_date": "2026-02-01", "end_date": "2026-01-01"})
    assert refused.status_code == 400


def test_another_space_sees_no_usage(log: Log, other_client: TestClient) -> None:
    log.record(datetime.now(UTC))
    assert other_client.get("/inference-logs/usage").json()["data"] == []
