"""Tests of unknown fields and query parameters: they are refused, and the error names the nearest known one."""

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.http.routers import CheckedRoute
from tests.fixtures.trainings import space_of


@pytest.mark.row("C-19")
def test_every_operation_but_those_of_openai_refuses_an_unknown_query_parameter(client: TestClient) -> None:
    answers = {}
    for route in build_api().routes:
        if not isinstance(route, CheckedRoute) or not route.rule.caller.needs_token:
            continue  # pages, which read no query, and the messages of our own jobs
        address = route.path.replace("/spaces/{id}", f"/spaces/{space_of(client)}").replace(":path", "")
        for method in route.methods or ():
            answer = client.request(method, f"{address}?dry_run=true", json={})
            is_refused = answer.status_code == 400 and "query.dry_run: is not known" in answer.text
            answers[f"{method} {route.path}"] = is_refused
    assert {name for name, is_refused in answers.items() if not is_refused} == {
        "POST /v1/chat/completions",
        "GET /v1/models",
        "GET /v1/models/{model:path}",
    }


@pytest.mark.row("C-19")
@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/actions?limt=5", "query.limt: is not known: did you mean limit?"),
        ("/actions?status=active", "query.status: is not known: the parameters are limit, after"),
        ("/leaderboards?orderByMetric.metricName=f1", "did you mean order_by_metric.metric_name?"),
        ("/leaderboards?benchmarks[]=a", "did you mean benchmarks?"),
        ("/clusters?timezone=UTC", "query.timezone: is not known: this takes no parameters"),
    ],
)
def test_the_error_names_the_nearest_parameter(client: TestClient, path: str, hint: str) -> None:
    refused = client.get(path)
    assert (refused.status_code, refused.json()["code"]) == (400, "validation_error")
    assert hint in refused.json()["error"]


@pytest.mark.row("C-19")
def test_all_unknown_parameters_and_fields_are_named_and_nothing_is_stored(client: TestClient) -> None:
    offer = {"name": "Card", "description": "", "priority": "high", "type": "offer"}
    refused = client.post("/actions", json=offer | {"startDate": "2026-01-01", "prioritty": "low"})
    assert refused.status_code == 400
    hints = {each["field"]: each["message"] for each in refused.json()["details"]}
    assert hints == {
        "body.startDate": "is not known: did you mean start_date?",
        "body.prioritty": "is not known: did you mean priority?",
    }
    assert client.get("/actions").json()["count"] == 0
    both = client.get("/actions?limt=5&befor=x")
    assert {each["field"] for each in both.json()["details"]} == {"query.limt", "query.befor"}


@pytest.mark.row("C-19")
def test_both_spellings_of_a_page_size_are_known(client: TestClient) -> None:
    for name in ("page_size", "pageSize"):
        assert client.get("/benchmarks", params={name: 5}).status_code == 200
