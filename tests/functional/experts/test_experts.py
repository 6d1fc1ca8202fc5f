from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.llm.clusters import DEFAULT, Clusters
from shared.models.cluster import LanguageModel

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "rate", "description": "today's rate", "parameters": {"type": "object", "properties": {}}},
}


def create(client: TestClient, **fields: Any) -> Any:
    created = client.post("/experts", json={"name": "Loans", "description": "about loans", **fields})
    assert created.status_code == 201, created.text
    return created.json()


@pytest.mark.row("EX-1")
def test_an_expert_is_created_read_changed_listed_and_deleted(client: TestClient) -> None:
    expert = create(
        client, context="You know loans.", tools=[TOOL], file_context=[{"name": "a", "content": "b", "x": 1}]
    )
    assert expert["file_context"] == [{"name": "a", "content": "b", "x": 1}]
    assert expert["tools"] == [TOOL]
    assert client.get(f"/experts/{expert['id']}").json() == expert

    changed = client.put(f"/experts/{expert['id']}", json={"name": "Mortgages", "context": None}).json()
    assert (changed["name"], changed["context"], changed["tools"]) == ("Mortgages", None, [TOOL])
    assert client.get("/experts").json() == {"count": 1, "data": [changed], "has_more": False}

    deleted = client.delete(f"/experts/{expert['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert client.get(f"/experts/{expert['id']}").status_code == 404
    assert client.delete(f"/experts/{expert['id']}").status_code == 404
    assert client.get("/experts").json()["count"] == 0


@pytest.mark.row("EX-1")
@pytest.mark.parametrize(
    "parameters", [{"type": "objekt"}, {"type": "object", "properties": {"a": {"minimum": "1"}}}, {"type": "string"}]
)
def test_a_tool_without_a_valid_object_schema_is_refused(client: TestClient, parameters: dict[str, Any]) -> None:
    wrong = {"type": "function", "function": {"name": "rate", "parameters": parameters}}
    refused = client.post("/experts", json={"name": "L", "description": "", "tools": [TOOL | {"extra": 1}, wrong]})
    assert refused.status_code == 400
    second = client.post("/experts", json={"name": "L", "description": "", "tools": [wrong]})
    assert second.json()["details"][0]["field"] == "body.tools.0.function.parameters"
    assert client.get("/experts").json()["count"] == 0


def test_two_tools_with_the_same_name_are_refused(client: TestClient) -> None:
    refused = client.post("/experts", json={"name": "L", "description": "", "tools": [TOOL, TOOL]})
    assert refused.status_code == 400
    assert "rate" in refused.json()["error"]


@pytest.mark.row("EX-1")
def test_a_context_that_does_not_fit_into_the_models_of_the_space_is_refused_with_its_token_count(
    client: TestClient, table: Table
) -> None:
    clusters, space_id = Clusters(table), client.headers["X-Space-Id"]
    clusters.save_models(DEFAULT, [LanguageModel(id="everybody's", context_length=50)])
    client.post("/clusters", json={"ingress_url": "https://1.1.1.1", "manager_url": "https://1.1.1.1"})
    assert create(client, context="word " * 300)
    clusters.save_models(space_id, [LanguageModel(id="small", context_length=100)])
    refused = client.post("/experts", json={"name": "L", "description": "", "context": "word " * 300})
    assert refused.status_code == 400
    assert "500 tokens" in refused.json()["error"]
    assert "100" in refused.json()["error"]


def test_files_larger_than_a_table_item_are_returned_completely(client: TestClient) -> None:
    content = "a line of a price list\n" * 40_000
    expert = create(client, file_context=[{"name": "prices.txt", "content": content}])
    assert client.get(f"/experts/{expert['id']}").json()["file_context"][0]["content"] == content


@pytest.mark.row("X-10")
def test_every_change_creates_a_version_that_is_kept(client: TestClient) -> None:
    expert = create(client, context="first")
    for context in ("second", "third"):
        client.put(f"/experts/{expert['id']}", json={"context": context})
    assert client.put(f"/experts/{expert['id']}", json={}).json()["version_number"] == 3
    page = client.get(f"/experts/{expert['id']}/versions", params={"limit": 2}).json()
    assert page["count"] == 3
    assert page["has_more"] is True
    assert [(each["version_number"], each["context"]) for each in page["data"]] == [(3, "third"), (2, "second")]
    rest = client.get(f"/experts/{expert['id']}/versions", params={"before": 2}).json()
    assert [each["context"] for each in rest["data"]] == ["first"]


def test_an_update_with_an_outdated_etag_is_refused(client: TestClient) -> None:
    created = client.post("/experts", json={"name": "L", "description": ""})
    path, tag = f"/experts/{created.json()['id']}", created.headers["etag"]
    assert client.put(path, json={"name": "M"}, headers={"If-Match": tag}).status_code == 200
    assert client.put(path, json={"name": "N"}, headers={"If-Match": tag}).status_code == 412
    assert client.get(path).json()["name"] == "M"


def test_another_space_cannot_see_or_change_an_expert(client: TestClient, other_client: TestClient) -> None:
    path = f"/experts/{create(client)['id']}"
    for method in ("GET", "PUT", "DELETE"):
        assert other_client.request(method, path, json={}).status_code == 404
    assert other_client.get(f"{path}/versions").status_code == 404
