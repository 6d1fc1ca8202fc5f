"""Tests of uploads of personas: conflicts, unreadable files and resolutions."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.personas import saving
from tests.fixtures.clocks import MovableClock
from tests.functional.personas.helpers import (
    ADA,
    GRACE,
    MARY,
    all_personas,
    confirm,
    csv_file,
    names,
    stored_files,
    upload,
)


@pytest.mark.row("PE-3")
def test_an_upload_without_conflicts_is_saved_immediately(client: TestClient) -> None:
    response = upload(client, csv_file(ADA, GRACE), ("more.json", json.dumps([MARY]).encode()))
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["status"] == "completed"
    assert (found["total"], found["conflict_personas"], found["total_uploaded"]) == (3, 0, 3)
    assert found["upload_token"] is None
    assert [(file["file"], file["format"], file["rows"]) for file in found["files"]] == [
        ("people.csv", "csv", 2),
        ("more.json", "json", 1),
    ]
    assert names(client) == ["Mary Somerville", "Grace Hopper", "Ada Lovelace"]
    saved = all_personas(client)[2]
    assert saved["data"] == {"city": "Paris"}
    assert saved["created_by"] == client.get("/me").json()["id"]
    assert client.get(f"/personas/{saved['id']}").json() == saved
    assert stored_files() == []


@pytest.mark.row("PE-3")
def test_an_upload_with_a_conflict_saves_nothing_before_its_confirmation(
    client: TestClient, ada: dict[str, Any], pending: dict[str, Any]
) -> None:
    assert pending["status"] == "pending"
    assert (pending["total"], pending["conflict_personas"]) == (3, 1)
    assert pending["upload_token"]
    assert pending["conflicts"] == [{"file": "people.csv", "row": 3, "name": "Ada Lovelace", "birthdate": "1815-12-10"}]
    assert all_personas(client) == [ada]


@pytest.mark.row("PE-3")
@pytest.mark.parametrize(
    ("stored", "uploaded"),
    [
        ("Ada Lovelace", "  ada   LOVELACE "),
        ("Ren\u00e9e Stra\u00dfe", "RENE\u0301E strasse"),
        ("\u0391\u03a3", "\u03b1\u03c2"),
        ("Kate", "\u212aate"),
    ],
    ids=["blanks and case", "accents and sharp s", "final sigma", "Kelvin sign"],
)
@pytest.mark.parametrize("within", [False, True], ids=["stored", "within the upload"])
def test_the_same_name_and_birthdate_are_a_conflict(
    client: TestClient, stored: str, uploaded: str, within: bool
) -> None:
    rows = [MARY | {"name": uploaded}]
    if within:
        rows.insert(0, MARY | {"name": stored})
    else:
        client.post("/personas", json=MARY | {"name": stored})
    found = upload(client, ("people.json", json.dumps(rows).encode())).json()
    assert (found["status"], found["conflict_personas"]) == ("pending", 1)
    assert client.get("/personas").json()["count"] == (0 if within else 1)


@pytest.mark.row("PE-3")
def test_another_birthdate_or_name_is_no_conflict(client: TestClient, ada: dict[str, Any]) -> None:
    found = upload(client, csv_file(ADA | {"birthdate": "1815-12-11"}, ADA | {"name": "Ada Lovelac"})).json()
    assert found["status"] == "completed"


@pytest.mark.row("PE-3")
def test_deleted_and_renamed_personas_are_no_conflict(client: TestClient, ada: dict[str, Any]) -> None:
    client.put(f"/personas/{ada['id']}", json={"name": "Ada King"})
    assert upload(client, csv_file(ADA)).json()["status"] == "completed"
    for persona in all_personas(client):
        client.delete(f"/personas/{persona['id']}")
    assert upload(client, csv_file(ADA)).json()["status"] == "completed"


@pytest.mark.row("PE-3")
def test_personas_of_another_space_are_no_conflict(
    client: TestClient, other_client: TestClient, pending: dict[str, Any]
) -> None:
    assert upload(other_client, csv_file(ADA)).json()["status"] == "completed"
    assert confirm(other_client, pending["upload_token"]).status_code == 404


@pytest.mark.row("PE-3")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"PK\x03\x04 this is no workbook",
        b'[{"name": "Ada"',
        b"name,notes\nAda,x\n",
        b'name,birthdate,notes\n"Ada,1815-12-10,x\n',
        b"%PDF-1.7",
    ],
    ids=["empty", "picture", "no workbook", "cut JSON", "no birthdates", "open quote", "PDF"],
)
def test_an_unreadable_file_is_named_and_nothing_is_stored(client: TestClient, content: bytes) -> None:
    response = upload(client, csv_file(ADA), ("broken.dat", content))
    assert response.status_code == 400
    assert "broken.dat" in response.json()["error"]
    assert response.json()["details"][0]["field"] == "body.files"
    assert client.get("/personas").json()["count"] == 0
    assert stored_files() == []


def test_refused_rows_are_listed_with_the_reason(client: TestClient) -> None:
    tomorrow = (datetime.now(UTC).date() + timedelta(days=1)).isoformat()
    found = upload(
        client,
        csv_file(ADA, GRACE | {"birthdate": "12/09/1906"}, MARY | {"name": ""}, MARY | {"birthdate": tomorrow}),
    ).json()
    assert (found["status"], found["total"], found["refused_rows"]) == ("completed", 1, 3)
    assert [(each["row"], each["reason"].split(":")[0]) for each in found["refused"]] == [
        (3, "birthdate"),
        (4, "name"),
        (5, "birthdate"),
    ]
    assert names(client) == ["Ada Lovelace"]


def test_a_file_with_only_refused_rows_is_refused_with_the_reasons(client: TestClient) -> None:
    response = upload(client, csv_file(ADA | {"birthdate": "soon"}, GRACE | {"name": " "}))
    assert response.status_code == 400
    assert [detail["field"] for detail in response.json()["details"]] == [
        "body.files.people.csv.2",
        "body.files.people.csv.3",
    ]
    assert upload(client, b"name,birthdate,notes\n").status_code == 400


def test_an_upload_without_files_or_with_too_many_or_too_large_files_is_refused(client: TestClient) -> None:
    assert client.post("/personas/upload").status_code == 400
    assert client.post("/personas/upload", data={"files": "Ada"}).status_code == 400
    assert client.post("/personas/upload", json={"files": []}).status_code == 400
    many = [("files", (f"{number}.csv", csv_file(ADA))) for number in range(21)]
    assert client.post("/personas/upload", files=many).status_code == 400
    too_large = csv_file(ADA | {"notes": "x" * (7 << 20)})
    assert upload(client, too_large).status_code == 413
    assert client.get("/personas").json()["count"] == 0


@pytest.mark.row("PE-4")
def test_skip_saves_only_the_rows_without_a_conflict(
    client: TestClient, ada: dict[str, Any], pending: dict[str, Any]
) -> None:
    result = confirm(client, pending["upload_token"], "skip").json()
    assert result["status"] == "completed"
    assert (result["total_uploaded"], result["conflicts_resolved"], result["skipped"]) == (2, 1, 1)
    assert names(client) == ["Mary Somerville", "Grace Hopper", "Ada Lovelace"]
    assert all_personas(client)[2] == ada
    assert stored_files() == []


@pytest.mark.row("PE-4")
@pytest.mark.parametrize("body", [{}, None], ids=["empty body", "no body"])
def test_conflicts_are_skipped_without_a_resolution(
    client: TestClient, pending: dict[str, Any], body: dict[str, Any] | None
) -> None:
    result = client.post(f"/personas/upload/{pending['upload_token']}/confirm", json=body).json()
    assert (result["total_uploaded"], result["skipped"]) == (2, 1)


@pytest.mark.row("PE-4")
def test_overwrite_keeps_the_ids_of_known_personas(
    client: TestClient, ada: dict[str, Any], pending: dict[str, Any]
) -> None:
    result = confirm(client, pending["upload_token"], "overwrite").json()
    assert (result["total_uploaded"], result["conflicts_resolved"], result["overwritten"]) == (3, 1, 1)
    assert names(client) == ["Mary Somerville", "Grace Hopper", "Ada Lovelace"]
    changed = client.get(f"/personas/{ada['id']}")
    assert changed.json()["data"] == {"city": "Paris"}
    assert changed.json()["created_at"] == ada["created_at"]
    assert changed.json()["updated_at"] > ada["updated_at"]
    assert changed.headers["ETag"] == '"2"'


@pytest.mark.row("PE-4")
def test_create_saves_conflicts_as_new_personas(
    client: TestClient, ada: dict[str, Any], pending: dict[str, Any]
) -> None:
    result = confirm(client, pending["upload_token"], "create").json()
    assert (result["total_uploaded"], result["conflicts_resolved"], result["created"]) == (3, 1, 3)
    assert names(client) == ["Mary Somerville", "Ada Lovelace", "Grace Hopper", "Ada Lovelace"]
    assert all_personas(client)[3] == ada


@pytest.mark.row("PE-4")
@pytest.mark.parametrize(
    ("resolution", "notes"), [("skip", ["first"]), ("overwrite", ["third"]), ("create", ["third", "second", "first"])]
)
@pytest.mark.parametrize("rows_a_batch", [1, 48])
def test_repeated_rows_of_one_upload_are_resolved_like_other_conflicts(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, resolution: str, notes: list[str], rows_a_batch: int
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", rows_a_batch)
    found = upload(client, csv_file(*(ADA | {"notes": notes} for notes in ("first", "second", "third")))).json()
    assert found["conflict_personas"] == 2
    result = confirm(client, found["upload_token"], resolution).json()
    assert result["conflicts_resolved"] == 2
    assert [persona["notes"] for persona in all_personas(client)] == notes


def test_an_upload_without_other_columns_keeps_the_stored_data(client: TestClient, ada: dict[str, Any]) -> None:
    found = upload(client, b"Name;Date of birth;Comment\nada lovelace;1815-12-10;changed\n").json()
    confirm(client, found["upload_token"], "overwrite")
    changed = client.get(f"/personas/{ada['id']}").json()
    assert (changed["name"], changed["notes"], changed["data"]) == ("ada lovelace", "changed", ADA["data"])


@pytest.mark.row("PE-4")
@pytest.mark.parametrize("value", ["merge", "", None, 1, "OVERWRITE"])
def test_an_unknown_resolution_is_refused(client: TestClient, pending: dict[str, Any], value: Any) -> None:
    path = f"/personas/upload/{pending['upload_token']}/confirm"
    response = client.post(path, json={"conflict_resolution": value})
    assert response.status_code == 400
    assert response.json()["details"][0]["field"] == "body.conflict_resolution"
    assert client.get("/personas").json()["count"] == 1


@pytest.mark.row("PE-4")
def test_an_unknown_token_is_not_found(client: TestClient, pending: dict[str, Any]) -> None:
    assert confirm(client, "unknown").status_code == 404
    assert confirm(client, pending["upload_token"][:-1]).status_code == 404


@pytest.mark.row("PE-4")
def test_an_expired_token_is_refused(clock: MovableClock, client: TestClient, pending: dict[str, Any]) -> None:
    clock.now += timedelta(hours=24)
    response = confirm(client, pending["upload_token"])
    assert (response.status_code, response.json()["code"]) == (410, "gone")
    assert client.get("/personas").json()["count"] == 1


@pytest.mark.row("PE-4")
def test_a_second_confirmation_returns_the_first_result(
    clock: MovableClock, client: TestClient, pending: dict[str, Any]
) -> None:
    first = confirm(client, pending["upload_token"], "skip").json()
    before = all_personas(client)
    clock.now += timedelta(days=2)
    for resolution in ("skip", "create", "overwrite", None):
        assert confirm(client, pending["upload_token"], resolution).json() == first
    assert all_personas(client) == before
