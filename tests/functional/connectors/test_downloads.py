"""Tests of downloads: an owner gets an address for one file of a managed connector, such as exported reactions."""

from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_connector, add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker

EXPORT = "reactions/all-start.jsonl"


@pytest.fixture
def connector(client: TestClient, table: Table) -> str:
    connector = add_connector(table, space_of(client))
    key = f"spaces/{space_of(client)}/connectors/{connector}/{EXPORT}"
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b'{"reaction_accepted": 1}\n')
    return connector


@pytest.mark.row("X-8")
def test_an_owner_downloads_an_export_by_an_address_that_ends(client: TestClient, connector: str) -> None:
    made = client.post(f"/connectors/{connector}/downloads", json={"file": EXPORT})
    assert made.status_code == 201, made.text
    assert (made.json()["file"], made.json()["size_bytes"]) == (EXPORT, 25)
    address = urlsplit(made.json()["url"])
    query = parse_qs(address.query)
    assert f"spaces/{space_of(client)}/connectors/{connector}/{EXPORT}" in address.path
    assert query["X-Amz-Expires"] == ["900"]
    assert query["response-content-disposition"] == ["attachment; filename*=UTF-8''all-start.jsonl"]
    # The version of the file is fixed.
    assert query["versionId"]


@pytest.mark.row("X-8", "SE-1")
def test_members_keys_and_other_connectors_get_no_address(
    client: TestClient, sign_in: ClientMaker, table: Table, connector: str
) -> None:
    path, wanted = f"/connectors/{connector}/downloads", {"file": EXPORT}
    member = sign_in("member")
    add_member(table, member, space_of(client), [])
    assert member.post(path, json=wanted).status_code == 403
    key = client.post("/api-keys", json={"name": "k", "scopes": ["read", "write"]}).json()["key"]
    program = TestClient(client.app, headers={"Authorization": f"Bearer {key}"})
    assert program.post(path, json=wanted).status_code == 403
    assert client.post(path, json={"file": "missing.jsonl"}).status_code == 404
    assert client.post(path, json={"file": f"../{connector}/{EXPORT}"}).status_code in (400, 404)
    own = add_connector(table, space_of(client), is_managed=False)
    assert client.post(f"/connectors/{own}/downloads", json=wanted).status_code == 409
