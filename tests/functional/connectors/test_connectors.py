"""Connectors: managed and foreign buckets, files, uploads, scans and the catalog that events and scans keep."""

import gzip
import json
import logging
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.jobs.sources import read_secret
from functions.workflows.connector_scan.fail_scan import fail_scan
from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.scan_file import scan_file
from functions.workflows.job_inputs import JobInputs
from shared.connectors.storage import ConnectorStorage, FileVersion, StorageError
from shared.dynamodb.reference_counts import add_reference, remove_reference
from shared.dynamodb.table import Key, Table
from shared.errors import NotFoundError
from shared.models.connector_training import ConnectorTraining
from shared.resources import Resources
from tests.faults.boundary import Boundary, Fault, KilledError
from tests.fixtures.aws import BUCKET
from tests.fixtures.connectors import CSV, Lab

NEW_SECRET = "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEYS: dict[str, Any] = {
    "bucket": "customer",
    "region": "us-east-1",
    "prefix": "in",
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": SECRET,
}


@pytest.fixture
def lab(client: TestClient, resources: Resources) -> Lab:
    return Lab(client, resources)


@pytest.fixture
def customer_bucket(aws: None) -> Any:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="customer")
    return s3


def files_of_a_job(lab: Lab, connector_id: str) -> list[str | None]:
    """What a training on the connector would read."""
    part = ConnectorTraining(connector_id=connector_id)
    [dataset] = JobInputs(lab.resources).datasets(lab.space_id, [part], None)
    return [file.name for file in dataset.files]


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
        "s3": None,
    }
    assert lab.client.get(f"/connectors/{connector['id']}").json() == connector
    assert lab.client.get("/connectors").json() == {"count": 1, "data": [connector], "has_more": False}
    assert lab.client.delete(f"/connectors/{connector['id']}").json() == {"id": connector["id"]}
    assert lab.client.delete(f"/connectors/{connector['id']}").status_code == 404
    assert lab.client.get("/connectors").json()["count"] == 0


@pytest.mark.row("CN-1")
def test_the_keys_of_a_customers_bucket_are_kept_apart_and_never_told(
    lab: Lab, customer_bucket: Any, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = {**KEYS, "owner": "marketing", "session_token": SECRET}
    created = lab.client.post("/connectors", json={"name": "Own", "type": "aws-s3", "s3": config})
    connector_id = created.json()["id"]
    assert created.json()["status"] == "connected"
    assert created.json()["s3"]["prefix"] == "in/"
    assert created.json()["s3"]["owner"] == "marketing"
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


def test_a_role_is_asked_for_with_the_id_of_the_space_unless_another_is_given(lab: Lab, customer_bucket: Any) -> None:
    asked: list[str] = []
    told = "provide-client-params.sts.AssumeRole"
    lab.resources.sts.meta.events.register(told, lambda params, **_: asked.append(params["ExternalId"]))
    role = "arn:aws:iam::210987654321:role/reader"
    config = {"bucket": "customer", "region": "us-east-1", "role_arn": role}
    connector_id = lab.connector(s3=config)
    lab.connector(s3={**config, "external_id": "agreed-upon"})
    assert asked == [lab.space_id, "agreed-upon"]
    assert lab.client.get(f"/connectors/{connector_id}").json()["s3"]["external_id"] == lab.space_id
    customer_bucket.put_object(Bucket="customer", Key="a.csv", Body=CSV)
    lab.scan(connector_id)
    lab.work(connector_id)
    assert files_of_a_job(lab, connector_id) == ["a.csv"]
    assert set(asked[2:]) == {lab.space_id}


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
    before = connectors.get(lab.space_id, connector_id).job_access("/inference/test")
    rotate(lab, connector_id)
    lab.client.put(f"/connectors/{connector_id}", json={"s3": {"role_arn": "arn:aws:iam::210987654321:role/reader"}})
    after = connectors.get(lab.space_id, connector_id).job_access("/inference/test")
    assert (after.credentials_parameter, after.external_id) == (None, lab.space_id)
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


def keys_of(lab: Lab, connector_id: str) -> str:
    """The secret that the connector is read with now."""
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
    assert list(table.query(f"catalog#{lab.space_id}#{connector_id}")) == []
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


@pytest.mark.row("CN-3")
def test_files_are_listed_by_folder_without_folder_markers(lab: Lab) -> None:
    connector_id = lab.connector()
    names = ["b.csv", "2024/città.csv", "2024/ü/数据.parquet", "a.csv", "2024/b.csv"]
    for name in names:
        lab.put(connector_id, name)
    lab.put(connector_id, "2024/", b"")
    assert lab.files(connector_id) == [["2024/b.csv", "2024/città.csv"], ["2024/ü/数据.parquet"], ["a.csv", "b.csv"]]
    assert sorted(lab.files(connector_id, flat=True)) == sorted(names)
    assert lab.files(connector_id, prefix="2024/c") == [["2024/città.csv"]]
    assert sum(map(len, lab.files(connector_id, limit=2))) == 2
    assert lab.files(connector_id, prefix="none") == []


FILE_NAMES = st.text("a/ %\u00e9", min_size=1, max_size=3)


@pytest.mark.row("CN-3")
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(FILE_NAMES, max_size=8), FILE_NAMES | st.just(""), st.integers(1, 6))
def test_the_files_of_any_prefix_are_those_that_begin_with_it(
    lab: Lab, names: set[str], prefix: str, limit: int
) -> None:
    connector_id = lab.connector()
    for name in names:
        lab.put(connector_id, name, b"x")
    for begin in (prefix, prefix[:1]):
        expected = sorted((name for name in names if name.startswith(begin)), key=str.encode)
        query: dict[str, Any] = {"prefix": begin, "limit": limit, "flat": True}
        found = lab.client.get(f"/connectors/{connector_id}/files", params=query)
        assert found.json() == expected[:limit]
        assert found.headers["X-Has-More"] == str(len(expected) > limit).lower()
        folders = lab.files(connector_id, prefix=begin, limit=limit)
        assert sorted((name for folder in folders for name in folder), key=str.encode) == expected[:limit]
        assert len({name.rpartition("/")[0] for name in expected[:limit]}) == len(folders)


@pytest.mark.row("CN-3")
def test_more_than_a_thousand_files_are_paged_internally(lab: Lab) -> None:
    connector_id = lab.connector()
    for number in range(1_010):
        lab.put(connector_id, f"part-{number:04}.csv", b"x")
    everything = lab.client.get(f"/connectors/{connector_id}/files", params={"limit": 5000})
    assert everything.json() == [[f"part-{number:04}.csv" for number in range(1_010)]]
    assert everything.headers["X-Has-More"] == "false"
    some = lab.client.get(f"/connectors/{connector_id}/files", params={"limit": 1005})
    assert len(some.json()[0]) == 1_005
    assert some.headers["X-Has-More"] == "true"


@pytest.mark.row("CN-3")
def test_a_bucket_that_refuses_us_is_a_502_with_its_own_code(lab: Lab, customer_bucket: Any) -> None:
    connector_id = lab.connector(s3=KEYS)
    customer_bucket.delete_bucket(Bucket="customer")
    answer = lab.client.get(f"/connectors/{connector_id}/files")
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_error")
    assert "NoSuchBucket" in answer.json()["error"]


@pytest.mark.row("CN-1")
def test_uploads_are_forms_for_one_name_each_within_an_hour(lab: Lab) -> None:
    connector_id = lab.connector()
    answer = lab.client.post(f"/connectors/{connector_id}/uploads", json={"files": ["2024/città.csv", "b.csv"]})
    assert answer.status_code == 201, answer.text
    uploads = answer.json()["uploads"]
    assert [upload["file"] for upload in uploads] == ["2024/città.csv", "b.csv"]
    form = uploads[0]
    assert form["fields"]["key"] == f"spaces/{lab.space_id}/connectors/{connector_id}/2024/città.csv"
    sent = boto3_post(form, CSV)
    assert sent.status_code in (200, 204), sent.text
    assert lab.files(connector_id) == [["2024/città.csv"]]


def boto3_post(form: dict[str, Any], content: bytes) -> Any:
    """Post a form the way a browser does; moto answers requests of its patched libraries only."""
    import requests

    return requests.post(form["url"], data=form["fields"], files={"file": content}, timeout=10)


@pytest.mark.parametrize(
    "name", ["../a.csv", "/a.csv", "a//b.csv", "a/./b", "a\x00b", "a\nb", "folder/", "ü" * 513, "", "${filename}"]
)
def test_dangerous_file_names_are_refused(lab: Lab, name: str) -> None:
    connector_id = lab.connector()
    for path in ("uploads", "scan"):
        answer = lab.client.post(f"/connectors/{connector_id}/{path}", json={"files": [name]})
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["details"][0]["field"] == "body.files.0"


def test_a_customers_bucket_takes_no_uploads(lab: Lab, customer_bucket: Any) -> None:
    answer = lab.client.post(f"/connectors/{lab.connector(s3=KEYS)}/uploads", json={"files": ["a.csv"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


@pytest.mark.row("CN-4")
def test_a_scan_answers_at_once_and_describes_each_file_or_its_error(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "good.csv")
    lab.put(connector_id, "rows.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": 2.5}\n'))
    lab.put(connector_id, "broken.parquet", b"PAR1 no more PAR1")
    lab.put(connector_id, "empty.csv", b"")
    answer = lab.scan(connector_id, files=["good.csv", "rows.jsonl.gz", "broken.parquet", "empty.csv", "missing.csv"])
    assert answer == {"scan_id": answer["scan_id"], "status": "pending"}
    execution = boto3.client("stepfunctions").list_executions(
        stateMachineArn=lab.resources.settings.scan_state_machine_arn or ""
    )["executions"][0]
    assert execution["name"] == answer["scan_id"]
    assert lab.work(connector_id) == {"status": "succeeded", "total": 5, "scanned": 2, "failed": 3}
    catalog = lab.catalog(connector_id)
    good = catalog["good.csv"]
    assert {**good, "etag": "", "scanned_at": ""} == {
        "file": "good.csv",
        "size_bytes": len(CSV),
        "etag": "",
        "format": "csv",
        "rows": 2,
        "columns": [
            column("id", "int", 1, 2, {"0.05": 1.0, "0.25": 1.0, "0.5": 2.0, "0.75": 2.0, "0.95": 2.0}),
            column("income", "float", 1.5, 10.0, {"0.05": 1.5, "0.25": 1.5, "0.5": 10.0, "0.75": 10.0, "0.95": 10.0}),
        ],
        "sampled_rows": 2,
        "status": "scanned",
        "error": None,
        "scanned_at": "",
    }
    assert catalog["rows.jsonl.gz"]["columns"][0]["type"] == "float"
    errors = {name: row["error"] for name, row in catalog.items() if row["status"] == "error"}
    assert errors.keys() == {"broken.parquet", "empty.csv", "missing.csv"}
    assert "Parquet" in errors["broken.parquet"]
    assert "empty" in errors["empty.csv"]
    assert "no such file" in errors["missing.csv"]


def column(name: str, kind: str, minimum: float, maximum: float, quantiles: dict[str, float]) -> dict[str, Any]:
    """What the catalog says of one without nulls and personal data, and with two values."""
    counts = {"nulls": 0, "distinct": 2, "min": minimum, "max": maximum, "quantiles": quantiles}
    return {"name": name, "type": kind, **counts, "top_values": [], "personal_data": None}


@pytest.mark.row("CN-4")
def test_a_second_scan_during_a_run_joins_it_and_another_follows(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv")
    first = lab.scan(connector_id)
    listed, items = lab.begin(connector_id)
    assert lab.scan(connector_id) == {"scan_id": first["scan_id"], "status": "running"}
    assert lab.scan(connector_id, files=["missing.csv", "a.csv"])["scan_id"] == first["scan_id"]
    lab.put(connector_id, "late.csv")
    for item in items:
        scan_file(lab.resources, {**listed, "file": item})
    finish_scan(lab.resources, listed)
    following = lab.running(connector_id)
    assert following not in (None, first["scan_id"])
    assert lab.work(connector_id)["total"] == 1, "what is known already is not read again"
    assert lab.running(connector_id) not in (None, following)
    assert lab.work(connector_id)["total"] == 2, "what was named meanwhile is read in any case"
    catalog = lab.catalog(connector_id)
    assert {name: row["status"] for name, row in catalog.items()} == {
        "a.csv": "scanned",
        "late.csv": "scanned",
        "missing.csv": "error",
    }
    assert lab.running(connector_id) is None
    finish_scan(lab.resources, listed)
    assert lab.running(connector_id) is None, "a repeated last step starts nothing"


def test_a_scan_of_all_files_drops_what_is_gone_from_a_customers_bucket(lab: Lab, customer_bucket: Any) -> None:
    connector_id = lab.connector(s3=KEYS)
    for name in ("a.csv", "b.csv"):
        customer_bucket.put_object(Bucket="customer", Key=f"in/{name}", Body=CSV)
    lab.scan(connector_id)
    lab.work(connector_id)
    customer_bucket.delete_object(Bucket="customer", Key="in/a.csv")
    customer_bucket.put_object(Bucket="customer", Key="in/b.csv", Body=CSV + b"3,x\n")
    lab.scan(connector_id)
    lab.work(connector_id)
    catalog = lab.catalog(connector_id)
    assert catalog.keys() == {"b.csv"}
    assert [column["type"] for column in catalog["b.csv"]["columns"]] == ["int", "string"]
    assert files_of_a_job(lab, connector_id) == ["b.csv"]


def test_a_scan_without_access_fails_with_the_reason_and_a_later_one_recovers(lab: Lab, customer_bucket: Any) -> None:
    connector_id = lab.connector(s3=KEYS)
    customer_bucket.delete_bucket(Bucket="customer")
    scan_id = lab.scan(connector_id)["scan_id"]
    with pytest.raises(Exception, match="NoSuchBucket") as failure:
        lab.begin(connector_id)
    values = {"space_id": lab.space_id, "connector_id": connector_id, "scan_id": scan_id}
    fail_scan(
        lab.resources,
        {
            **values,
            "error": "JobFailedError",
            "cause": json.dumps({"errorType": "JobFailedError", "errorMessage": str(failure.value)}),
        },
    )
    scan = lab.resources.connector_scans.scans.get(lab.space_id, scan_id)
    assert (scan.status, "NoSuchBucket" in str(scan.error)) == ("failed", True)
    connector = lab.client.get(f"/connectors/{connector_id}").json()
    assert connector["status"] == "error"
    assert lab.running(connector_id) is None
    customer_bucket.create_bucket(Bucket="customer")
    lab.scan(connector_id)
    lab.work(connector_id)
    assert lab.client.get(f"/connectors/{connector_id}").json()["status"] == "connected"


@pytest.mark.row("CN-4")
def test_when_a_scan_fails_the_files_that_waited_say_so_and_what_was_asked_for_meanwhile_follows(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    scan_id = lab.running(connector_id)
    lab.scan(connector_id)
    values = {"space_id": lab.space_id, "connector_id": connector_id, "scan_id": scan_id}
    fail_scan(lab.resources, {**values, "error": "States.Timeout", "cause": ""})
    row = lab.catalog(connector_id)["a.csv"]
    assert (row["status"], "The scan failed" in row["error"]) == ("error", True)
    assert lab.running(connector_id) not in (None, scan_id)


def test_a_file_whose_reader_died_gets_an_error_and_is_not_tried_for_ever(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "huge.csv"))
    listed, _ = lab.begin(connector_id)
    assert finish_scan(lab.resources, listed)["failed"] == 1
    row = lab.catalog(connector_id)["huge.csv"]
    assert (row["status"], "time and memory" in row["error"]) == ("error", True)
    assert lab.running(connector_id) is None


@pytest.mark.row("CN-5")
def test_an_upload_is_scanned_once_however_often_it_is_told(lab: Lab) -> None:
    connector_id = lab.connector()
    event = lab.put(connector_id, "a.csv")
    assert lab.deliver(event, event) == []
    assert lab.catalog(connector_id)["a.csv"]["status"] == "pending"
    assert lab.work(connector_id)["scanned"] == 1
    before = lab.catalog(connector_id)
    assert before["a.csv"]["status"] == "scanned"
    assert lab.deliver(event, event) == []
    assert lab.running(connector_id) is None
    assert lab.catalog(connector_id) == before


@pytest.mark.row("CN-5")
def test_events_out_of_order_give_the_state_of_the_latest(lab: Lab) -> None:
    connector_id = lab.connector()
    first = lab.put(connector_id, "a.csv")
    gone = lab.remove(connector_id, "a.csv")
    again = lab.put(connector_id, "a.csv", b"x\n1\n2\n3\n")
    assert lab.deliver(again) == []
    lab.work(connector_id)
    assert lab.deliver(gone, first) == []
    assert lab.running(connector_id) is None
    assert lab.catalog(connector_id)["a.csv"]["rows"] == 3

    finally_gone = lab.remove(connector_id, "a.csv")
    assert lab.deliver(finally_gone, again, first) == []
    assert lab.catalog(connector_id) == {}
    assert lab.running(connector_id) is None


@pytest.mark.row("CN-5")
def test_an_event_during_a_scan_is_not_lost(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    listed, items = lab.begin(connector_id)
    newer = lab.put(connector_id, "a.csv", b"x\n1\n2\n3\n")
    other = lab.put(connector_id, "b.csv")
    for item in items:
        scan_file(lab.resources, {**listed, "file": item})
    assert lab.deliver(newer, other) == []
    finish_scan(lab.resources, listed)
    lab.work(connector_id)
    catalog = lab.catalog(connector_id)
    assert {name: (row["status"], row["rows"]) for name, row in catalog.items()} == {
        "a.csv": ("scanned", 3),
        "b.csv": ("scanned", 2),
    }
    assert lab.running(connector_id) is None


@pytest.mark.row("CN-5")
def test_a_result_that_an_event_overtook_is_thrown_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    listed, items = lab.begin(connector_id)
    download = ConnectorStorage.download

    def overtaken(storage: ConnectorStorage, version: FileVersion, target: Any) -> None:
        download(storage, version, target)
        lab.deliver(lab.put(connector_id, "a.csv", b"x\n1\n2\n3\n"))

    with monkeypatch.context() as patched:
        patched.setattr(ConnectorStorage, "download", overtaken)
        scan_file(lab.resources, {**listed, "file": items[0]})
    assert lab.catalog(connector_id)["a.csv"]["status"] == "pending"
    finish_scan(lab.resources, listed)
    lab.work(connector_id)
    assert lab.catalog(connector_id)["a.csv"]["rows"] == 3


def test_a_file_that_changes_while_being_read_is_read_again_as_a_whole(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv")
    lab.scan(connector_id)
    listed, items = lab.begin(connector_id)
    head, changes = ConnectorStorage.head, iter([b"x\n1\n2\n3\n"])

    def changing(storage: ConnectorStorage, file: str) -> FileVersion:
        found = head(storage, file)
        for content in changes:
            lab.put(connector_id, "a.csv", content)
            break
        return found

    monkeypatch.setattr(ConnectorStorage, "head", changing)
    scan_file(lab.resources, {**listed, "file": items[0]})
    row = lab.catalog(connector_id)["a.csv"]
    assert (row["rows"], [column["name"] for column in row["columns"]]) == (3, ["x"])
    assert row["etag"] == head(storage_of(lab, connector_id), "a.csv").etag


def storage_of(lab: Lab, connector_id: str) -> ConnectorStorage:
    prefix = f"spaces/{lab.space_id}/connectors/{connector_id}/"
    return ConnectorStorage(lab.resources.s3, BUCKET, prefix, is_managed=True)


def test_only_the_broken_message_of_a_batch_is_delivered_again(lab: Lab) -> None:
    connector_id = lab.connector()
    broken = lab.put(connector_id, "b.csv")
    del broken["detail"]["object"]["sequencer"]
    foreign = lab.event("Object Created", "spaces/somewhere/else.csv", "x", 1, None)
    assert lab.deliver(lab.put(connector_id, "a.csv"), broken, foreign) == ["1"]
    assert lab.catalog(connector_id).keys() == {"a.csv"}


def test_long_column_lists_are_kept_beside_the_table(lab: Lab) -> None:
    connector_id = lab.connector()
    names = [f"{number} is the number of a column with a rather long name" for number in range(1_000)]
    lab.deliver(lab.put(connector_id, "wide.csv", ("|".join(names) + "\n" + "|".join("1" * 1_000) + "\n").encode()))
    lab.work(connector_id)
    row = lab.catalog(connector_id)["wide.csv"]
    assert [column["name"] for column in row["columns"]] == names
    columns = f"spaces/{lab.space_id}/scans/columns/{connector_id}/"
    assert lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=columns)["KeyCount"] == 1
    assert files_of_a_job(lab, connector_id) == ["wide.csv"]
    lab.client.delete(f"/connectors/{connector_id}")
    assert lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=columns)["KeyCount"] == 0


def test_the_catalog_is_paged_by_file_name(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(*(lab.put(connector_id, f"{number}.csv") for number in range(5)))
    path = f"/connectors/{connector_id}/catalog"
    pages = [lab.client.get(path, params={"page_size": 2, "page": page}).json() for page in (1, 2, 3, 4)]
    assert [[row["file"] for row in page["data"]] for page in pages] == [
        ["0.csv", "1.csv"],
        ["2.csv", "3.csv"],
        ["4.csv"],
        [],
    ]
    assert [(page["count"], page["has_more"]) for page in pages] == [(5, True), (5, True), (5, False), (5, False)]


def test_another_spaces_connector_is_unknown(lab: Lab, other_client: TestClient) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv")
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", {"name": "Mine"}),
        ("DELETE", "", None),
        ("GET", "/files", None),
        ("GET", "/catalog", None),
        ("POST", "/scan", {}),
        ("POST", "/uploads", {"files": ["a.csv"]}),
    ):
        answer = other_client.request(method, f"/connectors/{connector_id}{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert lab.files(connector_id) == [["a.csv"]]
    assert lab.running(connector_id) is None


def test_a_connector_deleted_during_its_scan_comes_to_rest(lab: Lab, table: Table) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    listed, items = lab.begin(connector_id)
    lab.client.delete(f"/connectors/{connector_id}")
    for item in items:
        scan_file(lab.resources, {**listed, "file": item})
    assert finish_scan(lab.resources, listed) == {"status": "stopped"}
    assert list(table.query(f"catalog#{lab.space_id}#{connector_id}")) == []
    assert list(table.query("job#open")) == []
