"""A user owns only so many spaces, so that the limits of a space cannot be multiplied."""

import pytest

from shared.dynamodb.table import Table, TransactionFailedError
from shared.spaces import owned_spaces
from shared.spaces.members import Members
from shared.spaces.owned_spaces import OwnedSpaces
from tests.functional.conftest import ClientMaker

BODY = {"name": "Another", "description": ""}


@pytest.mark.row("SE-9")
def test_a_space_too_many_is_429_until_one_is_deleted(sign_in: ClientMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned_spaces, "OWNED_SPACES_LIMIT", 2)
    alice = sign_in("alice")
    first, _ = (alice.post("/spaces", json=BODY, headers={"Idempotency-Key": key}).json() for key in "ab")
    refused = alice.post("/spaces", json=BODY)
    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
    assert "You own 2 spaces" in refused.json()["error"]
    assert alice.get("/spaces").json()["count"] == 2
    assert alice.post("/spaces", json=BODY, headers={"Idempotency-Key": "a"}).json()["id"] == first["id"]
    assert sign_in("bob").post("/spaces", json=BODY).status_code == 201

    alice.delete(f"/spaces/{first['id']}")
    assert alice.post("/spaces", json=BODY).status_code == 201
    assert alice.post("/spaces", json=BODY).status_code == 429


def test_requests_at_the_same_time_do_not_pass_the_limit(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned_spaces, "OWNED_SPACES_LIMIT", 2)
    owned = OwnedSpaces(table, Members(table))
    writes = [owned.add("alice", str(number)) for number in range(10)]
    for write in writes[:2]:
        table.transact([write])
    for write in writes[2:]:
        with pytest.raises(TransactionFailedError):
            table.transact([write])
