"""S3 events that lead to scans."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.scan_file import scan_file
from shared.connectors.storage import ConnectorStorage, FileVersion
from shared.dynamodb.table import Table
from tests.fixtures.aws import BUCKET
from tests.fixtures.connectors import Lab
from tests.functional.connectors.helpers import files_of_a_job


@pytest.mark.row("CN-5")
def test_an_upload_with_repeated_events_is_scanned_once(lab: Lab) -> None:
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


def test_a_connector_deleted_during_its_scan_leaves_no_running_scan(lab: Lab, table: Table) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    listed, items = lab.begin(connector_id)
    lab.client.delete(f"/connectors/{connector_id}")
    for item in items:
        scan_file(lab.resources, {**listed, "file": item})
    assert finish_scan(lab.resources, listed) == {"status": "stopped"}
    assert list(table.query(f"catalog#{lab.space_id}#{connector_id}")) == []
    assert list(table.query("job#open")) == []
