"""Connectors to PostgreSQL: a real server's tables, scanned, rotated under a scan, and read by a job."""

import io
import json
import logging
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.jobs.sources import read_datasets
from functions.workflows.connector_scan import table_snapshots
from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.scan_file import scan_file, scan_files
from functions.workflows.connector_scan.table_snapshots import BoundedFile
from shared.connectors.storage import StorageError
from shared.dynamodb.table import Table
from shared.errors import JobFailedError, TransientError
from shared.models.connector import PostgresConfig
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import BUCKET
from tests.fixtures.certificates import HOST
from tests.fixtures.connectors import Lab
from tests.fixtures.postgres import PostgresServer, postgres_server

SECRET = "correct horse battery staple"
CUSTOMERS = (
    "create table customers (id int, name text, income numeric, since date, bought boolean)",
    "insert into customers select n, 'Customer ' || n, n * 1.5, date '2020-01-01' + n, n % 3 = 0"
    " from generate_series(1, 30) n",
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def database(server: PostgresServer) -> Iterator[PostgresServer]:
    """Returns the server with one table, and a user who may read what is in the schema."""
    server.run(
        "grant usage on schema public to public",
        f"create role reader login password '{SECRET}'",
        *CUSTOMERS,
        "grant select on customers to reader",
        "alter default privileges grant select on tables to reader",
    )
    yield server
    server.run("drop schema public cascade", "drop owned by reader", "drop role reader", "create schema public")


@pytest.fixture
def resources(aws: None, settings: Settings) -> Resources:
    return Resources(settings.model_copy(update={"allow_loopback": True}))


@pytest.fixture
def lab(client: TestClient, resources: Resources) -> Lab:
    return Lab(client, resources)


def access(server: PostgresServer, **changes: Any) -> dict[str, Any]:
    return {
        "host": HOST,
        "port": server.tls_port,
        "database": "postgres",
        "user": "reader",
        "password": SECRET,
        "ca_certificate": server.certificate,
        **changes,
    }


def connect(lab: Lab, server: PostgresServer, **changes: Any) -> str:
    connector_id = lab.connector(type="postgres", postgres=access(server, **changes))
    assert lab.client.get(f"/connectors/{connector_id}").json()["error"] is None
    return connector_id


def scan(lab: Lab, connector_id: str) -> dict[str, dict[str, Any]]:
    lab.scan(connector_id)
    lab.work(connector_id)
    return lab.catalog(connector_id)


def versions(lab: Lab, connector_id: str) -> list[str]:
    prefix = f"spaces/{lab.space_id}/snapshots/{connector_id}/"
    return [each["VersionId"] for each in lab.s3.list_object_versions(Bucket=BUCKET, Prefix=prefix).get("Versions", [])]


@pytest.mark.row("X-11")
def test_tables_are_scanned_into_the_catalog_and_the_password_is_never_shown(
    lab: Lab, database: PostgresServer, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    database.run("create view buyers as select * from customers where bought", "create table secrets (a int)",
                 "revoke all on secrets from reader")  # fmt: skip
    created = lab.client.post("/connectors", json={"name": "Bank", "type": "postgres", "postgres": access(database)})
    connector = created.json()
    assert (connector["status"], connector["provider"], connector["is_managed"]) == ("connected", "postgres", False)
    assert connector["postgres"].keys() == PostgresConfig.model_fields.keys() - {"password"}
    assert lab.files(connector["id"]) == [["buyers", "customers"]]
    assert lab.files(connector["id"], prefix="c", flat=True) == ["customers"]
    catalog = scan(lab, connector["id"])
    assert {name: (row["status"], row["rows"], row["format"]) for name, row in catalog.items()} == {
        "buyers": ("scanned", 10, "parquet"),
        "customers": ("scanned", 30, "parquet"),
    }
    columns = {column["name"]: column for column in catalog["customers"]["columns"]}
    assert {name: column["type"] for name, column in columns.items()} == {
        "id": "int",
        "name": "string",
        "income": "float",
        "since": "date",
        "bought": "boolean",
    }
    assert (columns["since"]["min"], columns["income"]["max"]) == ("2020-01-02", 45.0)
    items = boto3.client("dynamodb").scan(TableName=table.name)["Items"]
    answers = created.text + lab.client.get("/connectors").text
    assert all(SECRET not in text for text in (answers, json.dumps(items, default=str), caplog.text))
    lab.client.delete(f"/connectors/{connector['id']}")
    assert boto3.client("ssm").describe_parameters()["Parameters"] == []
    assert "Contents" not in lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"spaces/{lab.space_id}/snapshots/")


@pytest.mark.row("X-11")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"database": "nowhere"}, "does not exist"),
        ({"port": 1}, "Connection refused"),
        ({"ca_certificate": None}, "certificate verify failed"),
    ],
    ids=["password", "database", "port", "certificate"],
)
def test_a_database_that_cannot_be_read_is_stored_as_an_error_or_refused(
    lab: Lab, database: PostgresServer, changes: dict[str, Any], reason: str
) -> None:
    body = {"name": "Bank", "type": "postgres", "postgres": access(database, **changes)}
    refused = lab.client.post("/connectors?validate=true", json=body)
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.postgres")
    assert reason in refused.json()["error"]
    stored = lab.client.post("/connectors", json=body).json()
    assert (stored["status"], reason in stored["error"]) == ("error", True)
    files = lab.client.get(f"/connectors/{stored['id']}/files")
    assert (files.status_code, files.json()["code"]) == (502, "upstream_error")
    assert str(access(database, **changes)["password"]) not in refused.text + json.dumps(stored) + files.text


@pytest.mark.row("X-11")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"postgres": {"host": "10.0.0.1"}}, "body.postgres.host"),
        ({"postgres": {"host": "169.254.169.254"}}, "body.postgres.host"),
        ({"postgres": {"host": "8.8.8.8", "tls": "disable"}}, "body.postgres.tls"),
        ({"postgres": {"host": "user@host"}}, "body.postgres.host"),
        ({"postgres": {"ca_certificate": "no certificate"}}, "body.postgres.ca_certificate"),
        ({"postgres": {"ca_certificate": "kein Zertifikat für uns"}}, "body.postgres.ca_certificate"),
        ({"type": "aws-s3"}, "body"),
        ({"s3": {"bucket": "customer", "region": "us-east-1", "role_arn": "arn:aws:iam::123456789012:role/x"}}, "body"),
    ],
)
def test_a_wrong_or_dangerous_address_is_refused(lab: Lab, body: dict[str, Any], field: str) -> None:
    given = {"host": "db.example.com", "database": "bank", "user": "reader", "password": SECRET}
    sent = {"name": "Bank", "type": "postgres", **body, "postgres": given | body.get("postgres", {})}
    answer = lab.client.post("/connectors", json=sent)
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (400, field), answer.text
    assert SECRET not in answer.text
    assert lab.client.get("/connectors").json()["count"] == 0


def test_this_machine_is_no_address_except_for_the_local_stage(server: PostgresServer, settings: Settings) -> None:
    with (
        pytest.raises(Exception, match="not public"),
        Resources(settings).postgres_databases.open_config(PostgresConfig.model_validate(access(server)), 5),
    ):
        pass


@pytest.mark.row("X-11", "Y-1")
def test_a_job_reads_the_rows_of_the_scan_after_changes_of_the_table(lab: Lab, database: PostgresServer) -> None:
    connector_id = connect(lab, database)
    with pytest.raises(JobFailedError, match="Scan it"):
        lab.dataset(connector_id, "bought")
    scan(lab, connector_id)
    dataset = lab.dataset(connector_id, "bought")
    assert [(file.name, file.version_id) for file in dataset.files] == [("customers", *versions(lab, connector_id))]
    assert dataset.files[0].scan_id
    assert lab.dataset(connector_id, "bought", files=["customers"]) == dataset
    database.run("truncate customers", "insert into customers values (1, 'Ada', 1, '2024-01-01', true)")
    scan(lab, connector_id)
    assert len(versions(lab, connector_id)) == 2
    assert read_datasets([dataset], 0, "bought", boto3.client).frame.height == 30


@pytest.mark.row("X-11")
def test_a_table_that_has_not_changed_makes_no_new_version(lab: Lab, database: PostgresServer) -> None:
    connector_id = connect(lab, database)
    first = scan(lab, connector_id)["customers"]
    again = scan(lab, connector_id)["customers"]
    assert len(versions(lab, connector_id)) == 1
    assert again == first | {"scanned_at": again["scanned_at"]}


@pytest.mark.row("X-11")
def test_a_password_that_is_changed_under_a_scan_loses_no_table(lab: Lab, database: PostgresServer) -> None:
    database.run("create table accounts as select * from customers")
    connector_id = connect(lab, database)
    place = f"/connectors/{connector_id}"
    lab.scan(connector_id)
    listed, items = lab.begin(connector_id)
    scan_file(lab.resources, {**listed, "file": items[0]})
    assert lab.client.put(place, json={"postgres": {"password": "wrong"}}).status_code == 400
    database.run("alter role reader password 'the next secret'")
    assert lab.client.put(place, json={"postgres": {"password": "the next secret"}}).status_code == 200
    scan_file(lab.resources, {**listed, "file": items[1]})
    assert finish_scan(lab.resources, listed) == {"status": "succeeded", "total": 2, "scanned": 2, "failed": 0}
    assert lab.running(connector_id) is None


@pytest.mark.row("X-11")
def test_a_kept_password_is_sent_to_no_other_server_and_not_less_safely(lab: Lab, database: PostgresServer) -> None:
    connector_id = connect(lab, database)
    place = f"/connectors/{connector_id}"
    for change in ({"host": "db.example.com"}, {"port": database.port}, {"tls": "require"}, {"ca_certificate": None}):
        refused = lab.client.put(place, json={"postgres": change})
        assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.postgres.password"), change
    database.run("create table accounts (a int)")
    moved = lab.client.patch(place, json={"postgres": {"tables": ["accounts"]}})
    assert (moved.status_code, lab.files(connector_id)) == (200, [["accounts"]])
    lab.work(connector_id)
    assert lab.catalog(connector_id).keys() == {"accounts"}
    assert lab.client.put(place, json={"s3": {"bucket": "customer"}}).status_code == 409


@pytest.mark.row("X-11")
def test_a_table_that_is_dropped_while_the_scan_runs_is_gone(lab: Lab, database: PostgresServer) -> None:
    database.run("create table accounts as select * from customers")
    connector_id = connect(lab, database)
    assert scan(lab, connector_id).keys() == {"accounts", "customers"}
    lab.scan(connector_id)
    listed, items = lab.begin(connector_id)
    database.run("drop table accounts")
    for item in items:
        scan_file(lab.resources, {**listed, "file": item})
    assert finish_scan(lab.resources, listed)["failed"] == 0
    assert lab.catalog(connector_id).keys() == {"customers"}
    assert [file.name for file in lab.dataset(connector_id).files] == ["customers"], "no training reads a dropped table"
    database.run("drop table customers")
    assert scan(lab, connector_id) == {}
    assert "Contents" not in lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"spaces/{lab.space_id}/snapshots/")


@pytest.mark.row("X-11", "EN-3")
def test_a_connection_that_breaks_in_the_middle_is_tried_again_and_decides_nothing(
    lab: Lab, database: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("create table long as select n, repeat('x', 1000) from generate_series(1, 20000) n")
    connector_id = connect(lab, database, tables=["long"])
    lab.scan(connector_id)
    listed, items = lab.begin(connector_id)
    write, ends = BoundedFile.write, iter([1])

    def broken(file: BoundedFile, data: bytes) -> int:
        for _ in ends:
            database.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'")
        return write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(BoundedFile, "write", broken)
        with pytest.raises(TransientError, match="can't be read"):
            scan_files(lab.resources, {**listed, "files": items})
    assert lab.catalog(connector_id) == {}
    assert versions(lab, connector_id) == [], "nothing is half kept"
    scan_files(lab.resources, {**listed, "files": items})
    assert finish_scan(lab.resources, listed)["failed"] == 0
    assert lab.catalog(connector_id)["long"]["rows"] == 20_000


@pytest.mark.row("X-11", "EN-3")
def test_a_server_without_a_free_connection_is_tried_again_and_empties_no_entry(
    lab: Lab, database: PostgresServer
) -> None:
    connector_id = connect(lab, database)
    before = scan(lab, connector_id)
    database.run("create table accounts as select * from customers")
    lab.scan(connector_id)
    listed, items = lab.begin(connector_id)
    assert listed["is_database"], "few tables are copied at the same time"
    database.run("alter role reader connection limit 0")
    with pytest.raises(TransientError, match="too many connections"):
        scan_files(lab.resources, {**listed, "files": items})
    assert lab.catalog(connector_id) == before
    with pytest.raises(TransientError, match="too many connections"):
        lab.begin(connector_id)
    assert lab.client.get(f"/connectors/{connector_id}").json()["status"] == "connected"
    finish_scan(lab.resources, listed)
    after = lab.catalog(connector_id)
    assert after["customers"] == before["customers"]
    assert "too many connections" in after["accounts"]["error"], "it did not pass"


@pytest.mark.row("X-11")
def test_a_huge_table_is_read_in_little_memory_and_up_to_a_limit(
    lab: Lab, database: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("create view endless as select n, repeat('x', 1000) from generate_series(1, 50000) n")

    class Counter:
        written = 0

        def write(self, data: bytes) -> int:
            self.written += len(data)
            return len(data)

    config = PostgresConfig.model_validate(access(database))
    counter = Counter()
    with lab.resources.postgres_databases.open_config(config, 60) as opened:
        tracemalloc.start()
        opened.copy("endless", counter)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert counter.written > 50_000_000
    assert peak < 2_000_000

    connector_id = connect(lab, database, tables=["endless"])
    monkeypatch.setattr(table_snapshots, "DISK_SHARE", 1 << 40)
    assert "what a scan reads at most" in scan(lab, connector_id)["endless"]["error"]


@pytest.mark.row("SE-9")
def test_a_table_whose_copy_has_no_room_in_the_space_has_an_error_and_no_copy(
    lab: Lab, database: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("create table rooms as select n, md5(n::text) word from generate_series(1, 100) n")
    monkeypatch.setattr("shared.space_usage.storage.GIB", 1)
    limits = lab.resources.job_limits.model_copy(update={"storage_gib": 500})
    monkeypatch.setattr(lab.resources.storage_usages, "stage", limits)
    connector_id = connect(lab, database, tables=["rooms"])
    assert "storage_gib of the space has no room" in scan(lab, connector_id)["rooms"]["error"]
    prefix = f"spaces/{lab.space_id}/snapshots/"
    assert "Contents" not in lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    monkeypatch.setattr(lab.resources.storage_usages, "stage", limits.model_copy(update={"storage_gib": 50_000}))
    assert scan(lab, connector_id)["rooms"]["error"] is None
    # What has not changed needs no more room.
    monkeypatch.setattr(lab.resources.storage_usages, "stage", limits)
    assert scan(lab, connector_id)["rooms"]["error"] is None


def test_a_statement_that_takes_too_long_is_given_up(lab: Lab, database: PostgresServer) -> None:
    database.run("create view slow as select cast(pg_sleep(60) as text) as slept")
    config = PostgresConfig.model_validate(access(database))
    with (
        pytest.raises(StorageError, match="statement timeout"),
        lab.resources.postgres_databases.open_config(config, 1) as opened,
    ):
        opened.copy("slow", io.BytesIO())


@pytest.mark.row("X-11")
def test_a_view_that_would_write_is_refused(lab: Lab, database: PostgresServer) -> None:
    database.run(
        "create function note() returns int language sql volatile security definer as"
        " 'insert into customers (id) values (99) returning 1'",
        "create view sly as select note()",
    )
    connector_id = connect(lab, database, tables=["sly"])
    assert "read-only transaction" in scan(lab, connector_id)["sly"]["error"]
    assert database.run("select count(*) from customers where id = 99") == [[0]]


@pytest.mark.row("X-11")
def test_strange_names_and_values_arrive_as_they_are(lab: Lab, database: PostgresServer) -> None:
    database.run(
        """create table "odd ""name"" of:x" ("b:c" text, "i""j" jsonb, k float8, f date, g timestamptz)""",
        """insert into "odd ""name"" of:x" values
        (E'a,"b"\\n\\r\\nc;ü€', '{"a": 1}', 'Infinity', 'infinity', '2024-01-01 00:00:00+02'),
        ('', '[]', 'NaN', '0044-01-01 BC', 'infinity'),
        (null, null, -0.5, '2024-02-29', '-infinity'),
        (null, null, null, null, null)""",
    )
    connector_id = connect(lab, database)
    row = scan(lab, connector_id)['odd "name" of:x']
    assert [(column["name"], column["type"], column["nulls"]) for column in row["columns"]] == [
        ("b:c", "string", 3),
        ('i"j', "string", 2),
        ("k", "float", 2),
        ("f", "date", 3),
        ("g", "datetime", 3),
    ]
    assert row["columns"][4]["min"] == "2023-12-31T22:00:00Z"
