"""Fixtures of the tests of deletion."""

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker
from tests.functional.spaces.deletion.helpers import NAMES


@pytest.fixture(autouse=True)
def one_job_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike AWS, moto can't be written to by several threads at the same time."""
    monkeypatch.setattr("functions.events.reconcile_jobs.CONCURRENCY", 1)


@pytest.fixture
def members(client: TestClient, sign_in: ClientMaker, table: Table) -> list[TestClient]:
    """Returns three members of Alice's space, each with one space more."""
    found = [sign_in(name) for name in NAMES]
    for member in found:
        member.post("/spaces", json={"name": "Mine", "description": ""})
        add_member(table, member, space_of(client), ["trainings:list"])
    return found
