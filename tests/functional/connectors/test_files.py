"""Files of connectors: lists and uploads."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.dynamodb.reference_counts import add_reference, remove_reference
from shared.dynamodb.table import Key
from shared.errors import NotFoundError
from tests.fixtures.connectors import CSV, Lab
from tests.functional.connectors.helpers import KEYS


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
    """Posts a form the way a browser does; moto answers requests of its patched libraries only."""
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


def delete(lab: Lab, connector_id: str, file: str) -> Any:
    return lab.client.delete(f"/connectors/{connector_id}/files/{file}")


@pytest.mark.row("FL-11")
def test_one_file_is_deleted_with_its_catalog_entry_and_options_and_may_come_again(lab: Lab) -> None:
    connector_id = lab.connector()
    body = {"files": ["2024/a.csv"], "read_options": {"2024/a.csv": {"types": {"id": "string"}}}}
    lab.client.post(f"/connectors/{connector_id}/uploads", json=body)
    lab.deliver(lab.put(connector_id, "2024/a.csv"), lab.put(connector_id, "b.csv"))
    lab.work(connector_id)
    deleted = delete(lab, connector_id, "2024/a.csv")
    assert (deleted.status_code, deleted.json()) == (200, {"id": "2024/a.csv"})
    assert lab.files(connector_id) == [["b.csv"]]
    assert lab.catalog(connector_id).keys() == {"b.csv"}
    assert delete(lab, connector_id, "2024/a.csv").status_code == 404
    lab.deliver(lab.remove(connector_id, "2024/a.csv"))
    assert lab.catalog(connector_id).keys() == {"b.csv"}
    lab.deliver(lab.put(connector_id, "2024/a.csv"))
    lab.work(connector_id)
    entry = lab.catalog(connector_id)["2024/a.csv"]
    assert (entry["status"], entry["columns"][0]["type"], entry["read_options"]) == ("scanned", "int", None)


@pytest.mark.row("FL-11")
def test_a_file_that_no_scan_or_no_bucket_knows_is_deleted_too(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "unscanned.csv")
    assert delete(lab, connector_id, "unscanned.csv").status_code == 200
    assert lab.files(connector_id) == []
    lab.scan(connector_id, files=["missing.csv"])
    lab.work(connector_id)
    assert lab.catalog(connector_id)["missing.csv"]["status"] == "error"
    assert delete(lab, connector_id, "missing.csv").status_code == 200
    assert lab.catalog(connector_id) == {}
    assert delete(lab, connector_id, "never.csv").status_code == 404
    assert delete(lab, connector_id, "a//b.csv").status_code == 400


@pytest.mark.row("FL-11")
def test_no_file_is_deleted_under_a_training_that_may_read_it(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    lab.work(connector_id)
    key = Key(f"connector#{lab.space_id}", connector_id)
    lab.resources.table.write(add_reference(key, NotFoundError("")))
    refused = delete(lab, connector_id, "a.csv")
    assert (refused.status_code, "training" in refused.json()["error"]) == (409, True)
    assert lab.files(connector_id) == [["a.csv"]]
    assert lab.catalog(connector_id).keys() == {"a.csv"}
    lab.resources.table.write(remove_reference(key))
    assert delete(lab, connector_id, "a.csv").status_code == 200


@pytest.mark.row("FL-11")
def test_the_files_of_a_customers_bucket_are_not_ours_to_delete(lab: Lab, customer_bucket: Any) -> None:
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=CSV)
    refused = delete(lab, lab.connector(s3=KEYS), "a.csv")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert customer_bucket.list_objects_v2(Bucket="customer")["KeyCount"] == 1
