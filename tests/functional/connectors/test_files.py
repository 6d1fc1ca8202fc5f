"""Files of connectors: lists and uploads."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
