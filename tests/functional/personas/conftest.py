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
    """Returns an upload of three personas that is pending, because one persona already exists."""
    response = upload(client, csv_file(GRACE, ADA, MARY))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found
