"""What a list can be filtered by costs the same read units in a short list as in a long one.

Only the oldest rows match. Each parameter of a list has to be in one of the tables below. Lists and the bounds of what
a request reads are about a tenth of the real ones, unless LONG_LISTS is set: then it takes minutes and prints units.
"""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from shared.audit import store as audit_log
from shared.chats import store as chat_store
from shared.clock import new_id
from shared.dynamodb import large_values, searches
from shared.dynamodb.repository import Repository
from shared.evaluations import boards
from shared.models.webhook_endpoint import WebhookEndpoint
from shared.resources import Resources
from shared.webhooks import deliveries as webhook_deliveries
from tests.fixtures import long_lists
from tests.fixtures.arguments import add_argument
from tests.fixtures.evaluations import add_connector
from tests.fixtures.long_lists import FOUND, OLD, fill
from tests.load.capacity import Meter

IS_FULL = bool(os.environ.get("LONG_LISTS"))
SHORT, LONG = (1_100, 10_000) if IS_FULL else (110, 500)
# More digits in a counter, or another page of a batch.
TOLERATED_UNITS = 3

# Where a page begins and ends.
PLACES = {"after", "after_sequence", "before", "limit", "page", "pageSize", "page_size"}
Query = dict[str, Any]


class Lab(NamedTuple):
    client: TestClient
    resources: Resources
    space_id: str


class Listed(NamedTuple):
    """A filled list: its path without parameters, and queries that each find the FOUND rows."""

    path: str
    queries: list[Query]


def chats(lab: Lab, count: int) -> Listed:
    fill(long_lists.chats(lab.space_id, count))
    return Listed("/chats", [{"name": "lOST"}])


def deliveries(lab: Lab, count: int) -> Listed:
    endpoint = WebhookEndpoint(
        id=new_id(),
        created_at=OLD,
        updated_at=OLD,
        created_by="alice",
        description="",
        event_types=[],
        url="https://a.test",
    )
    Repository(lab.resources.table, WebhookEndpoint, kind="webhook_endpoint").create(lab.space_id, endpoint)
    fill(long_lists.deliveries(lab.space_id, endpoint.id, count))
    return Listed(f"/webhook-endpoints/{endpoint.id}/deliveries", [{"status": "failed"}])


def audit_logs(lab: Lab, count: int) -> Listed:
    fill(long_lists.audit_rows(lab.space_id, 4 * count))
    values = {"entity": "training", "actor": "ann", "api_key_id": "key", "entity_id": "one"}
    names = list(values)
    pairs = [{one: values[one], two: values[two]} for one in names for two in names if one < two]
    dates = {"start_date": (OLD - timedelta(days=1)).isoformat(), "end_date": (OLD + timedelta(days=1)).isoformat()}
    return Listed("/audit-logs", [*pairs, values, dates, {"entity": "training", **dates}])


def arguments(lab: Lab, count: int) -> Listed:
    action = new_id()
    made = [add_argument(lab.resources.table, lab.space_id, status="success", action_id=action) for _ in range(FOUND)]
    fill(long_lists.arguments(lab.space_id, action, made, count))
    return Listed(
        "/arguments", [{"status": "success"}, {"action_id": action}, {"status": "success", "action_id": action}]
    )


def leaderboards(lab: Lab, count: int) -> Listed:
    benchmark = {"name": "B", "description": "", "metrics": ["roc_auc"], "task": "binary_classification"}
    body = {**benchmark, "connectors": [{"id": add_connector(lab.resources.table, lab.space_id)}]}
    one, two = (lab.client.post("/benchmarks", json=body).json()["id"] for _ in range(2))
    lost = long_lists.leaderboard(lab.resources.boards, lab.space_id, [one, two], count)
    ends = (OLD + timedelta(days=1)).isoformat()
    by_name = {"name": "lOST"}
    filters: list[Query] = [by_name, {"model_id": "xgboost"}, {"trainings": lost.training_id}, {"end_date": ends}]
    filters.append({"start_date": OLD.isoformat(), "end_date": ends})
    order = {"order_by_metric.metric_name": "ks", "order_by_metric.direction": "desc"}
    asked = [{**order, "benchmarks": names} for names in (one, f"{one},{two}")]
    asked.append({**order, "order_by_metric.benchmark_id": two})
    return Listed("/leaderboards", [board | each for board in asked for each in filters])


# Each list with what fills it.
MEASURED: dict[str, Callable[[Lab, int], Listed]] = {
    "/arguments": arguments,
    "/audit-logs": audit_logs,
    "/chats": chats,
    "/leaderboards": leaderboards,
    "/webhook-endpoints/{id}/deliveries": deliveries,
}
FILTERS = {
    "/arguments": {"status", "action_id"},
    "/audit-logs": {"entity", "entity_id", "actor", "api_key_id", "start_date", "end_date"},
    "/chats": {"name"},
    "/leaderboards": {
        *("model_id", "benchmarks", "trainings", "name", "start_date", "end_date"),
        *("order_by_metric.benchmark_id", "order_by_metric.metric_name", "order_by_metric.direction"),
    },
    "/webhook-endpoints/{id}/deliveries": {"status"},
}
_ROLLUPS = "rollups and sorted rows: tests/load measures its pages among a million rows"
NOT_MEASURED = {
    ("/audit-logs/export", "format"): "how the rows are written",
    ("/audit-logs/verification", "hash"): "is compared with one row",
    ("/connectors/{id}/files", "flat"): "S3 lists files",
    ("/connectors/{id}/files", "prefix"): "S3 lists files",
    ("/decision-runs/{id}/summary", "compare_to"): "another summary",
    ("/spaces", "deleted"): "the spaces that a user owned in the last 30 days",
    ("/trainings/{id}", "include_deleted"): "one item",
    ("/inference-logs", "status"): _ROLLUPS,
    ("/inference-logs", "tag"): _ROLLUPS,
    ("/inference-logs/usage", "by"): _ROLLUPS,
    **{
        (f"/inference-logs{path}", name): _ROLLUPS
        for path in ("", "/summary", "/usage")
        for name in ("start_date", "end_date", "user", "model", "type", "correlation_id")
    },
}


def test_each_parameter_of_a_list_is_measured_or_says_why_not(client: TestClient) -> None:
    documented = {
        (path, parameter["name"])
        for path, operations in client.get("/openapi.json").json()["paths"].items()
        for parameter in operations.get("get", {}).get("parameters", [])
        if parameter["in"] == "query" and parameter["name"] not in PLACES
    }
    measured = {(path, name) for path, names in FILTERS.items() for name in names}
    assert MEASURED.keys() == FILTERS.keys()
    assert measured | NOT_MEASURED.keys() == documented
    assert not measured & NOT_MEASURED.keys()


@pytest.fixture
def short_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a request read a tenth of what it may."""
    bounds = [(searches, "SEARCHED_AT_ONCE"), (searches, "READ_AT_ONCE"), (boards, "RECENT_RESULTS")]
    bounds.append((large_values, "INLINE_BYTES"))
    bounds += [(chat_store, "SEARCHED_AT_ONCE"), (audit_log, "COUNTED_ROWS"), (webhook_deliveries, "COUNTED_ROWS")]
    for module, name in bounds if not IS_FULL else ():
        monkeypatch.setattr(module, name, getattr(module, name) // 10)


@pytest.mark.usefixtures("short_bounds")
@pytest.mark.parametrize("path", MEASURED)
def test_a_filter_costs_the_same_in_a_short_and_in_a_long_list(
    path: str, client: TestClient, resources: Resources
) -> None:
    meter = Meter(resources.dynamodb)
    units: list[dict[str, int]] = []
    for count in (SHORT, LONG):
        space_id = client.post("/spaces", json={"name": f"Of {count}", "description": ""}).json()["id"]
        client.headers["X-Space-Id"] = space_id
        listed = MEASURED[path](Lab(client, resources, space_id), count)
        assert {name for query in listed.queries for name in query} == FILTERS[path]
        units.append({})
        # All pages of one of them: tests/unit/dynamodb/test_filters.py reads those of any filter.
        assert sum(1 for _ in found_by(client, listed.path, listed.queries[-1])) == FOUND
        for query in listed.queries:
            used = meter.measure(partial(client.get, listed.path, params=query))
            shown = (name.replace("order_by_metric", "") for name in query)
            units[-1][" ".join(shown) + " of two" * ("," in query.get("benchmarks", ""))] = used.read
    short, long = units
    if IS_FULL:
        print(path, *((name, short[name], long[name]) for name in short), sep="\n")
    assert {name: (short[name], used) for name, used in long.items() if abs(used - short[name]) > TOLERATED_UNITS} == {}


def found_by(client: TestClient, path: str, query: Query) -> Iterator[Any]:
    """Yields the rows of all pages."""
    after = ""
    while True:
        response = client.get(path, params={**query, **({"after": after} if after else {})})
        assert response.status_code == 200, response.text
        page = response.json()
        if isinstance(page, list):
            yield from page
            return
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["next_after"]
