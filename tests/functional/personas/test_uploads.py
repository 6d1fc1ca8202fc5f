"""Personas by the file: uploads, their conflicts, and confirmations that may be cut off."""

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
import openpyxl
import pytest
from botocore.config import Config
from fastapi.testclient import TestClient

from functions.api import build_api
from functions.personas import saving, uploads
from functions.personas.store import Personas
from shared.dynamodb.table import Table
from shared.resources import Resources
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock

ADA = {"name": "Ada Lovelace", "birthdate": "1815-12-10", "notes": "Likes engines.", "data": {"city": "London"}}
GRACE = {"name": "Grace Hopper", "birthdate": "1906-12-09", "notes": "Likes compilers."}
MARY = {"name": "Mary Somerville", "birthdate": "1780-12-26", "notes": "Likes planets."}


def csv_file(*people: dict[str, Any]) -> bytes:
    rows = [f"{each['name']},{each['birthdate']},{each['notes']},Paris" for each in people]
    return "\n".join(["name,birthdate,notes,city", *rows, ""]).encode()


def upload(client: TestClient, *files: bytes | tuple[str, bytes]) -> Any:
    named = [("people.csv", file) if isinstance(file, bytes) else file for file in files]
    return client.post("/personas/upload", files=[("files", each) for each in named])


def confirm(client: TestClient, token: str, resolution: str | None = None) -> Any:
    body = {} if resolution is None else {"conflict_resolution": resolution}
    return client.post(f"/personas/upload/{token}/confirm", json=body)


def everyone(client: TestClient) -> list[dict[str, Any]]:
    """All personas, newest first, walked page by page; their count is right on each page."""
    personas: list[dict[str, Any]] = []
    has_more = True
    while has_more:
        after = personas[-1]["id"] if personas else ""
        page = client.get("/personas", params={"limit": 100, "after": after}).json()
        personas += page["data"]
        has_more = page["has_more"]
    assert page["count"] == len(personas) == len({persona["id"] for persona in personas})
    return personas


def names(client: TestClient) -> list[str]:
    return [persona["name"] for persona in everyone(client)]


def left_in_storage() -> list[str]:
    return [each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])]


@pytest.fixture
def ada(client: TestClient) -> dict[str, Any]:
    persona: dict[str, Any] = client.post("/personas", json=ADA).json()
    return persona


@pytest.fixture
def pending(client: TestClient, ada: dict[str, Any]) -> dict[str, Any]:
    """An upload of three, one of whom is known."""
    answer = upload(client, csv_file(GRACE, ADA, MARY))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.row("PE-3")
def test_without_conflicts_all_is_saved_at_once(client: TestClient) -> None:
    answer = upload(client, csv_file(ADA, GRACE), ("more.json", json.dumps([MARY]).encode()))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["status"] == "completed"
    assert (found["total"], found["conflict_personas"], found["total_uploaded"]) == (3, 0, 3)
    assert found["upload_token"] is None
    assert [(file["file"], file["format"], file["rows"]) for file in found["files"]] == [
        ("people.csv", "csv", 2),
        ("more.json", "json", 1),
    ]
    assert names(client) == ["Mary Somerville", "Grace Hopper", "Ada Lovelace"]
    saved = everyone(client)[2]
    assert saved["data"] == {"city": "Paris"}
    assert saved["created_by"] == client.get("/me").json()["id"]
    assert client.get(f"/personas/{saved['id']}").json() == saved
    assert left_in_storage() == []


@pytest.mark.row("PE-3")
def test_with_a_conflict_nothing_is_saved(client: TestClient, ada: dict[str, Any], pending: dict[str, Any]) -> None:
    assert pending["status"] == "pending"
    assert (pending["total"], pending["conflict_personas"]) == (3, 1)
    assert pending["upload_token"]
    assert pending["conflicts"] == [{"file": "people.csv", "row": 3, "name": "Ada Lovelace", "birthdate": "1815-12-10"}]
    assert everyone(client) == [ada]


@pytest.mark.row("PE-3")
@pytest.mark.parametrize(
    ("stored", "uploaded"),
    [
        ("Ada Lovelace", "  ada   LOVELACE "),
        ("Ren\u00e9e Stra\u00dfe", "RENE\u0301E strasse"),
        ("\u0391\u03a3", "\u03b1\u03c2"),
    ],
    ids=["blanks and case", "accents and sharp s", "final sigma"],
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
    for persona in everyone(client):
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
    answer = upload(client, csv_file(ADA), ("broken.dat", content))
    assert answer.status_code == 400
    assert "broken.dat" in answer.json()["error"]
    assert answer.json()["details"][0]["field"] == "body.files"
    assert client.get("/personas").json()["count"] == 0
    assert left_in_storage() == []


def test_rows_that_can_not_be_used_are_listed_with_the_reason(client: TestClient) -> None:
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


def test_a_file_of_unusable_rows_only_is_refused_with_the_reasons(client: TestClient) -> None:
    answer = upload(client, csv_file(ADA | {"birthdate": "soon"}, GRACE | {"name": " "}))
    assert answer.status_code == 400
    assert [detail["field"] for detail in answer.json()["details"]] == [
        "body.files.people.csv.2",
        "body.files.people.csv.3",
    ]
    assert upload(client, b"name,birthdate,notes\n").status_code == 400


def test_the_files_must_be_files(client: TestClient) -> None:
    assert client.post("/personas/upload").status_code == 400
    assert client.post("/personas/upload", data={"files": "Ada"}).status_code == 400
    assert client.post("/personas/upload", json={"files": []}).status_code == 400
    many = [("files", (f"{number}.csv", csv_file(ADA))) for number in range(21)]
    assert client.post("/personas/upload", files=many).status_code == 400
    too_large = csv_file(ADA | {"notes": "x" * (7 << 20)})
    assert upload(client, too_large).status_code == 413
    assert client.get("/personas").json()["count"] == 0


@pytest.mark.row("PE-4")
def test_skip_saves_only_the_rest(client: TestClient, ada: dict[str, Any], pending: dict[str, Any]) -> None:
    result = confirm(client, pending["upload_token"], "skip").json()
    assert result["status"] == "completed"
    assert (result["total_uploaded"], result["conflicts_resolved"], result["skipped"]) == (2, 1, 1)
    assert names(client) == ["Mary Somerville", "Grace Hopper", "Ada Lovelace"]
    assert everyone(client)[2] == ada
    assert left_in_storage() == []


@pytest.mark.row("PE-4")
@pytest.mark.parametrize("body", [{}, None], ids=["empty body", "no body"])
def test_without_a_resolution_conflicts_are_skipped(
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
def test_create_adds_new_ids(client: TestClient, ada: dict[str, Any], pending: dict[str, Any]) -> None:
    result = confirm(client, pending["upload_token"], "create").json()
    assert (result["total_uploaded"], result["conflicts_resolved"], result["created"]) == (3, 1, 3)
    assert names(client) == ["Mary Somerville", "Ada Lovelace", "Grace Hopper", "Ada Lovelace"]
    assert everyone(client)[3] == ada


@pytest.mark.row("PE-4")
@pytest.mark.parametrize(
    ("resolution", "notes"), [("skip", ["first"]), ("overwrite", ["third"]), ("create", ["third", "second", "first"])]
)
@pytest.mark.parametrize("rows_a_batch", [1, 48])
def test_repeated_rows_of_one_upload_are_resolved_alike(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, resolution: str, notes: list[str], rows_a_batch: int
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", rows_a_batch)
    found = upload(client, csv_file(*(ADA | {"notes": notes} for notes in ("first", "second", "third")))).json()
    assert found["conflict_personas"] == 2
    result = confirm(client, found["upload_token"], resolution).json()
    assert result["conflicts_resolved"] == 2
    assert [persona["notes"] for persona in everyone(client)] == notes


def test_a_file_that_says_nothing_of_the_data_keeps_it(client: TestClient, ada: dict[str, Any]) -> None:
    found = upload(client, b"Name;Date of birth;Comment\nada lovelace;1815-12-10;changed\n").json()
    confirm(client, found["upload_token"], "overwrite")
    changed = client.get(f"/personas/{ada['id']}").json()
    assert (changed["name"], changed["notes"], changed["data"]) == ("ada lovelace", "changed", ADA["data"])


@pytest.mark.row("PE-4")
@pytest.mark.parametrize("value", ["merge", "", None, 1, "OVERWRITE"])
def test_another_resolution_is_refused(client: TestClient, pending: dict[str, Any], value: Any) -> None:
    path = f"/personas/upload/{pending['upload_token']}/confirm"
    answer = client.post(path, json={"conflict_resolution": value})
    assert answer.status_code == 400
    assert answer.json()["details"][0]["field"] == "body.conflict_resolution"
    assert client.get("/personas").json()["count"] == 1


@pytest.mark.row("PE-4")
def test_an_unknown_token_is_not_found(client: TestClient, pending: dict[str, Any]) -> None:
    assert confirm(client, "unknown").status_code == 404
    assert confirm(client, pending["upload_token"][:-1]).status_code == 404


@pytest.mark.row("PE-4")
def test_an_expired_token_is_gone(clock: MovableClock, client: TestClient, pending: dict[str, Any]) -> None:
    clock.now += timedelta(hours=24)
    answer = confirm(client, pending["upload_token"])
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    assert client.get("/personas").json()["count"] == 1


@pytest.mark.row("PE-4")
def test_a_second_confirm_returns_the_first_result_whatever_it_asks(
    clock: MovableClock, client: TestClient, pending: dict[str, Any]
) -> None:
    first = confirm(client, pending["upload_token"], "skip").json()
    before = everyone(client)
    clock.now += timedelta(days=2)
    for resolution in ("skip", "create", "overwrite", None):
        assert confirm(client, pending["upload_token"], resolution).json() == first
    assert everyone(client) == before


class CutOffError(Exception):
    """The function is gone, in the midst of a request."""


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``cut(after=2)`` lets two more transactions through; the next is lost, or its answer is."""

    def arrange(*, after: int, is_written: bool = False) -> None:
        left = after
        transact = Table.transact

        def cut_off(self: Table, actions: Any) -> None:
            nonlocal left
            left -= 1
            if left >= 0:
                transact(self, actions)
                return
            monkeypatch.setattr(Table, "transact", transact)
            if is_written:
                transact(self, actions)
            raise CutOffError

        monkeypatch.setattr(Table, "transact", cut_off)

    return arrange


def crowd(number: int) -> list[dict[str, Any]]:
    return [MARY | {"name": f"Person {each:04}"} for each in range(number)]


@pytest.mark.row("PE-4")
@pytest.mark.parametrize("resolution", ["skip", "overwrite", "create"])
@pytest.mark.parametrize("is_written", [False, True], ids=["lost", "written but not answered"])
def test_a_confirm_that_was_cut_off_goes_on_without_double_rows(
    client: TestClient, cut: Callable[..., None], monkeypatch: pytest.MonkeyPatch, resolution: str, is_written: bool
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", 5)
    known = crowd(6)
    upload(client, csv_file(*known))
    known_ids = {persona["id"] for persona in everyone(client)}
    found = upload(client, csv_file(*crowd(23), MARY, MARY)).json()
    assert (found["total"], found["conflict_personas"]) == (25, 7)

    cut(after=2, is_written=is_written)
    assert confirm(client, found["upload_token"], resolution).status_code == 500
    halfway = len(everyone(client))
    result = confirm(client, found["upload_token"], "skip").json()

    assert result["status"] == "completed"
    assert result["conflicts_resolved"] == 7
    assert result["total_uploaded"] == {"skip": 18, "overwrite": 25, "create": 25}[resolution]
    saved = everyone(client)
    assert halfway < len(saved) == {"skip": 24, "overwrite": 24, "create": 31}[resolution]
    assert known_ids <= {persona["id"] for persona in saved}
    assert confirm(client, found["upload_token"], resolution).json() == result


@pytest.mark.row("PE-3")
def test_an_upload_that_was_cut_off_meets_itself_and_is_not_doubled(
    client: TestClient, cut: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", 5)
    cut(after=1)
    assert upload(client, csv_file(*crowd(12))).status_code == 500
    again = upload(client, csv_file(*crowd(12))).json()
    assert (again["status"], again["conflict_personas"]) == ("pending", 5)
    confirm(client, again["upload_token"])
    assert len(everyone(client)) == 12


@pytest.mark.row("PE-4")
def test_a_confirm_that_runs_out_of_time_says_so_and_the_next_goes_on(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", 5)
    monkeypatch.setattr(uploads, "WORKING_SECONDS", 0.0)
    stopped = upload(client, csv_file(*crowd(12))).json()
    assert (stopped["status"], stopped["total_uploaded"]) == ("in_progress", 0)
    assert "Confirm the upload to go on" in stopped["message"]

    monkeypatch.setattr(uploads.PersonaUploadService, "_has_time", one_batch_each())
    seen = [confirm(client, stopped["upload_token"]).json() for _ in range(4)]
    assert [result["total_uploaded"] for result in seen] == [5, 10, 12, 12]
    assert [result["status"] for result in seen] == ["in_progress", "in_progress", "completed", "completed"]
    assert names(client) == [person["name"] for person in reversed(crowd(12))]


def one_batch_each() -> Callable[[Any], bool]:
    """There is time at the first question of each request, and none at the second."""
    asked: Iterator[bool] = iter(())

    def has_time(service: Any) -> bool:
        nonlocal asked
        answer = next(asked, None)
        if answer is None:
            asked = iter((False, False))
            return True
        return answer

    return has_time


@pytest.mark.row("PE-4")
def test_two_confirms_at_once_save_each_row_once(
    client: TestClient, pending: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes between the first's look and its write."""
    others: list[Any] = []
    known = Personas.known

    def look_then_be_overtaken(self: Any, space_id: str, keys: Any) -> Any:
        found = known(self, space_id, keys)
        if not others:
            others.append(None)
            others[0] = confirm(client, pending["upload_token"], "create").json()
        return found

    monkeypatch.setattr(Personas, "known", look_then_be_overtaken)
    first = confirm(client, pending["upload_token"], "skip").json()
    assert first == others[0]
    assert (first["total_uploaded"], first["skipped"]) == (2, 1)
    assert len(everyone(client)) == 3


@pytest.mark.row("PE-4")
def test_a_persona_that_changes_during_the_save_is_looked_at_again(
    client: TestClient, ada: dict[str, Any], pending: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_renamed = False
    known = Personas.known

    def look_then_rename(self: Any, space_id: str, keys: Any) -> Any:
        nonlocal is_renamed
        found = known(self, space_id, keys)
        if not is_renamed:
            is_renamed = True
            client.put(f"/personas/{ada['id']}", json={"name": "Ada King"})
        return found

    monkeypatch.setattr(Personas, "known", look_then_rename)
    result = confirm(client, pending["upload_token"], "overwrite").json()
    assert (result["created"], result["overwritten"]) == (3, 0)
    assert sorted(names(client)) == ["Ada King", "Ada Lovelace", "Grace Hopper", "Mary Somerville"]
    assert client.get(f"/personas/{ada['id']}").json()["notes"] == ADA["notes"]


@pytest.mark.row("PE-4")
def test_what_was_not_saved_in_a_month_is_gone(
    client: TestClient, cut: Callable[..., None], pending: dict[str, Any]
) -> None:
    cut(after=0)
    assert confirm(client, pending["upload_token"]).status_code == 500
    (rows,) = left_in_storage()
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=rows)
    answer = confirm(client, pending["upload_token"])
    assert (answer.status_code, answer.json()["error"][:28]) == (410, "Only 0 of 3 rows were saved ")


def test_only_so_many_may_be_the_same_person(client: TestClient) -> None:
    found = upload(client, csv_file(*[ADA] * 105)).json()
    result = confirm(client, found["upload_token"], "create").json()
    assert (result["created"], result["refused_rows"]) == (100, 5)
    assert "left out" in result["message"]
    assert len(everyone(client)) == 100


def test_nulls_and_numbers_of_data_come_back_as_they_were(client: TestClient) -> None:
    data = {"a": None, "b": [1, 2.5, True, {"c": None}], "d": ""}
    upload(client, ("people.jsonl", json.dumps(ADA | {"data": data}).encode()))
    assert everyone(client)[0]["data"] == data


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
        everyone(client)[0] | {"name": "Ada Lovelace", "birthdate": "1815-12-10", "data": {"Score": 3}}
        == everyone(client)[0]
    )


def send(form: dict[str, Any], content: bytes) -> None:
    """What a client does with a form, at S3 itself."""
    assert form["fields"]["key"].startswith("temporary/spaces/")
    # A form is sent whole; over the chunks that the SDK would send, the emulated bucket takes seconds.
    whole = Config(request_checksum_calculation="when_required")
    boto3.client("s3", config=whole).put_object(Bucket=BUCKET, Key=form["fields"]["key"], Body=content)


@pytest.mark.row("X-17")
def test_files_that_were_sent_to_storage_are_processed_like_uploaded_ones(client: TestClient) -> None:
    prepared = client.post("/personas/uploads", json={"files": ["a.csv", "folder/b.json"]})
    assert prepared.status_code == 201, prepared.text
    token, forms = prepared.json()["upload_token"], prepared.json()["uploads"]
    assert [form["file"] for form in forms] == ["a.csv", "folder/b.json"]
    process = f"/personas/uploads/{token}/process"

    send(forms[0], csv_file(ADA, GRACE))
    early = client.post(process)
    assert (early.status_code, "folder/b.json" in early.json()["error"]) == (409, True)
    assert confirm(client, token).status_code == 409

    send(forms[1], json.dumps([MARY, ADA]).encode())
    found = client.post(process).json()
    assert (found["status"], found["conflict_personas"], found["upload_token"]) == ("pending", 1, token)
    assert client.post(process).json() == found
    assert client.get("/personas").json()["count"] == 0
    assert confirm(client, token, "skip").json()["total_uploaded"] == 3
    assert client.post(process).json()["status"] == "completed"
    assert len(everyone(client)) == 3
    assert left_in_storage() == []


@pytest.mark.row("X-17")
def test_prepared_uploads_fail_like_others(clock: MovableClock, client: TestClient, other_client: TestClient) -> None:
    prepared = client.post("/personas/uploads", json={"files": ["a.csv"]}).json()
    process = f"/personas/uploads/{prepared['upload_token']}/process"
    assert other_client.post(process).status_code == 404
    send(prepared["uploads"][0], b"name,notes\nx,y\n")
    answer = client.post(process)
    assert (answer.status_code, "a.csv has no column for birthdate" in answer.json()["error"]) == (400, True)
    clock.now += timedelta(hours=24)
    assert client.post(process).status_code == 410
    for files in ([], ["../a.csv"], ["a"] * 21, [""], "a.csv"):
        assert client.post("/personas/uploads", json={"files": files}).status_code == 400


@pytest.mark.row("X-17")
def test_files_that_are_too_big_together_are_refused(client: TestClient) -> None:
    prepared = client.post("/personas/uploads", json={"files": ["a.csv", "b.csv"]}).json()
    for form in prepared["uploads"]:
        send(form, b"\n" * (70 << 20))
    answer = client.post(f"/personas/uploads/{prepared['upload_token']}/process")
    assert answer.status_code == 400
    assert "128 MB" in answer.json()["error"]


def test_the_whole_api_offers_the_uploads(resources: Resources) -> None:
    paths = {route.path for route in build_api(resources).routes}  # type: ignore[attr-defined]
    assert {"/personas/upload", "/personas/uploads", "/personas/uploads/{upload_token}/process"} <= paths


@pytest.mark.row("X-17")
def test_a_file_of_100_megabytes_is_read_and_saved(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of it, like most of a real one, is conflicts that are skipped: the emulated table is slow at writing."""
    # How long a busy machine takes is not what this is about.
    monkeypatch.setattr(uploads, "READING_SECONDS", 300.0)
    monkeypatch.setattr(uploads, "WORKING_SECONDS", 300.0)
    notes = "x" * 9_950
    people = [ADA | {"name": f"Person {number % 40}", "notes": notes} for number in range(10_100)]
    content = csv_file(*people)
    assert len(content) > 100_000_000
    prepared = client.post("/personas/uploads", json={"files": ["everyone.csv"]}).json()
    send(prepared["uploads"][0], content)
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
    assert len(everyone(client)) == 40
    assert left_in_storage() == []
