"""Fixtures of the tests of insights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.models.checkpoint import Checkpoint
from tests.fixtures.evaluations import add_model
from tests.fixtures.trained_models import packed, train_model
from tests.fixtures.upstream import FakeUpstream, connected
from tests.functional.insights.helpers import GENERATED_TEXT, ActionMaker


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(tmp_path_factory.mktemp("ml"), "lightgbm")


@pytest.fixture
def upstream(client: TestClient) -> Iterator[FakeUpstream]:
    with connected(client, FakeUpstream(script=lambda _: json.dumps(GENERATED_TEXT))) as upstream:
        yield upstream


@pytest.fixture
def model(client: TestClient, table: Table, model_folder: Path) -> Checkpoint:
    return add_model(table, client.headers["X-Space-Id"], packed(model_folder), name="Cards")


@pytest.fixture
def create_action(client: TestClient) -> ActionMaker:
    """Returns a function that creates an active action and returns its id."""

    def make(name: str, **fields: Any) -> str:
        offer = {"name": name, "description": "", "priority": "medium", "type": "offer", "status": "active", **fields}
        created = client.post("/actions", json=offer)
        assert created.status_code == 201, created.text
        return str(created.json()["id"])

    return make
