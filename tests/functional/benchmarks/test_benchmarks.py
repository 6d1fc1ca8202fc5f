from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.dynamodb.table import Table
from shared.evaluations.benchmarks import Benchmarks
from tests.fixtures.evaluations import add_connector, add_member
from tests.functional.conftest import ClientMaker

DRAFT = {
    "name": "Churn 2026",
    "description": "held-out customers",
    "metrics": ["roc_auc", "ks"],
    "task": "binary_classification",
}


@pytest.fixture
def connector_id(client: TestClient, table: Table) -> str:
    return add_connector(table, client.headers["X-Space-Id"])


@pytest.fixture
def benchmark(client: TestClient, connector_id: str) -> dict[str, Any]:
    response = client.post("/benchmarks", json={**DRAFT, "connectors": [{"id": connector_id, "target": "left"}]})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


@pytest.mark.row("BM-2")
def test_a_benchmark_merges_repeated_metrics_and_connectors(client: TestClient, connector_id: str) -> None:
    created = client.post(
        "/benchmarks",
        json={
            **DRAFT,
            "metrics": ["ks", "roc_auc", "ks"],
            "connectors": [
                {"id": connector_id},
                {"connector_id": connector_id, "target": "left"},
            ],
        },
    )
    assert created.status_code == 201, created.text
    body = created.json()
    assert body["metrics"] == ["ks", "roc_auc"]
    assert body["connectors"] == [
        {
            "connector_id": connector_id,
            "files": None,
            "target": "left",
            "positive_label": None,
            "split": None,
        }
    ]
    assert body["revision"] == 1
    assert client.get(f"/benchmarks/{body['id']}").json() == body


@pytest.mark.row("BM-2", "C-6")
@pytest.mark.parametrize(
    ("invalid", "field"),
    [
        ({"metrics": []}, "body.metrics"),
        ({"metrics": ["auc"]}, "body.metrics.0"),
        ({"metrics": None}, "body.metrics"),
        ({"connectors": []}, "body.connectors"),
        ({"connectors": [{"target": "left"}]}, "body.connectors.0.connector_id"),
        ({"connectors": [{"id": "x", "split": {"kind": "time"}}]}, "body.connectors.0.split"),
        ({"connectors": [{"id": "x", "files": ["f" * 1024] * 1000}]}, "body.connectors"),
        ({"connectors": [{"id": "x", "extra": "y"}]}, "body.connectors.0.extra"),
        ({"task": "regression"}, "body.task"),
        ({"name": " "}, "body.name"),
    ],
)
def test_an_invalid_benchmark_is_refused_and_not_stored(
    client: TestClient, connector_id: str, invalid: dict[str, Any], field: str
) -> None:
    response = client.post("/benchmarks", json={**DRAFT, "connectors": [{"id": connector_id}], **invalid})
    assert response.status_code == 400, response.text
    assert field in [detail["field"] for detail in response.json()["details"]]
    assert client.get("/benchmarks").json()["count"] == 0


@pytest.mark.row("BM-2", "C-2")
def test_a_connector_that_does_not_exist_or_is_in_another_space_is_refused(
    client: TestClient, other_client: TestClient, table: Table
) -> None:
    foreign = add_connector(table, other_client.headers["X-Space-Id"])
    for unknown in (foreign, new_id(), "no-id"):
        response = client.post("/benchmarks", json={**DRAFT, "connectors": [{"id": unknown}]})
        assert response.status_code == 400
        assert unknown in response.json()["error"]
    assert client.get("/benchmarks").json()["count"] == 0


@pytest.mark.row("BM-1", "C-8", "C-9")
def test_benchmarks_are_listed_by_page_number(client: TestClient, connector_id: str) -> None:
    draft = {**DRAFT, "connectors": [{"id": connector_id}]}
    ids = [client.post("/benchmarks", json=draft).json()["id"] for _ in range(5)]

    pages = [client.get("/benchmarks", params={"page": page, "page_size": 2}).json() for page in (1, 2, 3, 4)]

    assert [row["id"] for page in pages for row in page["data"]] == ids[::-1]
    assert [page["has_more"] for page in pages] == [True, True, False, False]
    assert {page["count"] for page in pages} == {5}
    assert client.get("/benchmarks", params={"pageSize": 2}).json() == pages[0]
    for invalid in ({"page": 0}, {"page": -1}, {"page_size": 2, "pageSize": 3}, {"page_size": 0}):
        assert client.get("/benchmarks", params=invalid).status_code == 400


@pytest.mark.row("BM-3", "C-14")
def test_a_deleted_benchmark_is_not_found_but_its_last_revision_is_kept(
    client: TestClient, table: Table, benchmark: dict[str, Any]
) -> None:
    address = f"/benchmarks/{benchmark['id']}"
    client.put(address, json={"metrics": ["f1"]})

    assert client.delete(address).json() == {"id": benchmark["id"]}

    assert client.get(address).status_code == 404
    assert client.delete(address).status_code == 404
    assert client.get("/benchmarks").json() == {"count": 0, "data": [], "has_more": False}
    known = Benchmarks(table).known(client.headers["X-Space-Id"], [benchmark["id"]])[benchmark["id"]]
    assert (known.revision, known.is_deleted) == (2, True)


@pytest.mark.row("BM-4")
def test_only_a_change_of_the_metrics_or_connectors_makes_a_new_revision(
    client: TestClient, table: Table, connector_id: str, benchmark: dict[str, Any]
) -> None:
    address = f"/benchmarks/{benchmark['id']}"
    other_connector = add_connector(table, client.headers["X-Space-Id"])

    def revision_after(changes: dict[str, Any]) -> int:
        response = client.put(address, json=changes)
        assert response.status_code == 200, response.text
        return int(response.json()["revision"])

    assert revision_after({"name": "Renamed", "description": "other words"}) == 1
    assert revision_after({"metrics": ["ks", "roc_auc"]}) == 1
    assert revision_after({"connector": connector_id}) == 1
    assert revision_after({"metrics": ["ks"]}) == 2
    assert revision_after({"connector": other_connector}) == 3
    assert client.get(address).json()["connectors"][0] == {
        **benchmark["connectors"][0],
        "connector_id": other_connector,
    }
    assert revision_after({"connectors": [{"id": other_connector, "target": "gone"}]}) == 4
    assert client.put(address, json={"connector": new_id()}).status_code == 400
    assert (
        client.put(address, json={"connector": connector_id, "connectors": [{"id": connector_id}]}).status_code == 400
    )
    assert client.get(address).json()["revision"] == 4


@pytest.mark.row("BM-4", "C-11", "C-13")
def test_an_update_keeps_absent_fields_and_checks_the_etag(client: TestClient, benchmark: dict[str, Any]) -> None:
    address = f"/benchmarks/{benchmark['id']}"
    assert client.put(address, json={}).json() == benchmark
    assert client.put(address, json={"name": None}).status_code == 400
    assert client.put(address, json={"connector": None}).status_code == 400
    tag = client.get(address).headers["ETag"]
    first = client.patch(address, json={"metrics": ["f1"]}, headers={"If-Match": tag})
    second = client.put(address, json={"metrics": ["ks"]}, headers={"If-Match": tag})
    assert (first.status_code, second.status_code) == (200, 412)
    assert client.get(address).json()["metrics"] == ["f1"]
    assert client.delete(address, headers={"If-Match": tag}).status_code == 412


@pytest.mark.row("C-12")
def test_a_repeated_request_creates_one_benchmark(client: TestClient, connector_id: str) -> None:
    draft = {**DRAFT, "connectors": [{"id": connector_id}]}
    key = {"Idempotency-Key": "once"}
    first = client.post("/benchmarks", json=draft, headers=key)
    assert client.post("/benchmarks", json=draft, headers=key).json() == first.json()
    assert client.post("/benchmarks", json={**draft, "name": "Other"}, headers=key).status_code == 409
    assert client.get("/benchmarks").json()["count"] == 1


@pytest.mark.row("C-4")
def test_members_need_the_permission_and_change_only_their_own_benchmarks(
    client: TestClient, sign_in: ClientMaker, table: Table, connector_id: str, benchmark: dict[str, Any]
) -> None:
    member = sign_in("carol")
    add_member(table, member, client.headers["X-Space-Id"], ["benchmarks:create"])
    address = f"/benchmarks/{benchmark['id']}"

    assert "benchmarks:list" in member.get("/benchmarks").json()["error"]
    assert member.get(address).status_code == 403
    assert member.put(address, json={"name": "Mine now"}).status_code == 403
    assert member.delete(address).status_code == 403
    own = member.post("/benchmarks", json={**DRAFT, "connectors": [{"id": connector_id}]}).json()
    assert member.put(f"/benchmarks/{own['id']}", json={"name": "Better"}).status_code == 200
    assert member.delete(f"/benchmarks/{own['id']}").status_code == 200
    assert client.get(address).json() == benchmark


@pytest.mark.row("C-2")
def test_another_space_gets_the_same_error_as_for_an_unknown_benchmark(
    client: TestClient, other_client: TestClient, benchmark: dict[str, Any]
) -> None:
    for method, body in (("GET", None), ("PUT", {"name": "Taken"}), ("PATCH", {"name": "Taken"}), ("DELETE", None)):
        foreign = other_client.request(method, f"/benchmarks/{benchmark['id']}", json=body)
        unknown = other_client.request(method, f"/benchmarks/{new_id()}", json=body)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json()["error"] == unknown.json()["error"]
    assert client.get(f"/benchmarks/{benchmark['id']}").json() == benchmark
