from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_score
from tests.fixtures.trainings import add_benchmark

UNKNOWN = "01a2081a-1610-752b-8cc0-d52dcf52e48d"
CHAMPION = "/checkpoints/aliases/champion"


@pytest.fixture
def space_id(client: TestClient) -> str:
    return str(client.headers["X-Space-Id"])


def promote(client: TestClient, checkpoint_id: str, **fields: Any) -> Any:
    return client.put(CHAMPION, json={"checkpoint_id": checkpoint_id, **fields})


@pytest.mark.row("X-7")
def test_an_alias_moves_from_one_checkpoint_to_another(client: TestClient, table: Table, space_id: str) -> None:
    first, second = (add_checkpoint(table, space_id).id for _ in range(2))
    created = promote(client, first)
    assert created.status_code == 200, created.text
    assert (created.json()["id"], created.json()["checkpoint_id"]) == ("champion", first)

    moved = promote(client, second)
    assert moved.json()["created_at"] == created.json()["created_at"]
    assert client.get(CHAMPION).json() == moved.json()
    assert moved.json()["checkpoint_id"] == second
    assert client.get("/checkpoints/aliases").json() == {"count": 1, "data": [moved.json()], "has_more": False}

    assert client.delete(CHAMPION).json() == {"id": "champion"}
    assert client.delete(CHAMPION).status_code == 404
    assert client.get(CHAMPION).status_code == 404


@pytest.mark.row("X-7")
def test_a_checkpoint_without_a_required_result_is_not_promoted(
    client: TestClient, table: Table, space_id: str
) -> None:
    champion, challenger = (add_checkpoint(table, space_id) for _ in range(2))
    benchmark = add_benchmark(client, add_connector(table, space_id))
    add_score(table, space_id, champion, benchmark, roc_auc=0.8)
    assert promote(client, champion.id, required_benchmark_ids=[benchmark, benchmark]).status_code == 200

    refused = promote(client, challenger.id)
    assert (refused.status_code, refused.json()["code"]) == (409, "promotion_refused")
    assert benchmark in refused.json()["error"]
    assert client.get(CHAMPION).json()["checkpoint_id"] == champion.id

    add_score(table, space_id, challenger, benchmark, roc_auc=0.9)
    assert promote(client, challenger.id).json()["required_benchmark_ids"] == [benchmark]


@pytest.mark.row("X-7")
def test_a_result_on_an_older_revision_of_the_benchmark_does_not_count(
    client: TestClient, table: Table, space_id: str
) -> None:
    checkpoint = add_checkpoint(table, space_id)
    benchmark = add_benchmark(client, add_connector(table, space_id))
    add_score(table, space_id, checkpoint, benchmark, roc_auc=0.8)
    client.put(f"/benchmarks/{benchmark}", json={"metrics": ["ks"]})
    assert promote(client, checkpoint.id, required_benchmark_ids=[benchmark]).status_code == 409


@pytest.mark.row("X-7")
def test_the_second_of_two_promotions_with_the_same_etag_is_refused(
    client: TestClient, table: Table, space_id: str
) -> None:
    first, second = (add_checkpoint(table, space_id).id for _ in range(2))
    tag = promote(client, first).headers["ETag"]
    body = {"checkpoint_id": second}
    statuses = [client.put(CHAMPION, json=body, headers={"If-Match": tag}).status_code for _ in range(2)]
    assert statuses == [200, 412]
    assert client.delete(CHAMPION, headers={"If-Match": tag}).status_code == 412


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (CHAMPION, {"checkpoint_id": UNKNOWN}, "body.checkpoint_id"),
        (CHAMPION, {"checkpoint_id": "champion"}, "body.checkpoint_id"),
        ("/checkpoints/aliases/Champion!", {"checkpoint_id": UNKNOWN}, "path.alias"),
        (f"/checkpoints/aliases/{UNKNOWN}", {"checkpoint_id": UNKNOWN}, "path.alias"),
    ],
)
def test_an_invalid_promotion_is_refused_with_the_name_of_the_field(
    client: TestClient, path: str, body: dict[str, Any], field: str
) -> None:
    refused = client.put(path, json=body)
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, field)
    assert client.get("/checkpoints/aliases").json()["count"] == 0


def test_a_checkpoint_or_benchmark_of_another_space_is_refused(
    client: TestClient, other_client: TestClient, table: Table, space_id: str
) -> None:
    checkpoint = add_checkpoint(table, space_id)
    assert promote(other_client, checkpoint.id).status_code == 400
    own = add_checkpoint(table, str(other_client.headers["X-Space-Id"]))
    benchmark = add_benchmark(client, add_connector(table, space_id))
    assert promote(other_client, own.id, required_benchmark_ids=[benchmark]).status_code == 400
    promote(client, checkpoint.id)
    assert other_client.get(CHAMPION).status_code == 404


def test_an_action_may_refer_to_an_alias(client: TestClient, table: Table, space_id: str) -> None:
    offer = {"name": "Card", "description": "", "priority": "high", "type": "offer", "model_id": "champion"}
    assert client.post("/actions", json=offer).status_code == 400
    promote(client, add_checkpoint(table, space_id).id)
    assert client.post("/actions", json=offer).json()["model_id"] == "champion"


@pytest.mark.row("SE-6")
@pytest.mark.parametrize("name", ["\u212aampion", "\uff4bampion", "k\u0430mpion", "kam\u200bpion", "Kampion"])
def test_no_other_letters_name_an_alias(client: TestClient, table: Table, space_id: str, name: str) -> None:
    checkpoint = add_checkpoint(table, space_id).id
    path = "/checkpoints/aliases/kampion"
    assert client.put(path, json={"checkpoint_id": checkpoint}).status_code == 200
    assert client.put(f"/checkpoints/aliases/{name}", json={"checkpoint_id": checkpoint}).status_code == 400
    assert client.get(f"/checkpoints/aliases/{name}").status_code in (400, 404)
    assert client.post(f"/checkpoints/{name}/predictions", json={"rows": [{}]}).status_code == 404
    assert client.get("/checkpoints/aliases").json()["count"] == 1
