"""Tests of lineages, which lead from an argument back to the files that its model was trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.workflows.training.check_training import check_training
from functions.workflows.training.register_checkpoints import register_checkpoints
from shared.clock import new_id
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.models.checkpoint import Checkpoint
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_score
from tests.fixtures.trained_models import packed, train_model
from tests.fixtures.training_workflow import SCAN, World
from tests.fixtures.trainings import add_benchmark, training_request
from tests.fixtures.upstream import Body, FakeUpstream, schema_name, served

CUSTOMER = {"age": 61, "city": "Lyon", "active": True, "joined": "2021-05-01"}
OFFER = {"name": "Card", "description": "", "type": "offer", "priority": "high", "status": "active"}
FACTS = {"client": {"name": "Anna"}, "insight_spec": {"insight": "Is 61."}, "product": {"name": "Card"}}


def write_completion(body: Body) -> str:
    if schema_name(body) == "argument":
        return '{"thinking": "", "argument": "The Card is for Anna."}'
    return "unexpected"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream(script=write_completion)) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packed(train_model(Path(tmp_path_factory.mktemp("ml")), "lightgbm"))


@pytest.fixture
def settings(settings: Settings, upstream: FakeUpstream) -> Settings:
    return settings.model_copy(update={"default_cluster_url": upstream.url})


@pytest.fixture
def world(client: TestClient, resources: Resources, table: Table, model: bytes) -> World:
    """Returns a training that has succeeded on one scanned file."""
    world = World(client, resources, table, training_request(client, table))
    world.upload("customers.csv")
    check_training(resources, world.event)
    register_checkpoints(resources, world.put_model(content=model))
    return world


def checkpoint_of(world: World) -> Checkpoint:
    (found,) = Repository(world.table, Checkpoint, kind="checkpoint").list_after(world.event["space_id"], "", 10).data
    return found


@pytest.mark.row("Y-1", "AC-5")
def test_the_lineage_of_an_argument_names_the_s3_version_even_after_deletions(world: World, client: TestClient) -> None:
    checkpoint = checkpoint_of(world)
    benchmark_id = add_benchmark(client, world.connector_id)
    evaluation_id = add_score(world.table, world.event["space_id"], checkpoint, benchmark_id, roc_auc=0.8)
    action_id = client.post("/actions", json=OFFER | {"model_id": checkpoint.id}).json()["id"]
    insight = client.post("/insights", json={"client": CUSTOMER}).json()
    assert insight["candidates"][0]["checkpoint_id"] == checkpoint.id
    written = client.post("/arguments", json={**FACTS, "model": "small", "insight_id": insight["id"]})
    assert written.status_code == 201, written.text
    argument = written.json()
    assert argument["action_id"] == action_id
    client.put(f"/arguments/{argument['id']}", json={"review": {"status": "reviewing"}})

    path = f"/arguments/{argument['id']}/lineage"
    lineage = client.get(path).json()
    key = f"spaces/{world.event['space_id']}/connectors/{world.connector_id}/customers.csv"
    stored = boto3.client("s3").head_object(Bucket=BUCKET, Key=key)
    assert lineage == {
        "argument_id": argument["id"],
        "review": {"status": "reviewing", "reviewer": client.get("/me").json()["id"]},
        "insight_id": insight["id"],
        "action_id": action_id,
        "checkpoint_id": checkpoint.id,
        "training_id": world.training["id"],
        "data_model_id": world.training["data_model_id"],
        "scores": [
            {
                "evaluation_id": evaluation_id,
                "benchmark_id": benchmark_id,
                "benchmark_revision": 1,
                "metrics": {"roc_auc": 0.8},
            }
        ],
        "files": [
            {
                "connector_id": world.connector_id,
                "file": "customers.csv",
                "bucket": BUCKET,
                "key": key,
                "etag": stored["ETag"].strip('"'),
                "version_id": stored["VersionId"],
                "scan_id": SCAN,
            }
        ],
    }
    for address in (
        f"/actions/{action_id}",
        f"/trainings/{world.training['id']}",
        f"/benchmarks/{benchmark_id}",
        f"/connectors/{world.connector_id}",
        f"/data-models/{world.training['data_model_id']}",
    ):
        assert client.delete(address).status_code == 200, address
    assert client.get(path).json() == lineage
    assert client.get(f"/arguments/{argument['id']}").json()["action_id"] == action_id
    insight_lineage = client.get(f"/insights/{insight['id']}/lineage").json()
    assert insight_lineage == {**lineage, "argument_id": None, "review": None}
    specification = f"spaces/{world.event['space_id']}/trainings/{world.training['id']}/input/job.json"
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=specification)
    assert client.get(path).json() == {**lineage, "data_model_id": None, "files": []}, "the other fields are kept"


def post_argument(client: TestClient, **fields: Any) -> Any:
    return client.post("/arguments", json={**FACTS, "model": "small", **fields})


@pytest.mark.row("Y-1")
def test_the_lineage_of_an_argument_keeps_the_model_that_its_action_had(world: World, client: TestClient) -> None:
    checkpoint = checkpoint_of(world)
    client.put("/checkpoints/aliases/champion", json={"checkpoint_id": checkpoint.id})
    with_model, without_model = (
        client.post("/actions", json=OFFER | fields).json()["id"] for fields in ({"model_id": "champion"}, {})
    )
    argument_id = post_argument(client, action_id=with_model).json()["id"]
    client.delete("/checkpoints/aliases/champion")
    lineage = client.get(f"/arguments/{argument_id}/lineage").json()
    assert (lineage["checkpoint_id"], lineage["insight_id"]) == (checkpoint.id, None)

    client.put(f"/arguments/{argument_id}", json={"action_id": without_model})
    lineage = client.get(f"/arguments/{argument_id}/lineage").json()
    assert (lineage["action_id"], lineage["checkpoint_id"], lineage["files"]) == (without_model, None, [])


@pytest.mark.row("Y-1")
@pytest.mark.parametrize("name", ["insight_id", "action_id"])
def test_an_argument_with_an_unknown_or_contradictory_reference_is_refused(
    world: World, client: TestClient, name: str
) -> None:
    unknown = post_argument(client, **{name: new_id()})
    assert (unknown.status_code, unknown.json()["details"][0]["field"]) == (400, f"body.{name}")
    chosen, other = (client.post("/actions", json=OFFER).json()["id"] for _ in range(2))
    insight_id = client.post("/insights", json={"client": CUSTOMER, "actions": [chosen]}).json()["id"]
    refused = post_argument(client, insight_id=insight_id, action_id=other)
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.action_id")
    assert chosen in refused.json()["error"]
    assert client.get("/arguments").json() == []
