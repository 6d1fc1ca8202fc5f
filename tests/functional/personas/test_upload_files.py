"""Tests of the files of uploads: values, workbooks and files in S3."""

import io
import json
from datetime import date, timedelta
from typing import Any

import boto3
import openpyxl
import pytest
from botocore.config import Config
from fastapi.testclient import TestClient

from functions.api import build_api
from functions.personas import uploads
from shared.resources import Resources
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.functional.personas.helpers import ADA, GRACE, MARY, all_personas, confirm, csv_file, stored_files, upload


def test_nulls_and_numbers_of_data_are_stored_unchanged(client: TestClient) -> None:
    data = {"a": None, "b": [1, 2.5, True, {"c": None}], "d": ""}
    upload(client, ("people.jsonl", json.dumps(ADA | {"data": data}).encode()))
    assert all_personas(client)[0]["data"] == data


def workbook(rows: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in rows:
        sheet.append(row)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def test_a_workbook_is_read_like_a_table(client: TestClient) -> None:
    born = date(1815, 12, 10)
    content = workbook(
        [["Full name", "Date of Birth", "Notes", "Score"], ["Ada Lovelace", born, "x", 3], ["Nobody", "soon", "", None]]
    )
    found = upload(client, ("people.xlsx", content)).json()
    assert (found["status"], found["total"], found["files"][0]["format"]) == ("completed", 1, "xlsx")
    assert [(each["row"], each["reason"][:9]) for each in found["refused"]] == [(3, "birthdate")]
    assert (
        all_personas(client)[0] | {"name": "Ada Lovelace", "birthdate": "1815-12-10", "data": {"Score": 3}}
        == all_personas(client)[0]
    )


def send_file(form: dict[str, Any], content: bytes) -> None:
    """Stores a file in S3, like a client that sends an upload form."""
    assert form["fields"]["key"].startswith("temporary/spaces/")
    # Clients send a form in one piece. The emulator needs seconds for the chunks that the SDK sends by default.
    whole = Config(request_checksum_calculation="when_required")
    boto3.client("s3", config=whole).put_object(Bucket=BUCKET, Key=form["fields"]["key"], Body=content)


@pytest.mark.row("X-17")
def test_files_that_were_sent_to_s3_are_processed_like_uploaded_files(client: TestClient) -> None:
    prepared = client.post("/personas/uploads", json={"files": ["a.csv", "folder/b.json"]})
    assert prepared.status_code == 201, prepared.text
    token, forms = prepared.json()["upload_token"], prepared.json()["uploads"]
    assert [form["file"] for form in forms] == ["a.csv", "folder/b.json"]
    process = f"/personas/uploads/{token}/process"

    send_file(forms[0], csv_file(ADA, GRACE))
    early = client.post(process)
    assert (early.status_code, "folder/b.json" in early.json()["error"]) == (409, True)
    assert confirm(client, token).status_code == 409

    send_file(forms[1], json.dumps([MARY, ADA]).encode())
    found = client.post(process).json()
    assert (found["status"], found["conflict_personas"], found["upload_token"]) == ("pending", 1, token)
    assert client.post(process).json() == found
    assert client.get("/personas").json()["count"] == 0
    assert confirm(client, token, "skip").json()["total_uploaded"] == 3
    assert client.post(process).json()["status"] == "completed"
    assert len(all_personas(client)) == 3
    assert stored_files() == []


@pytest.mark.row("X-17")
def test_an_invalid_expired_or_unknown_prepared_upload_is_refused(
    clock: MovableClock, client: TestClient, other_client: TestClient
) -> None:
    prepared = client.post("/personas/uploads", json={"files": ["a.csv"]}).json()
    process = f"/personas/uploads/{prepared['upload_token']}/process"
    assert other_client.post(process).status_code == 404
    send_file(prepared["uploads"][0], b"name,notes\nx,y\n")
    response = client.post(process)
    assert (response.status_code, "a.csv has no column for birthdate" in response.json()["error"]) == (400, True)
    clock.now += timedelta(hours=24)
    assert client.post(process).status_code == 410
    for files in ([], ["../a.csv"], ["a"] * 21, [""], "a.csv"):
        assert client.post("/personas/uploads", json={"files": files}).status_code == 400


@pytest.mark.row("X-17")
def test_files_with_a_total_size_over_the_limit_are_refused(client: TestClient) -> None:
    prepared = client.post("/personas/uploads", json={"files": ["a.csv", "b.csv"]}).json()
    for form in prepared["uploads"]:
        send_file(form, b"\n" * (70 << 20))
    response = client.post(f"/personas/uploads/{prepared['upload_token']}/process")
    assert response.status_code == 400
    assert "128 MB" in response.json()["error"]


def test_the_api_has_the_routes_of_uploads(resources: Resources) -> None:
    paths = {route.path for route in build_api(resources).routes}  # type: ignore[attr-defined]
    assert {"/personas/upload", "/personas/uploads", "/personas/uploads/{upload_token}/process"} <= paths


@pytest.mark.row("X-17")
def test_a_file_of_100_megabytes_is_read_and_saved(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most rows are conflicts that are skipped, because the emulated table is slow at writing."""
    # The test must not depend on the speed of the machine.
    monkeypatch.setattr(uploads, "READING_SECONDS", 300.0)
    monkeypatch.setattr(uploads, "WORKING_SECONDS", 300.0)
    notes = "x" * 9_950
    people = [ADA | {"name": f"Person {number % 40}", "notes": notes} for number in range(10_100)]
    content = csv_file(*people)
    assert len(content) > 100_000_000
    prepared = client.post("/personas/uploads", json={"files": ["everyone.csv"]}).json()
    send_file(prepared["uploads"][0], content)
    token = prepared["upload_token"]

    found = client.post(f"/personas/uploads/{token}/process")
    assert found.status_code == 200, found.text
    assert (found.json()["status"], found.json()["total"], found.json()["conflict_personas"]) == (
        "pending",
        10_100,
        10_060,
    )
    result = confirm(client, token, "skip").json()
    while result["status"] == "in_progress":
        result = confirm(client, token).json()
    assert (result["created"], result["skipped"]) == (40, 10_060)
    assert len(all_personas(client)) == 40
    assert stored_files() == []
