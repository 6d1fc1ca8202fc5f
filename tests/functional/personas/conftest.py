"""Fixtures of the tests of personas."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.functional.personas.helpers import ADA, GRACE, MARY, csv_file, upload


@pytest.fixture
def ada(client: TestClient) -> dict[str, Any]:
    persona: dict[str, Any] = client.post("/personas", json=ADA).json()
    return persona


@pytest.fixture
def pending(client: TestClient, ada: dict[str, Any]) -> dict[str, Any]:
    """Returns an upload of three, one of whom is known."""
    answer = upload(client, csv_file(GRACE, ADA, MARY))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
