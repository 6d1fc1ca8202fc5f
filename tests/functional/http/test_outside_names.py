"""Every request field that can name something outside the space is reviewed: whose rights reach what it names?"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.http.nested_fields import Shape, fields_of
from tests.fixtures.aws import BUCKET
from tests.functional.http.test_nested_fields import routes

# Parts of names of AWS resources, addresses and places of data.
OUTSIDE = re.compile(
    r"arn|role|bucket|url|uri|host|endpoint|image|queue|topic|region|prefix|path|account|kms|instance|database|"
    r"parameter|external|email|address|container|domain"
)
REVIEWED = {
    "database": "PostgreSQL checks the customer's own password.",
    "emails": "A mail goes to an address with an invite, and each space's invites are limited.",
    "endpoint_url": "Only the customer's own keys or role sign the request, and the guard checks the address.",
    "external_id": "Only the space's own value is taken.",
    "bucket": "It is read with the customer's own role or keys, and never with ours.",
    "host": "PostgreSQL checks the customer's own password, and the guard checks the address.",
    "instance_count": "A number of our own machines, which the limits of the space count.",
    "ingress_url": "The cluster's own token is sent, and the guard checks the address.",
    "manager_url": "The cluster's own token is sent, and the guard checks the address.",
    "parameters": "A JSON schema of an expert's tool.",
    "prefix": "A prefix in the customer's bucket.",
    "region": "A region of the customer's bucket.",
    "role": "A word for the user interface; it grants nothing.",
    "role_arn": "The role must require the space's external id.",
    "roles": "Permissions in the space, which only its owner grants.",
    "url": "The address answers a challenge, and the guard checks it.",
}


def names(shape: Shape) -> Iterator[str]:
    if shape.model:
        for name, inner in fields_of(shape.model).items():
            yield name
            yield from names(inner)
    for inner in filter(None, (shape.items, shape.values)):
        yield from names(inner)


@pytest.mark.row("SE-2")
def test_every_field_that_names_something_outside_is_reviewed() -> None:
    found = {name for _, _, body in routes() for name in names(body) if OUTSIDE.search(name)}
    assert found == REVIEWED.keys(), "say in REVIEWED whose rights reach what the field names, and test it"


@pytest.mark.row("SE-2")
@pytest.mark.parametrize(
    ("s3", "field"),
    [
        ({"bucket": BUCKET, "region": "us-east-1"}, "body.s3"),
        ({"bucket": "customer", "region": "us-east-1"}, "body.s3"),
        ({"bucket": f"arn:aws:s3:::{BUCKET}", "region": "us-east-1", "role_arn": "*"}, "body.s3.bucket"),
        ({"bucket": "customer", "region": "us-east-1", "role_arn": "*"}, "body.s3.role_arn"),
        ({"bucket": "customer", "region": "us-east-1", "access_key_id": "", "secret_access_key": ""}, "body.s3."),
        ({"bucket": "customer", "region": "us-east-1", "access_key_id": "AKIA", "secret_access_key": ""}, "body.s3."),
        ({"bucket": "customer", "region": "us-east-1", "kms_key_id": "alias/ours"}, "body.s3.kms_key_id"),
        ({"bucket": "customer", "region": "us-east-1", "credentials_parameter": "/x"}, "body.s3.credentials_parameter"),
    ],
)
def test_a_bucket_without_the_customers_own_access_is_refused(client: TestClient, s3: Any, field: str) -> None:
    refused = client.post("/connectors", json={"name": "Own", "type": "aws-s3", "s3": s3})
    assert refused.status_code == 400
    assert refused.json()["details"][0]["field"].startswith(field), refused.text


@pytest.mark.row("SE-2")
@pytest.mark.parametrize(
    "changes",
    [
        {"configuration": {"image_uri": "attacker/image"}},
        {"configuration": {"role_arn": "arn:aws:iam::123456789012:role/admin"}},
        {"configuration": {"output_path": "s3://attacker/"}},
        {"connectors": [{"id": "x", "access": {"role_arn": "arn:aws:iam::123456789012:role/admin"}}]},
        {"connectors": [{"id": "x", "bucket": BUCKET}]},
    ],
)
def test_a_training_takes_no_role_image_or_place_of_its_own(client: TestClient, changes: dict[str, Any]) -> None:
    body = {"architecture": "lightgbm", "configuration": {}, "connectors": [{"id": "x"}], "data_model_id": "x"}
    refused = client.post("/trainings", json={**body, "gpu_count": 0, "name": "First", **changes})
    assert refused.status_code == 400
    assert any(name in refused.text for name in ("image_uri", "role_arn", "output_path", "access", "bucket"))
