"""Tests of single personas."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.models.persona import SAME_PERSON_LIMIT
from shared.personas.store import Personas, person_key
from shared.resources import Resources

ADA = {"name": "Ada Lovelace", "birthdate": "1815-12-10", "notes": "Likes engines.", "data": {"city": "London"}}


def create(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post("/personas", json=ADA | changes)
    assert response.status_code == 201, response.text
    persona: dict[str, Any] = response.json()
    return persona


@pytest.mark.row("PE-1")
def test_a_persona_is_created_read_changed_listed_and_deleted(client: TestClient) -> None:
    persona = create(client)
    assert {name: persona[name] for name in ADA} == ADA
    assert persona["created_by"] == persona["updated_by"] == client.get("/me").json()["id"]
    assert persona["created_at"] == persona["updated_at"]
    assert client.get(f"/personas/{persona['id']}").json() == persona

    changed = client.put(f"/personas/{persona['id']}", json={"notes": "Likes poetry.", "birthdate": "1815-12-11"})
    assert changed.status_code == 200
    assert changed.json()["notes"] == "Likes poetry."
    assert changed.json()["birthdate"] == "1815-12-11"
    assert changed.json()["name"] == "Ada Lovelace"
    assert changed.json()["updated_at"] > persona["updated_at"]
    assert client.get(f"/personas/{persona['id']}").json() == changed.json()
    assert client.get("/personas").json() == {"count": 1, "data": [changed.json()], "has_more": False}

    deleted = client.delete(f"/personas/{persona['id']}")
    assert deleted.status_code == 204
    assert deleted.content == b""
    assert client.get(f"/personas/{persona['id']}").status_code == 404
    assert client.delete(f"/personas/{persona['id']}").status_code == 404
    assert client.get("/personas").json() == {"count": 0, "data": [], "has_more": False}


@pytest.mark.row("PE-1")
@pytest.mark.parametrize("birthdate", ["", "yesterday", "1990-02-30", "31.12.1990", "19901231", "1990-W01-1", 1990])
def test_an_invalid_birthdate_is_refused(client: TestClient, birthdate: Any) -> None:
    response = client.post("/personas", json=ADA | {"birthdate": birthdate})
    assert response.status_code == 400
    assert response.json()["details"][0]["field"] == "body.birthdate"
    persona = create(client)
    assert client.put(f"/personas/{persona['id']}", json={"birthdate": birthdate}).status_code == 400
    assert client.get("/personas").json()["data"] == [persona]


@pytest.mark.row("PE-1")
def test_a_birthdate_in_the_future_is_refused(client: TestClient) -> None:
    today = datetime.now(UTC).date()
    tomorrow = (today + timedelta(days=1)).isoformat()
    refused = client.post("/personas", json=ADA | {"birthdate": tomorrow})
    assert refused.status_code == 400
    assert refused.json()["details"] == [{"field": "body.birthdate", "message": "is in the future"}]
    persona = create(client, birthdate=(today - timedelta(days=1)).isoformat())
    assert client.patch(f"/personas/{persona['id']}", json={"birthdate": tomorrow}).status_code == 400


@pytest.mark.row("PE-1")
@pytest.mark.parametrize("missing", ["name", "birthdate", "notes"])
def test_name_birthdate_and_notes_are_required(client: TestClient, missing: str) -> None:
    response = client.post("/personas", json={key: value for key, value in ADA.items() if key != missing})
    assert response.status_code == 400
    assert response.json()["details"][0]["field"] == f"body.{missing}"
    persona = create(client)
    assert client.put(f"/personas/{persona['id']}", json={missing: None}).status_code == 400


@pytest.mark.row("PE-1")
def test_data_is_optional_and_can_be_cleared(client: TestClient) -> None:
    persona = create(client)
    assert client.put(f"/personas/{persona['id']}", json={}).json() == persona
    assert client.put(f"/personas/{persona['id']}", json={"data": None}).json()["data"] is None
    without = client.post("/personas", json={key: value for key, value in ADA.items() if key != "data"})
    assert without.status_code == 201
    assert without.json()["data"] is None


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "data",
    [
        {"text": "x" * 100_001},
        {"list": [0] * 10_001},
        nested(25),
        {"number": 10**40},
        {"number": 1e300},
        {"": 1},
        {"half": "\ud800"},
    ],
    ids=["bytes", "values", "depth", "digits", "exponent", "empty key", "half a character"],
)
def test_invalid_or_too_large_data_is_refused(client: TestClient, data: dict[str, Any]) -> None:
    body = json.dumps(ADA | {"data": data})
    response = client.post("/personas", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["details"][0]["field"].startswith("body.data")
    assert client.get("/personas").json()["count"] == 0


def test_data_of_the_largest_allowed_size_is_stored(client: TestClient) -> None:
    data = {"numbers": list(range(9_000)), "text": "ü" * 20_000, "deep": nested(15)}
    persona = create(client, data=data, notes="ß" * 10_000)
    assert client.get(f"/personas/{persona['id']}").json()["data"] == data


def test_personas_of_another_space_are_unknown(client: TestClient, other_client: TestClient) -> None:
    persona = create(client)
    path = f"/personas/{persona['id']}"
    unknown = other_client.get("/personas/0190b5a4-0000-7000-8000-000000000000").json()["error"]
    for response in (other_client.get(path), other_client.put(path, json={"notes": "x"}), other_client.delete(path)):
        assert response.status_code == 404
        assert response.json()["error"] == unknown
    assert client.get(path).json() == persona


def test_a_request_with_an_outdated_etag_changes_nothing(client: TestClient) -> None:
    first = client.post("/personas", json=ADA)
    path, tag = f"/personas/{first.json()['id']}", first.headers["ETag"]
    second = client.put(path, json={"name": "Ada King"}, headers={"If-Match": tag})
    assert second.status_code == 200
    assert client.get(path).headers["ETag"] == second.headers["ETag"] != tag
    assert client.put(path, json={"name": "Ada B."}, headers={"If-Match": tag}).status_code == 412
    assert client.delete(path, headers={"If-Match": tag}).status_code == 412
    assert client.get(path).json()["name"] == "Ada King"
    assert client.delete(path, headers={"If-Match": second.headers["ETag"]}).status_code == 204


def test_a_repeated_request_creates_one_persona(client: TestClient) -> None:
    first = client.post("/personas", json=ADA, headers={"Idempotency-Key": "one"})
    again = client.post("/personas", json=ADA, headers={"Idempotency-Key": "one"})
    assert again.json() == first.json()
    assert client.get("/personas").json()["count"] == 1
    other = client.post("/personas", json=ADA | {"notes": ""}, headers={"Idempotency-Key": "one"})
    assert other.status_code == 409


def test_the_index_of_persons_follows_each_change(client: TestClient, resources: Resources) -> None:
    space, personas = client.headers["X-Space-Id"], Personas(resources.table)

    def ids(name: str, birthdate: str) -> list[str]:
        key = person_key(name, birthdate)
        return list(personas.known(space, [key])[key].ids)

    first, second = create(client), create(client, name="ADA  lovelace")
    assert ids("ada lovelace", "1815-12-10") == [first["id"], second["id"]]
    client.put(f"/personas/{first['id']}", json={"name": "Ada King"})
    assert ids("Ada Lovelace", "1815-12-10") == [second["id"]]
    assert ids("Ada King", "1815-12-10") == [first["id"]]
    client.delete(f"/personas/{first['id']}")
    client.delete(f"/personas/{second['id']}")
    assert ids("Ada Lovelace", "1815-12-10") == ids("Ada King", "1815-12-10") == []
    assert not list(resources.table.query(f"persona_key#{space}"))


def test_the_number_of_personas_of_the_same_person_is_limited(client: TestClient) -> None:
    for _ in range(SAME_PERSON_LIMIT):
        create(client)
    refused = client.post("/personas", json=ADA)
    assert refused.status_code == 409
    assert "name and birthdate" in refused.json()["error"]
    other = create(client, name="Mary Somerville")
    assert client.put(f"/personas/{other['id']}", json={"name": "Ada Lovelace"}).status_code == 409
