"""Scans of connectors."""

import gzip
import json
from typing import Any

import boto3
import pytest

from functions.workflows.connector_scan.fail_scan import fail_scan
from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.scan_file import scan_file
from shared.connectors import catalog
from shared.connectors.scan_store import Scans
from tests.fixtures.connectors import CSV, Lab
from tests.functional.connectors.helpers import KEYS, column, files_of_a_job


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
    assert {**good, "encoding": "", "etag": "", "scanned_at": ""} == {
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
        "encoding": "",
        "dialect": {"delimiter": ",", "quote": '"', "escape": None, "header_line": 1, "certainty": 1.0},
        "read_options": None,
        "warnings": [],
        "warning_count": 0,
        "affected_rows": 0,
        "scanned_at": "",
    }
    assert catalog["rows.jsonl.gz"]["columns"][0]["type"] == "float"
    errors = {name: row["error"] for name, row in catalog.items() if row["status"] == "error"}
    assert errors.keys() == {"broken.parquet", "empty.csv", "missing.csv"}
    assert "Parquet" in errors["broken.parquet"]
    assert "empty" in errors["empty.csv"]
    assert "no such file" in errors["missing.csv"]


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
    assert lab.work(connector_id)["total"] == 2, "files named during the scan are read in any case"
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
def test_when_a_scan_fails_the_waiting_files_show_it_and_the_requested_scan_follows(lab: Lab) -> None:
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


@pytest.mark.row("CN-5", "EN-3")
def test_an_upload_during_a_failing_scan_does_not_stay_pending(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    values = {"space_id": lab.space_id, "connector_id": connector_id, "scan_id": lab.running(connector_id)}
    ending = Scans.end

    def overtaken(*arguments: Any) -> Any:
        lab.deliver(lab.put(connector_id, "late.csv"))
        return ending(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Scans, "end", overtaken)
        fail_scan(lab.resources, {**values, "error": "States.Timeout", "cause": ""})
    assert lab.running(connector_id) not in (None, values["scan_id"])
    fail_scan(lab.resources, {**values, "error": "States.Timeout", "cause": ""})
    assert lab.catalog(connector_id)["late.csv"]["status"] == "pending", "the repeated step is about the first scan"
    lab.work(connector_id)
    assert {name: row["status"] for name, row in lab.catalog(connector_id).items()} == {
        "a.csv": "error",
        "late.csv": "scanned",
    }
    assert lab.running(connector_id) is None


@pytest.mark.row("CN-5")
def test_a_mark_of_an_earlier_event_does_not_start_scans_for_ever(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    listed, items = lab.begin(connector_id)
    with monkeypatch.context() as patched:
        patched.setattr(catalog, "delete", lambda *_: interrupt())
        with pytest.raises(ConnectionError):
            scan_file(lab.resources, {**listed, "file": items[0]})
    # The same content again: the event finds it scanned, and leaves the mark of the first one.
    lab.deliver(lab.put(connector_id, "a.csv"))
    finish_scan(lab.resources, listed)
    lab.work(connector_id)
    assert lab.running(connector_id) is None


def interrupt() -> None:
    raise ConnectionError("the function was killed")
