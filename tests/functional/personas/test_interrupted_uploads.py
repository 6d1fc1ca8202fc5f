"""Tests of uploads that are interrupted or run at the same time as other writes."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.personas import saving, uploads
from shared.dynamodb.table import Table
from shared.personas.store import Personas
from tests.fixtures.aws import BUCKET
from tests.functional.personas.helpers import ADA, MARY, all_personas, confirm, csv_file, names, stored_files, upload


class InterruptedUploadError(Exception):
    """Error that simulates the sudden end of a function during a request."""


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Returns a function that makes a transaction fail, after the given number of successful transactions.

    With ``is_written``, the failing transaction is written and only its response is lost.
    """

    def make(*, after: int, is_written: bool = False) -> None:
        left = after
        transact = Table.transact

        def interrupted(self: Table, actions: Any) -> None:
            nonlocal left
            left -= 1
            if left >= 0:
                transact(self, actions)
                return
            monkeypatch.setattr(Table, "transact", transact)
            if is_written:
                transact(self, actions)
            raise InterruptedUploadError

        monkeypatch.setattr(Table, "transact", interrupted)

    return make


def make_people(number: int) -> list[dict[str, Any]]:
    return [MARY | {"name": f"Person {each:04}"} for each in range(number)]


@pytest.mark.row("PE-4")
@pytest.mark.parametrize("resolution", ["skip", "overwrite", "create"])
@pytest.mark.parametrize("is_written", [False, True], ids=["lost", "written without a response"])
def test_a_repeated_confirmation_continues_an_interrupted_one_without_duplicates(
    client: TestClient,
    interrupt: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    resolution: str,
    is_written: bool,
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", 5)
    known = make_people(6)
    upload(client, csv_file(*known))
    known_ids = {persona["id"] for persona in all_personas(client)}
    found = upload(client, csv_file(*make_people(23), MARY, MARY)).json()
    assert (found["total"], found["conflict_personas"]) == (25, 7)

    interrupt(after=2, is_written=is_written)
    assert confirm(client, found["upload_token"], resolution).status_code == 500
    halfway = len(all_personas(client))
    result = confirm(client, found["upload_token"], "skip").json()

    assert result["status"] == "completed"
    assert result["conflicts_resolved"] == 7
    assert result["total_uploaded"] == {"skip": 18, "overwrite": 25, "create": 25}[resolution]
    saved = all_personas(client)
    assert halfway < len(saved) == {"skip": 24, "overwrite": 24, "create": 31}[resolution]
    assert known_ids <= {persona["id"] for persona in saved}
    assert confirm(client, found["upload_token"], resolution).json() == result


@pytest.mark.row("PE-3")
def test_a_repeated_upload_saves_no_duplicates_of_an_interrupted_one(
    client: TestClient, interrupt: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", 5)
    interrupt(after=1)
    assert upload(client, csv_file(*make_people(12))).status_code == 500
    again = upload(client, csv_file(*make_people(12))).json()
    assert (again["status"], again["conflict_personas"]) == ("pending", 5)
    confirm(client, again["upload_token"])
    assert len(all_personas(client)) == 12


@pytest.mark.row("PE-4")
def test_a_confirmation_that_runs_out_of_time_is_continued_by_the_next_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", 5)
    monkeypatch.setattr(uploads, "WORKING_SECONDS", 0.0)
    stopped = upload(client, csv_file(*make_people(12))).json()
    assert (stopped["status"], stopped["total_uploaded"]) == ("in_progress", 0)
    assert "Confirm the upload to continue" in stopped["message"]

    monkeypatch.setattr(uploads.PersonaUploadService, "_has_time", one_batch_per_request())
    seen = [confirm(client, stopped["upload_token"]).json() for _ in range(4)]
    assert [result["total_uploaded"] for result in seen] == [5, 10, 12, 12]
    assert [result["status"] for result in seen] == ["in_progress", "in_progress", "completed", "completed"]
    assert names(client) == [person["name"] for person in reversed(make_people(12))]


def one_batch_per_request() -> Callable[[Any], bool]:
    """Returns a replacement of ``_has_time`` that allows one batch in each request."""
    decisions: Iterator[bool] = iter(())

    def has_time(service: Any) -> bool:
        nonlocal decisions
        decision = next(decisions, None)
        if decision is None:
            decisions = iter((False, False))
            return True
        return decision

    return has_time


@pytest.mark.row("PE-4")
def test_concurrent_confirmations_save_each_row_once(
    client: TestClient, pending: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second confirmation runs between the read and the write of the first."""
    others: list[Any] = []
    known = Personas.known

    def read_then_confirm_again(self: Any, space_id: str, keys: Any) -> Any:
        found = known(self, space_id, keys)
        if not others:
            others.append(None)
            others[0] = confirm(client, pending["upload_token"], "create").json()
        return found

    monkeypatch.setattr(Personas, "known", read_then_confirm_again)
    first = confirm(client, pending["upload_token"], "skip").json()
    assert first == others[0]
    assert (first["total_uploaded"], first["skipped"]) == (2, 1)
    assert len(all_personas(client)) == 3


@pytest.mark.row("PE-4")
def test_a_persona_that_changes_while_an_upload_is_saved_is_read_again(
    client: TestClient, ada: dict[str, Any], pending: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_renamed = False
    known = Personas.known

    def read_then_rename(self: Any, space_id: str, keys: Any) -> Any:
        nonlocal is_renamed
        found = known(self, space_id, keys)
        if not is_renamed:
            is_renamed = True
            client.put(f"/personas/{ada['id']}", json={"name": "Ada King"})
        return found

    monkeypatch.setattr(Personas, "known", read_then_rename)
    result = confirm(client, pending["upload_token"], "overwrite").json()
    assert (result["created"], result["overwritten"]) == (3, 0)
    assert sorted(names(client)) == ["Ada King", "Ada Lovelace", "Grace Hopper", "Mary Somerville"]
    assert client.get(f"/personas/{ada['id']}").json()["notes"] == ADA["notes"]


@pytest.mark.row("PE-4")
def test_a_confirmation_fails_when_the_stored_rows_have_expired(
    client: TestClient, interrupt: Callable[..., None], pending: dict[str, Any]
) -> None:
    interrupt(after=0)
    assert confirm(client, pending["upload_token"]).status_code == 500
    (rows,) = stored_files()
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=rows)
    response = confirm(client, pending["upload_token"])
    assert (response.status_code, response.json()["error"][:28]) == (410, "Only 0 of 3 rows were saved ")


def test_an_upload_saves_a_limited_number_of_personas_of_the_same_person(client: TestClient) -> None:
    found = upload(client, csv_file(*[ADA] * 105)).json()
    result = confirm(client, found["upload_token"], "create").json()
    assert (result["created"], result["refused_rows"]) == (100, 5)
    assert "left out" in result["message"]
    assert len(all_personas(client)) == 100
