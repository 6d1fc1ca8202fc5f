"""Connectors: access, keys, changes and deletion."""

import json
import logging
from typing import Any

import boto3
import pytest

from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.scan_file import scan_file
from shared.connectors.downloads import read_secret
from shared.connectors.storage import ConnectorStorage, FileVersion, StorageError
from shared.dynamodb.reference_counts import add_reference, remove_reference
from shared.dynamodb.table import Key, Table
from shared.errors import NotFoundError
from tests.faults.boundary import Boundary, Fault, KilledError
from tests.fixtures.aws import BUCKET
from tests.fixtures.connectors import CSV, Lab
from tests.fixtures.moto import create_customer_role
from tests.functional.connectors.helpers import KEYS, SECRET

NEW_SECRET = "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"


@pytest.mark.row("CN-1", "CN-2")
def test_a_managed_connector_is_created_read_listed_and_deleted(lab: Lab) -> None:
    created = lab.client.post("/connectors", json={"name": "Customers", "type": "aws-s3"})
    assert created.status_code == 201, created.text
    connector = created.json()
    assert {**connector, "id": "", "created_at": "", "updated_at": "", "created_by": ""} == {
        "id": "",
        "created_at": "",
        "updated_at": "",
        "created_by": "",
        "name": "Customers",
        "type": "aws-s3",
        "provider": "aws",
        "region": "us-east-1",
        "status": "connected",
        "error": None,
        "drift_policy": "record",
        "is_managed": True,
        "personal_data": {},
        "postgres": None,
        "read_options": None,
        "s3": None,
    }
    assert lab.client.get(f"/connectors/{connector['id']}").json() == connector
    assert lab.client.get("/connectors").json() == {"count": 1, "data": [connector], "has_more": False}
    assert lab.client.delete(f"/connectors/{connector['id']}").json() == {"id": connector["id"]}
    assert lab.client.delete(f"/connectors/{connector['id']}").status_code == 404
    assert lab.client.get("/connectors").json()["count"] == 0


@pytest.mark.row("CN-1")
def test_the_keys_of_a_customers_bucket_are_stored_apart_and_never_shown(
    lab: Lab, customer_bucket: Any, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    created = lab.client.post("/connectors", json={"name": "Own", "type": "aws-s3", "s3": KEYS})
    connector_id = created.json()["id"]
    assert created.json()["status"] == "connected"
    assert created.json()["s3"]["prefix"] == "in/"
    answers = created.text + lab.client.get("/connectors").text + lab.client.get(f"/connectors/{connector_id}").text
    items = boto3.client("dynamodb").scan(TableName=table.name)["Items"]
    for text in (answers, json.dumps(items, default=str), caplog.text):
        assert SECRET not in text
        assert KEYS["access_key_id"] not in text
    parameter = boto3.client("ssm").get_parameter(
        Name=f"/inference/test/connectors/{connector_id}", WithDecryption=True
    )
    assert parameter["Parameter"]["Type"] == "SecureString"
    assert json.loads(parameter["Parameter"]["Value"])["secret_access_key"] == SECRET
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=CSV)
    customer_bucket.put_object(Bucket="customer", Key="elsewhere.csv", Body=CSV)
    assert lab.files(connector_id) == [["a.csv"]]
    lab.client.delete(f"/connectors/{connector_id}")
    assert boto3.client("ssm").describe_parameters()["Parameters"] == []
    assert customer_bucket.list_objects_v2(Bucket="customer")["KeyCount"] == 2, "a customer's files stay"


@pytest.mark.row("CN-1")
def test_a_bucket_that_cannot_be_read_is_stored_as_an_error_or_refused(lab: Lab) -> None:
    body = {"name": "Own", "type": "aws-s3", "s3": {**KEYS, "bucket": "no-such-bucket"}}
    refused = lab.client.post("/connectors?validate=true", json=body)
    assert refused.status_code == 400
    assert "NoSuchBucket" in refused.json()["error"]
    assert lab.client.get("/connectors").json()["count"] == 0
    stored = lab.client.post("/connectors", json=body)
    assert stored.status_code == 201
    assert stored.json()["status"] == "error"
    assert "NoSuchBucket" in stored.json()["error"]
    assert SECRET not in refused.text + stored.text


@pytest.mark.row("CN-1")
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bucket": BUCKET}, "body.s3.bucket"),
        ({"bucket": "Not A Bucket"}, "body.s3.bucket"),
        ({"secret_access_key": None}, "body.s3"),
        ({"role_arn": "arn:aws:iam::123456789012:role/reader"}, "body.s3"),
        ({"access_key_id": None, "secret_access_key": None}, "body.s3"),
        ({"endpoint_url": "http://example.com"}, "body.s3.endpoint_url"),
        ({"endpoint_url": "https://169.254.169.254"}, "body.s3.endpoint_url"),
        ({"endpoint_url": "https://127.0.0.1:9000"}, "body.s3.endpoint_url"),
        ({"endpoint_url": "https://user:pass@10.0.0.1"}, "body.s3.endpoint_url"),
    ],
)
def test_a_wrong_or_dangerous_configuration_is_refused(lab: Lab, changes: dict[str, Any], field: str) -> None:
    config = {**KEYS, "bucket": "customer-bucket", **changes}
    answer = lab.client.post("/connectors", json={"name": "Own", "type": "aws-s3", "s3": config})
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["field"] == field
    assert SECRET not in answer.text
    assert lab.client.get("/connectors").json()["count"] == 0
    assert boto3.client("ssm").describe_parameters()["Parameters"] == []


def test_a_repeated_creation_keeps_one_connector_and_one_pair_of_keys(lab: Lab, customer_bucket: Any) -> None:
    body = {"name": "Own", "type": "aws-s3", "s3": KEYS}
    headers = {"Idempotency-Key": "once"}
    first = lab.client.post("/connectors", json=body, headers=headers)
    second = lab.client.post("/connectors", json=body, headers=headers)
    assert (first.status_code, first.json()) == (201, second.json())
    names = [each["Name"] for each in boto3.client("ssm").describe_parameters()["Parameters"]]
    assert names == [f"/inference/test/connectors/{first.json()['id']}"]


@pytest.mark.row("X-11")
def test_a_connector_takes_new_keys_that_work_and_keeps_its_old_ones_otherwise(
    lab: Lab, customer_bucket: Any, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    connector_id = lab.connector(s3=KEYS)
    place = f"/connectors/{connector_id}"
    tag = lab.client.get(place).headers["ETag"]
    changes = {"access_key_id": "AKIAI44QH8DHBEXAMPLE", "secret_access_key": NEW_SECRET}
    for sent, field in (
        ({"s3": {**changes, "bucket": "no-such-bucket"}}, "body.s3"),
        ({"s3": {"access_key_id": "AKIAI44QH8DHBEXAMPLE"}}, "body.s3"),
        ({"s3": {**changes, "role_arn": "arn:aws:iam::210987654321:role/reader"}}, "body.s3"),
        ({"s3": {"bucket": BUCKET}}, "body.s3.bucket"),
        ({"s3": {"endpoint_url": "https://s3.example.com"}}, "body.s3.secret_access_key"),
        ({"s3": None}, "body.s3"),
        ({"name": None}, "body.name"),
    ):
        refused = lab.client.put(place, json=sent)
        assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, field), refused.text
        assert (lab.client.get(place).headers["ETag"], keys_of(lab, connector_id)) == (tag, SECRET)
    changed = lab.client.patch(place, json={"name": "Bank", "s3": changes}, headers={"If-Match": tag})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["name"], changed.json()["s3"]["prefix"]) == ("Bank", "in/")
    assert lab.client.put(place, json={"s3": changes}, headers={"If-Match": tag}).status_code == 412
    assert keys_of(lab, connector_id) == NEW_SECRET
    assert lab.running(connector_id) is None, "the same files need no scan"
    items = boto3.client("dynamodb").scan(TableName=table.name)["Items"]
    for text in (changed.text, json.dumps(items, default=str), caplog.text):
        assert NEW_SECRET not in text
    lab.client.delete(place)
    assert boto3.client("ssm").describe_parameters()["Parameters"] == []


@pytest.mark.row("X-11")
def test_keys_that_a_job_was_given_stay_readable_after_a_rotation(lab: Lab, customer_bucket: Any) -> None:
    connector_id = lab.connector(s3=KEYS)
    connectors = lab.resources.connector_scans.scans.connectors
    storages = lab.resources.connector_storages
    before = storages.job_access(lab.space_id, connectors.get(lab.space_id, connector_id))
    rotate(lab, connector_id)
    change_to_role(lab, connector_id)
    after = storages.job_access(lab.space_id, connectors.get(lab.space_id, connector_id))
    assert (after.credentials_parameter, after.external_id) == (None, storages.external_id(lab.space_id))
    kept = read_secret(before.credentials_parameter, None, boto3.client)
    assert json.loads(kept or "")["secret_access_key"] == SECRET


@pytest.mark.row("X-11")
def test_a_scan_goes_on_with_the_new_keys_when_the_old_ones_are_revoked_under_it(
    lab: Lab, customer_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector_id = lab.connector(s3=KEYS)
    for name in ("a.csv", "b.csv", "c.csv"):
        customer_bucket.put_object(Bucket="customer", Key=f"in/{name}", Body=CSV)
    lab.scan(connector_id)
    listed, items = lab.begin(connector_id)
    download = ConnectorStorage.download

    def revoked(storage: ConnectorStorage, version: FileVersion, target: Any) -> None:
        if storage._client._request_signer._credentials.access_key == KEYS["access_key_id"]:  # type: ignore[attr-defined]
            if version.file == "b.csv":
                rotate(lab, connector_id)
            raise StorageError("The bucket customer can't be read: InvalidAccessKeyId.")
        download(storage, version, target)

    scan_file(lab.resources, {**listed, "file": items[0]})
    with monkeypatch.context() as patched:
        patched.setattr(ConnectorStorage, "download", revoked)
        for item in items[1:]:
            scan_file(lab.resources, {**listed, "file": item})
    assert finish_scan(lab.resources, listed) == {"status": "succeeded", "total": 3, "scanned": 3, "failed": 0}


@pytest.mark.row("X-11")
def test_a_connector_that_moves_is_scanned_anew_after_the_scan_that_runs(lab: Lab, customer_bucket: Any) -> None:
    connector_id = lab.connector(s3=KEYS)
    customer_bucket.put_object(Bucket="customer", Key="in/old.csv", Body=CSV)
    customer_bucket.put_object(Bucket="customer", Key="new/new.csv", Body=CSV)
    lab.scan(connector_id)
    listed, items = lab.begin(connector_id)
    moved = lab.client.put(f"/connectors/{connector_id}", json={"s3": {"prefix": "new"}})
    assert moved.json()["s3"]["prefix"] == "new/"
    for item in items:
        scan_file(lab.resources, {**listed, "file": item})
    finish_scan(lab.resources, listed)
    lab.work(connector_id)
    assert lab.catalog(connector_id).keys() == {"new.csv"}
    assert lab.running(connector_id) is None


@pytest.mark.row("X-11")
def test_a_connector_that_moves_is_scanned_though_the_worker_dies_right_after_it_was_written(
    lab: Lab, customer_bucket: Any
) -> None:
    connector_id = lab.connector(s3=KEYS)
    boundary = Boundary(seed=1)
    boundary.watch(lab.resources.dynamodb)
    with boundary.failing(Fault.LATE_KILLED, at=1), pytest.raises(KilledError):
        lab.client.put(f"/connectors/{connector_id}", json={"s3": {"prefix": "new"}})
    assert lab.client.get(f"/connectors/{connector_id}").json()["s3"]["prefix"] == "new/"
    assert lab.running(connector_id) is not None


@pytest.mark.row("X-11")
def test_a_failed_listing_does_not_mark_a_connector_that_was_given_new_access(
    lab: Lab, customer_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector_id = lab.connector(s3=KEYS)
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=CSV)
    lab.scan(connector_id)
    files, rotations = ConnectorStorage.files, iter([1])

    def revoked(storage: ConnectorStorage, prefix: str = "") -> Any:
        for _ in rotations:
            rotate(lab, connector_id)
            raise StorageError("The bucket customer can't be read: InvalidAccessKeyId.")
        return files(storage, prefix)

    with monkeypatch.context() as patched:
        patched.setattr(ConnectorStorage, "files", revoked)
        _, items = lab.begin(connector_id)
    assert [item["name"] for item in items] == ["a.csv"]
    assert lab.client.get(f"/connectors/{connector_id}").json()["status"] == "connected"


def test_a_managed_connector_has_a_name_to_change_and_no_access(lab: Lab) -> None:
    place = f"/connectors/{lab.connector()}"
    assert lab.client.put(place, json={"name": "Clients"}).json()["name"] == "Clients"
    refused = lab.client.put(place, json={"s3": {"bucket": "customer"}})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def rotate(lab: Lab, connector_id: str) -> None:
    keys = {"access_key_id": "AKIAI44QH8DHBEXAMPLE", "secret_access_key": NEW_SECRET}
    assert lab.client.put(f"/connectors/{connector_id}", json={"s3": keys}).status_code == 200


def change_to_role(lab: Lab, connector_id: str) -> None:
    role = "arn:aws:iam::210987654321:role/reader"
    create_customer_role(role, lab.resources.connector_storages.external_id(lab.space_id))
    changed = lab.client.put(f"/connectors/{connector_id}", json={"s3": {"role_arn": role}})
    assert changed.status_code == 200, changed.text


def keys_of(lab: Lab, connector_id: str) -> str:
    """Returns the secret that the connector is read with now."""
    connector = lab.resources.connector_scans.scans.connectors.get(lab.space_id, connector_id)
    return lab.resources.connector_storages.kept_credentials(connector)["secret_access_key"]


@pytest.mark.row("CN-2")
def test_a_connector_that_a_training_reads_is_not_deleted(lab: Lab, table: Table) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv")
    key = Key(f"connector#{lab.space_id}", connector_id)
    table.write(add_reference(key, NotFoundError("gone")))
    refused = lab.client.delete(f"/connectors/{connector_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert lab.files(connector_id) == [["a.csv"]], "nothing is half deleted"
    table.write(remove_reference(key))
    assert lab.client.delete(f"/connectors/{connector_id}").status_code == 200


def test_a_deleted_connector_leaves_neither_files_nor_catalog(lab: Lab, table: Table) -> None:
    connector_id = lab.connector()
    other = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"), lab.put(connector_id, "b.csv"), lab.put(other, "kept.csv"))
    lab.work(connector_id)
    late = lab.put(connector_id, "late.csv")
    assert lab.client.delete(f"/connectors/{connector_id}").status_code == 200
    left = [found["Key"] for found in lab.s3.list_objects_v2(Bucket=BUCKET, Prefix="spaces/")["Contents"]]
    assert [key for key in left if "/connectors/" in key] == [f"spaces/{lab.space_id}/connectors/{other}/kept.csv"]
    assert list(table.query(f"catalog#{lab.space_id}#{connector_id}")) == []
    assert list(table.query("connector#purges")) == []
    assert lab.client.get(f"/connectors/{connector_id}/catalog").status_code == 404

    assert lab.deliver(late) == [], "an upload that was under way arrives after all"
    assert [item["SK"] for item in table.query("connector#purges")] == [connector_id], (
        "and is removed by the next round"
    )


def test_what_a_deletion_could_not_remove_is_removed_later(
    lab: Lab, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv")

    def refuse(_storage: ConnectorStorage) -> None:
        lab.s3.get_object(Bucket="no-such-bucket", Key="x")

    with monkeypatch.context() as broken:
        broken.setattr(ConnectorStorage, "delete_all", refuse)
        assert lab.client.delete(f"/connectors/{connector_id}").status_code == 200
    assert lab.client.get(f"/connectors/{connector_id}").status_code == 404
    cleaner = lab.resources.connector_cleaner
    assert [each["SK"] for each in table.query("connector#purges")] == [connector_id]
    cleaner.clean(lab.space_id, connector_id)
    assert "Contents" not in lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"spaces/{lab.space_id}/connectors/")
    assert list(table.query("connector#purges")) == []
