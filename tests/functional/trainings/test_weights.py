"""An architecture with weights needs those of the operator, and a license that the space may use."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.workflows.training.check_training import check_training
from infra.groups import TABICL_WEIGHTS
from shared.dynamodb.table import Table
from shared.errors import JobFailedError
from shared.models.job import JobWeights, TrainingJob
from shared.propensity.architectures.registry import ARCHITECTURES
from shared.resources import Resources
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_member
from tests.fixtures.training_workflow import World
from tests.fixtures.trainings import space_of, training_request
from tests.functional.conftest import ClientMaker, same_caller

SHA256 = "ab" * 32
RESTRICTED = "CC-BY-NC-4.0"
Deployed = Callable[[str | None], TestClient]


def with_weights(resources: Resources, stated: str | None) -> Resources:
    """Returns the resources of a deployment with weights of this license, or without weights."""
    changes = {"tabicl_weights_license": stated, "tabicl_weights_sha256": SHA256 if stated else None}
    return Resources(resources.settings.model_copy(update=changes), resources.clock)


@pytest.fixture
def deployed(client: TestClient, resources: Resources) -> Deployed:
    return lambda stated: same_caller(client, with_weights(resources, stated))


def listed(client: TestClient) -> dict[str, Any]:
    [found] = [each for each in client.get("/architectures").json()["data"] if each["name"] == "tabicl"]
    return dict(found)


@pytest.mark.row("Y-7", "ML-1")
def test_without_weights_the_architecture_is_listed_as_not_available_and_refused(
    deployed: Deployed, table: Table
) -> None:
    client = deployed(None)
    shown = listed(client)
    refused = client.post("/trainings", json=training_request(client, table, architecture="tabicl"))

    assert (shown["is_available"], shown["weights_license"]) == (False, None)
    assert refused.status_code == 409
    assert refused.json()["error"] == shown["unavailable_because"]
    assert "Its operator has to put them into the bucket as weights/tabicl.ckpt" in refused.json()["error"]
    others = [each for each in client.get("/architectures").json()["data"] if each["name"] != "tabicl"]
    assert all(each["is_available"] and each["unavailable_because"] is None for each in others)


@pytest.mark.row("Y-7")
def test_weights_with_a_license_for_commercial_use_can_be_used_without_more(deployed: Deployed, table: Table) -> None:
    client = deployed("BSD-3-Clause")
    shown = listed(client)
    assert (shown["is_available"], shown["weights_license"]) == (True, "BSD-3-Clause")
    assert client.post("/trainings", json=training_request(client, table, architecture="tabicl")).status_code == 201


@pytest.mark.row("Y-7")
def test_weights_with_another_license_can_only_be_used_after_an_owner_of_the_space_has_accepted_it(
    deployed: Deployed, table: Table
) -> None:
    client = deployed(RESTRICTED)
    body = training_request(client, table, architecture="tabicl")
    space = f"/spaces/{space_of(client)}"
    refused = client.post("/trainings", json=body)
    other = client.post("/trainings", json={**body, "architecture": "lightgbm"}).json()
    changed = client.put(f"/trainings/{other['id']}", json={"architecture": "tabicl"})

    assert listed(client)["unavailable_because"] == refused.json()["error"] == changed.json()["error"]
    assert (refused.status_code, changed.status_code) == (403, 403)
    assert f'PUT /spaces/{{id}} with accepted_licenses ["{RESTRICTED}"]' in refused.json()["error"]
    assert client.get(f"/trainings/{other['id']}").json()["architecture"] == "lightgbm"

    # Another license does not count.
    client.put(space, json={"accepted_licenses": ["CC-BY-NC-ND-4.0"]})
    assert client.post("/trainings", json=body).status_code == 403
    accepted = client.put(space, json={"accepted_licenses": [RESTRICTED]})
    assert accepted.json()["accepted_licenses"] == [RESTRICTED]
    assert listed(client)["is_available"]
    assert client.post("/trainings", json=body).status_code == 201
    client.put(space, json={"accepted_licenses": []})
    assert client.post("/trainings", json=body).status_code == 403


@pytest.mark.row("Y-7")
def test_a_member_who_is_no_owner_cannot_accept_a_license(
    client: TestClient, table: Table, sign_in: ClientMaker
) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), ["trainings:create"])
    refused = bob.put(f"/spaces/{space_of(client)}", json={"accepted_licenses": [RESTRICTED]})
    assert refused.status_code == 403
    assert client.get(f"/spaces/{space_of(client)}").json()["accepted_licenses"] == []


@pytest.mark.row("Y-7")
@pytest.mark.parametrize("name", ["", "two words", "-x", "MIT\n", "a" * 101])
def test_a_license_is_accepted_by_its_name_only(client: TestClient, name: str) -> None:
    assert client.put(f"/spaces/{space_of(client)}", json={"accepted_licenses": [name]}).status_code == 400


def world_of(client: TestClient, deployment: Resources, table: Table) -> World:
    """Returns a training with TabICL in a deployment, whose file is uploaded."""
    api = same_caller(client, deployment)
    world = World(api, deployment, table, training_request(api, table, architecture="tabicl"))
    world.upload("2025.csv")
    return world


@pytest.mark.row("ML-1")
def test_a_job_gets_the_place_the_checksum_and_the_license_of_the_weights(
    client: TestClient, resources: Resources, table: Table
) -> None:
    deployment = with_weights(resources, "BSD-3-Clause")
    world = world_of(client, deployment, table)
    check_training(deployment, world.event)

    key = f"spaces/{space_of(client)}/trainings/{world.training['id']}/input/job.json"
    job = TrainingJob.model_validate_json(resources.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert job.weights == JobWeights(bucket=BUCKET, key=TABICL_WEIGHTS, sha256=SHA256, license="BSD-3-Clause")
    assert [each.weights_key for each in ARCHITECTURES.values() if each.weights_key] == [TABICL_WEIGHTS]


@pytest.mark.row("ML-1")
def test_a_training_whose_weights_are_taken_away_before_its_job_fails_in_words(
    client: TestClient, resources: Resources, table: Table
) -> None:
    deployment = with_weights(resources, "BSD-3-Clause")
    world = world_of(client, deployment, table)
    with pytest.raises(JobFailedError, match="weights of the architecture tabicl were taken away"):
        check_training(with_weights(resources, None), world.event)
