"""Tests that letters which look like others accept nobody else's invite."""

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Key, Table
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker
from tests.functional.http.test_common_contract import assert_error_shape
from tests.functional.spaces.invites.helpers import accept, invite, spaces_of

KELVIN = "\u212a"
LOOK_ALIKES = (f"{KELVIN}ate@example.com", "\uff4bate@example.com", "\u043aate@example.com", "k\u0430te@example.com")


@pytest.mark.row("SE-6", "US-4")
@pytest.mark.parametrize("address", LOOK_ALIKES)
def test_an_address_that_looks_like_the_invited_one_accepts_nothing(
    client: TestClient, sign_in: ClientMaker, address: str
) -> None:
    invite(client, "kate@example.com")
    mallory = sign_in("mallory", email=address)
    refused = accept(mallory)
    assert refused.status_code == 403
    assert_error_shape(refused.json(), "permission_denied")
    assert address in refused.json()["error"]
    assert spaces_of(mallory) == {}
    assert mallory.get("/me").json()["email"] == address
    assert accept(sign_in("kate", email="KATE@Example.com")).status_code == 200


@pytest.mark.row("SE-6", "SP-3")
@pytest.mark.parametrize("address", [*LOOK_ALIKES, "kate@stra\u00dfe.example"])
def test_an_invite_to_such_an_address_is_refused_and_says_why(client: TestClient, address: str) -> None:
    refused = invite(client, "ann@example.com", address)
    assert refused.status_code == 400
    assert "body.emails.1: has " in refused.json()["error"]
    assert client.get(f"/spaces/{space_of(client)}/invites").json()["count"] == 0


@pytest.mark.row("SE-6", "US-4")
def test_a_domain_in_foreign_letters_is_the_same_in_each_of_its_forms(client: TestClient, sign_in: ClientMaker) -> None:
    stored = invite(client, "kate@B\u00fccher.example", "kate@xn--bcher-kva.example").json()["emails"]
    assert stored == ["kate@xn--bcher-kva.example"]
    assert accept(sign_in("kate", email="Kate@b\u00dccher.example")).json()["spaces"] == [space_of(client)]


@pytest.mark.row("SE-6")
def test_an_invite_is_stored_under_the_same_key_as_before_addresses_had_a_form(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    address = "Kate.O'Hara+news@Sub.Example.com"
    invite(client, address)
    assert table.get(Key(f"invite_email#{address.lower()}", space_of(client))) is not None
    assert accept(sign_in("kate", email=address.upper())).status_code == 200
