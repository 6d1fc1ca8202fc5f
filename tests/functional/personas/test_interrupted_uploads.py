"""Uploads that are interrupted, or meet other writers."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.personas import saving, uploads
from functions.personas.store import Personas
from shared.dynamodb.table import Table
from tests.fixtures.aws import BUCKET
from tests.functional.personas.helpers import ADA, MARY, confirm, csv_file, everyone, left_in_storage, names, upload


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
def test_an_interrupted_confirm_continues_without_double_rows(
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
def test_a_confirm_that_runs_out_of_time_reports_it_and_the_next_continues(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BATCH_ROWS", 5)
    monkeypatch.setattr(uploads, "WORKING_SECONDS", 0.0)
    stopped = upload(client, csv_file(*crowd(12))).json()
    assert (stopped["status"], stopped["total_uploaded"]) == ("in_progress", 0)
    assert "Confirm the upload to continue" in stopped["message"]

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
