"""What owners state about the way files are written, for a connector and for single files."""

from typing import Any

import pytest

from shared.errors import JobFailedError
from tests.fixtures.connectors import CSV, Lab
from tests.functional.connectors.helpers import KEYS

GERMAN = b"id;betrag;tag\n1;1.000;01/02/2024\n2;2.000;03/04/2024\n"
ONLY_DAY_FIRST = GERMAN.replace(b"03/04", b"30/04")
ONLY_MONTH_FIRST = GERMAN.replace(b"03/04", b"04/30")


def scanned(lab: Lab, connector_id: str, **files: bytes) -> None:
    """Uploads files and runs their scan."""
    lab.deliver(*(lab.put(connector_id, f"{name}.csv", content) for name, content in files.items()))
    lab.work(connector_id)


def types(lab: Lab, connector_id: str, file: str = "a.csv") -> dict[str, str]:
    return {column["name"]: column["type"] for column in lab.catalog(connector_id)[file]["columns"]}


def options_of_jobs(lab: Lab, connector_id: str) -> dict[str | None, dict[str, Any]]:
    """Returns what is stated to a job about each file."""
    return {
        file.name: file.read_options.model_dump(exclude_none=True) if file.read_options else {}
        for file in lab.dataset(connector_id).files
    }


def correct(lab: Lab, connector_id: str, file: str, options: dict[str, Any] | None) -> dict[str, Any]:
    response = lab.client.patch(f"/connectors/{connector_id}/catalog/{file}", json={"read_options": options})
    assert response.status_code == 200, response.text
    entry: dict[str, Any] = response.json()
    return entry


def stated(options: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the options that are stated, out of all that a response names."""
    return {name: value for name, value in (options or {}).items() if value is not None}


@pytest.mark.row("FL-11")
def test_other_options_of_a_connector_read_every_file_again_and_are_no_drift(lab: Lab) -> None:
    connector_id = lab.connector(read_options={"delimiter": ";"})
    shown = lab.client.get(f"/connectors/{connector_id}").json()["read_options"]
    assert stated(shown) == {"delimiter": ";"}
    scanned(lab, connector_id, a=GERMAN, b=GERMAN)
    assert types(lab, connector_id)["id"] == "int"
    options = {"types": {"id": "string"}}
    changed = lab.client.put(f"/connectors/{connector_id}", json={"read_options": options})
    assert stated(changed.json()["read_options"]) == options, "they are replaced as a whole"
    assert lab.work(connector_id) == {"status": "succeeded", "total": 2, "scanned": 2, "failed": 0}
    assert types(lab, connector_id)["id"] == "string"
    assert lab.client.get(f"/connectors/{connector_id}/drifts").json()["count"] == 0
    lab.client.put(f"/connectors/{connector_id}", json={"read_options": options, "name": "B"})
    assert lab.running(connector_id) is None, "the same options need no scan"
    removed = lab.client.patch(f"/connectors/{connector_id}", json={"read_options": None})
    assert removed.json()["read_options"] is None
    assert lab.work(connector_id)["scanned"] == 2
    lab.scan(connector_id)
    assert lab.work(connector_id)["total"] == 0, "what is read with the present options is not read again"


@pytest.mark.row("FL-11")
def test_other_options_start_no_scan_of_an_own_bucket_that_was_never_scanned(lab: Lab, customer_bucket: Any) -> None:
    connector_id = lab.connector(s3=KEYS)
    options = {"read_options": {"delimiter": ";"}}
    assert lab.client.put(f"/connectors/{connector_id}", json=options).status_code == 200
    assert lab.running(connector_id) is None
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=CSV)
    lab.scan(connector_id)
    lab.work(connector_id)
    lab.client.put(f"/connectors/{connector_id}", json={"read_options": None})
    assert lab.work(connector_id)["scanned"] == 1


@pytest.mark.row("FL-11")
def test_options_that_come_with_an_upload_are_those_of_its_scan_and_stay(lab: Lab) -> None:
    connector_id = lab.connector()
    body = {"files": ["a.csv", "b.csv"], "read_options": {"a.csv": {"types": {"id": "string"}}}}
    assert lab.client.post(f"/connectors/{connector_id}/uploads", json=body).status_code == 201
    scanned(lab, connector_id, a=CSV, b=CSV)
    assert types(lab, connector_id)["id"] == "string"
    assert types(lab, connector_id, "b.csv")["id"] == "int"
    scanned(lab, connector_id, a=CSV + b"3,4\n")
    entry = lab.catalog(connector_id)["a.csv"]
    assert (entry["rows"], stated(entry["read_options"])) == (3, {"types": {"id": "string"}})
    assert lab.catalog(connector_id)["b.csv"]["read_options"] is None
    body["read_options"] = {"c.csv": {"header": False}}
    refused = lab.client.post(f"/connectors/{connector_id}/uploads", json=body)
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.read_options")
    assert "'c.csv'" in refused.json()["error"]


def test_more_options_than_one_transaction_holds_come_with_an_upload(lab: Lab) -> None:
    connector_id = lab.connector()
    files = [f"{number}.csv" for number in range(25)]
    body = {"files": files, "read_options": {file: {"header": True} for file in files}}
    assert lab.client.post(f"/connectors/{connector_id}/uploads", json=body).status_code == 201
    options = lab.resources.catalog.read_options(lab.space_id, connector_id)
    assert {file: each.header for file, each in options.items()} == dict.fromkeys(files, True)


@pytest.mark.row("FL-11")
def test_a_file_that_was_misread_is_corrected_and_read_again(lab: Lab) -> None:
    connector_id = lab.connector(read_options={"decimal": "."})
    scanned(lab, connector_id, a=GERMAN, b=GERMAN)
    before = lab.catalog(connector_id)["a.csv"]
    entry = correct(lab, connector_id, "a.csv", {"types": {"id": "string"}})
    assert (entry["file"], entry["status"], stated(entry["read_options"])) == (
        "a.csv",
        "pending",
        {"types": {"id": "string"}},
    )
    assert lab.work(connector_id) == {"status": "succeeded", "total": 1, "scanned": 1, "failed": 0}
    after = lab.catalog(connector_id)["a.csv"]
    assert after["scanned_at"] > before["scanned_at"]
    assert types(lab, connector_id)["id"] == "string"
    assert lab.client.get(f"/connectors/{connector_id}/drifts").json()["count"] == 0
    assert options_of_jobs(lab, connector_id) == {
        "a.csv": {"decimal": ".", "types": {"id": "string"}},
        "b.csv": {"decimal": "."},
    }
    assert correct(lab, connector_id, "a.csv", None)["read_options"] is None
    lab.work(connector_id)
    assert types(lab, connector_id)["id"] == "int"
    unchanged = lab.client.patch(f"/connectors/{connector_id}/catalog/a.csv", json={})
    assert (unchanged.status_code, unchanged.json()["status"]) == (200, "scanned")
    assert lab.running(connector_id) is None


@pytest.mark.row("FL-11")
def test_a_correction_during_a_scan_is_read_by_the_next_one(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    first = lab.running(connector_id)
    correct(lab, connector_id, "a.csv", {"types": {"id": "string"}})
    lab.work(connector_id)
    assert lab.running(connector_id) in (None, first)
    assert types(lab, connector_id)["id"] == "string"


@pytest.mark.row("FL-11")
def test_a_file_that_the_catalog_does_not_have_cannot_be_corrected(lab: Lab) -> None:
    connector_id = lab.connector()
    body = {"read_options": {"header": True}}
    for file in ("a.csv", "folder/b.csv"):
        response = lab.client.patch(f"/connectors/{connector_id}/catalog/{file}", json=body)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert file in response.json()["error"]
    assert lab.client.patch(f"/connectors/{connector_id}/catalog/a.csv", json={}).status_code == 404
    scanned(lab, connector_id, a=CSV)
    lab.deliver(lab.remove(connector_id, "a.csv"))
    assert lab.client.patch(f"/connectors/{connector_id}/catalog/a.csv", json=body).status_code == 404
    assert lab.running(connector_id) is None


@pytest.mark.row("FL-11")
def test_the_options_of_a_file_go_with_its_connector(lab: Lab) -> None:
    connector_id = lab.connector()
    scanned(lab, connector_id, a=CSV)
    correct(lab, connector_id, "a.csv", {"header": True})
    assert lab.client.delete(f"/connectors/{connector_id}").status_code == 200
    assert lab.resources.catalog.read_options(lab.space_id, connector_id) == {}


def test_an_option_of_a_file_that_contradicts_one_of_the_connector_replaces_it(lab: Lab) -> None:
    connector_id = lab.connector(read_options={"thousands": ",", "delimiter": ";"})
    scanned(lab, connector_id, a=GERMAN)
    correct(lab, connector_id, "a.csv", {"decimal": ","})
    assert options_of_jobs(lab, connector_id)["a.csv"] == {"delimiter": ";", "decimal": ","}


@pytest.mark.row("FL-11")
def test_an_error_of_the_old_options_does_not_stop_a_training_with_the_new_ones(lab: Lab) -> None:
    connector_id = lab.connector(read_options={"encoding": "utf-8"})
    scanned(lab, connector_id, a=b"PK\x03\x04" + bytes(100))
    with pytest.raises(JobFailedError, match="can't be read"):
        options_of_jobs(lab, connector_id)
    correct(lab, connector_id, "a.csv", {"encoding": "cp1252"})
    assert options_of_jobs(lab, connector_id)["a.csv"] == {"encoding": "cp1252"}, "the job itself will see"


@pytest.mark.row("FL-6", "FL-11")
def test_a_date_format_that_one_file_leaves_open_is_the_one_of_the_others(lab: Lab) -> None:
    connector_id = lab.connector()
    scanned(lab, connector_id, a=GERMAN, b=ONLY_DAY_FIRST, c=GERMAN.replace(b"tag", b"tag2"))
    formats = {
        file: [column["formats"] for column in entry["columns"]][2] for file, entry in lab.catalog(connector_id).items()
    }
    assert formats == {
        "a.csv": ["%d/%m/%Y", "%m/%d/%Y"],
        "b.csv": ["%d/%m/%Y"],
        "c.csv": ["%d/%m/%Y", "%m/%d/%Y"],
    }, "the catalog shows what each file alone allows"
    assert options_of_jobs(lab, connector_id) == {
        "a.csv": {"date_formats": {"tag": "%d/%m/%Y"}},
        "b.csv": {},
        "c.csv": {},
    }
    correct(lab, connector_id, "a.csv", {"date_formats": {"tag": "%m/%d/%Y"}})
    lab.work(connector_id)
    assert options_of_jobs(lab, connector_id)["a.csv"] == {"date_formats": {"tag": "%m/%d/%Y"}}, "the owner's word"


@pytest.mark.row("FL-6")
def test_files_whose_dates_contradict_each_other_decide_nothing(lab: Lab) -> None:
    connector_id = lab.connector()
    scanned(lab, connector_id, a=GERMAN, b=ONLY_DAY_FIRST, c=ONLY_MONTH_FIRST)
    assert options_of_jobs(lab, connector_id) == {"a.csv": {}, "b.csv": {}, "c.csv": {}}
