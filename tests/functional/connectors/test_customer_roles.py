"""Roles of customers: only the space whose owner wrote the trust policy can use a role (the confused deputy)."""

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from shared.dynamodb.table import Key, update
from shared.models.connector import S3Location
from shared.resources import Resources
from tests.fixtures.aws import EXTERNAL_ID_KEY_NAME
from tests.fixtures.connectors import CSV, Lab
from tests.fixtures.moto import create_customer_role
from tests.functional.conftest import ClientMaker
from tests.functional.connectors.helpers import KEYS, files_of_a_job

ROLE = "arn:aws:iam::210987654321:role/reader"
CONFIG: dict[str, Any] = {"bucket": "customer", "region": "us-east-1", "role_arn": ROLE}
BODY = {"name": "Own", "type": "aws-s3", "s3": CONFIG}


def access_of(lab: Lab) -> dict[str, Any]:
    response = lab.client.get("/connectors/access/aws-role")
    assert response.status_code == 200, response.text
    access: dict[str, Any] = response.json()
    return access


@pytest.fixture
def bucket(customer_bucket: Any) -> Any:
    customer_bucket.put_object(Bucket="customer", Key="a.csv", Body=CSV)
    return customer_bucket


@pytest.fixture
def neighbour(lab: Lab, sign_in: ClientMaker, resources: Resources) -> Lab:
    """Returns the lab of another tenant."""
    mallory = sign_in("mallory")
    space = mallory.post("/spaces", json={"name": "Other", "description": ""}).json()["id"]
    mallory.headers["X-Space-Id"] = space
    return Lab(mallory, resources)


@pytest.mark.row("SE-2")
def test_the_external_id_is_known_before_the_connector_and_every_step_uses_it(lab: Lab, bucket: Any) -> None:
    asked: list[str] = []
    event = "provide-client-params.sts.AssumeRole"
    lab.resources.sts.meta.events.register(event, lambda params, **_: asked.append(params["ExternalId"]))
    access = access_of(lab)
    assert access["trust_policy"]["Statement"][0]["Condition"] == {
        "StringEquals": {"sts:ExternalId": access["external_id"]}
    }
    assert access["trust_policy"]["Statement"][0]["Principal"] == {"AWS": access["account_id"]}
    create_customer_role(ROLE, access["external_id"])
    created = lab.client.post("/connectors?validate=true", json=BODY)
    assert created.status_code == 201, created.text
    connector_id = created.json()["id"]
    place = f"/connectors/{connector_id}"
    shown = [created, lab.client.get(place), lab.client.patch(place, json={"name": "Bank"})]
    shown_ids = [each.json()["s3"]["external_id"] for each in shown]
    shown_ids += [each["s3"]["external_id"] for each in lab.client.get("/connectors").json()["data"]]
    assert shown_ids == [access["external_id"]] * 4
    lab.scan(connector_id)
    lab.work(connector_id)
    assert files_of_a_job(lab, connector_id) == ["a.csv"]
    assert lab.dataset(connector_id).access.external_id == access["external_id"]
    # The others test the trust policy: once for the new connector, and once in this process for later uses.
    assert len([each for each in asked if each != access["external_id"]]) == 2


@pytest.mark.row("SE-2")
def test_another_space_cannot_use_the_role_whatever_it_sends(lab: Lab, neighbour: Lab, bucket: Any) -> None:
    create_customer_role(ROLE, access_of(lab)["external_id"])
    lab.connector(s3=CONFIG)
    own = access_of(neighbour)["external_id"]
    assert own != access_of(lab)["external_id"]
    for external_id in (access_of(lab)["external_id"], lab.space_id, neighbour.space_id, "", "agreed-upon"):
        chosen = {**BODY, "s3": {**CONFIG, "external_id": external_id}}
        for path in ("/connectors", "/connectors?validate=true"):
            refused = neighbour.client.post(path, json=chosen)
            assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.s3.external_id")
            assert own in refused.json()["error"]
    stored = neighbour.client.post("/connectors", json=BODY).json()
    assert stored["status"] == "error"
    assert own in stored["error"]
    assert neighbour.client.get(f"/connectors/{stored['id']}/files").status_code == 502
    # A connector with access of its own can't be turned to the role either.
    keys = neighbour.connector(s3=KEYS)
    for change in (CONFIG, {**CONFIG, "external_id": access_of(lab)["external_id"]}, {"external_id": lab.space_id}):
        assert neighbour.client.put(f"/connectors/{keys}", json={"s3": change}).status_code == 400


@pytest.mark.row("SE-2")
def test_the_spaces_own_external_id_may_be_sent_back(lab: Lab, bucket: Any) -> None:
    create_customer_role(ROLE, access_of(lab)["external_id"])
    connector_id = lab.connector(s3={**CONFIG, "external_id": access_of(lab)["external_id"]})
    shown = lab.client.get(f"/connectors/{connector_id}").json()["s3"]
    changed = lab.client.put(f"/connectors/{connector_id}", json={"s3": shown})
    assert (changed.status_code, changed.json()["s3"]) == (200, shown)


@pytest.mark.row("SE-2")
def test_a_role_that_trusts_every_space_is_refused(lab: Lab, bucket: Any) -> None:
    create_customer_role(ROLE, None)
    refused = lab.client.post("/connectors", json=BODY)
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.s3.role_arn")
    assert access_of(lab)["external_id"] in refused.json()["error"]
    assert lab.client.get("/connectors").json()["count"] == 0


@pytest.mark.row("SE-2")
def test_a_role_that_comes_to_trust_every_space_is_not_used(lab: Lab, bucket: Any) -> None:
    stored = lab.client.post("/connectors", json=BODY).json()
    assert (stored["status"], ROLE in stored["error"]) == ("error", True)
    create_customer_role(ROLE, None)
    refused = lab.client.get(f"/connectors/{stored['id']}/files")
    assert (refused.status_code, "for every space" in refused.json()["error"]) == (502, True)


@pytest.mark.row("SE-2")
def test_a_role_that_cannot_be_tested_is_not_used(lab: Lab, bucket: Any) -> None:
    create_customer_role(ROLE, access_of(lab)["external_id"])
    connector_id = lab.connector(s3=CONFIG)

    def throttle(params: dict[str, Any], **_: Any) -> None:
        if params["ExternalId"] != access_of(lab)["external_id"]:
            raise ClientError({"Error": {"Code": "Throttling", "Message": "slow down"}}, "AssumeRole")

    lab.resources.sts.meta.events.register("provide-client-params.sts.AssumeRole", throttle)
    refused = lab.client.get(f"/connectors/{connector_id}/files")
    assert (refused.status_code, "can't be tested" in refused.json()["error"]) == (502, True)


@pytest.mark.row("SE-2")
def test_a_connector_with_an_external_id_from_before_stops_and_names_the_new_one(
    lab: Lab, neighbour: Lab, bucket: Any
) -> None:
    create_customer_role(ROLE, access_of(lab)["external_id"])
    connector_id = lab.connector(s3=CONFIG)
    # Earlier versions stored what the client sent. This space sent the id of another one.
    stored = {**S3Location(**CONFIG).model_dump(), "external_id": neighbour.space_id}
    lab.resources.table.write(update(Key(f"connector#{lab.space_id}", connector_id), {"s3": stored}))
    assert lab.client.get(f"/connectors/{connector_id}").json()["s3"]["external_id"] == access_of(lab)["external_id"]
    assert lab.files(connector_id) == [["a.csv"]], "the stored id is not used"
    create_customer_role("arn:aws:iam::210987654321:role/old", lab.space_id)
    stored["role_arn"] = "arn:aws:iam::210987654321:role/old"
    lab.resources.table.write(update(Key(f"connector#{lab.space_id}", connector_id), {"s3": stored}))
    stopped = lab.client.get(f"/connectors/{connector_id}/files")
    assert stopped.status_code == 502
    assert f"sts:ExternalId {access_of(lab)['external_id']}" in stopped.json()["error"]


@pytest.mark.row("SE-2")
def test_external_ids_depend_on_the_space_and_the_deployments_key_alone(
    lab: Lab, neighbour: Lab, resources: Resources
) -> None:
    first = access_of(lab)["external_id"]
    again = Resources(resources.settings).connector_storages
    assert again.external_id(lab.space_id) == first
    assert lab.space_id not in first
    boto3.client("secretsmanager").put_secret_value(SecretId=EXTERNAL_ID_KEY_NAME, SecretString="another key")
    assert Resources(resources.settings).connector_storages.external_id(lab.space_id) != first


def test_a_deployment_without_a_key_uses_no_roles(resources: Resources, lab: Lab) -> None:
    without = Resources(resources.settings.model_copy(update={"external_id_key_arn": None}))
    lab.client.app.state.resources = without  # type: ignore[attr-defined]
    refused = lab.client.post("/connectors", json=BODY)
    assert (refused.status_code, "EXTERNAL_ID_KEY_ARN" in refused.json()["error"]) == (503, True)
