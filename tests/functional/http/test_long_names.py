"""Tests that names which are longer than any key in AWS are refused, or found nowhere."""

from typing import Any
from urllib.parse import quote

import pytest

from shared.dynamodb.table import Key
from tests.fixtures.long_keys import refuse_long_keys
from tests.fixtures.operations import operations
from tests.fixtures.tenants import World

# In characters of two and of four bytes: below the limits in characters, and above the limits in bytes.
NAMES = ["é" * 500, "é" * 600, "🦆" * 256, "🦆" * 1024, "x" * 1000, "x" * 3000]


@pytest.fixture(scope="module")
def world(world: World) -> World:
    refuse_long_keys(world.resources.dynamodb, world.resources.s3)
    return world


@pytest.mark.row("C-5")
@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{len(name)} of {len(name[0].encode())}")
def test_a_name_that_is_longer_than_a_key_is_no_failure_of_ours(world: World, name: str) -> None:
    failed = []
    for operation in operations():
        found: list[dict[Any, str]] = [{address: quote(name)} for address in operation.parameters]
        found += [{place: name} for place, _ in operation.example.identifiers()]
        for strange in found:
            response = operation.send(world.alice, world.alices, strange)
            if response.status_code >= 500:
                failed.append((str(operation), strange.keys(), response.status_code))
    assert not failed


@pytest.mark.row("C-5")
@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{len(name)} of {len(name[0].encode())}")
def test_a_file_with_a_name_that_is_longer_than_a_key_is_no_failure_of_ours(world: World, name: str) -> None:
    address = f"/connectors/{world.alices['/connectors/{id}']}"
    part = {"connector_id": world.alices["/connectors/{id}"], "files": [name], "target": "churned"}
    training = {"name": "Long", "data_model_id": world.alices["/data-models/{id}"], "connectors": [part]}
    benchmark = {"name": "Long", "connector": part}
    for method, path, body in (
        ("GET", f"{address}/files?prefix={quote(name)}", None),
        ("POST", f"{address}/scan", {"files": [name]}),
        ("POST", f"{address}/preview", {"file": name}),
        ("POST", "/personas/uploads", {"files": [name]}),
        ("POST", "/trainings", training),
        ("POST", "/benchmarks", benchmark),
    ):
        response = world.alice.request(method, path, json=body)
        assert response.status_code < 500, (method, path, response.text)


def test_an_upload_under_a_name_that_s3_cannot_hold_is_refused(world: World) -> None:
    address = f"/connectors/{world.alices['/connectors/{id}']}/uploads"
    longest = 1024 - len(f"spaces/{world.alice.headers['X-Space-Id']}{address.removesuffix('uploads')}")
    assert world.alice.post(address, json={"files": ["x" * longest]}).status_code == 201
    refused = world.alice.post(address, json={"files": ["x" * (longest + 1)]})
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.files")


def test_a_key_that_no_table_can_hold_has_no_item(world: World) -> None:
    table = world.resources.table
    for key in (Key("x" * 2049, "a"), Key("a", "é" * 513), Key("a", "")):
        assert table.get(key) is None
        assert table.get_many([key, Key("a", "b")]) == {}
    assert list(table.query("x" * 2049)) == []
