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
    """Limits the reconciler to one job at a time, because moto does not support concurrent writes."""
    monkeypatch.setattr("functions.events.reconcile_jobs.CONCURRENCY", 1)


@pytest.fixture
def members(client: TestClient, sign_in: ClientMaker, table: Table) -> list[TestClient]:
    """Returns three members of Alice's space, who also own one space each."""
    found = [sign_in(name) for name in NAMES]
    for member in found:
        member.post("/spaces", json={"name": "Mine", "description": ""})
        add_member(table, member, space_of(client), ["trainings:list"])
    return found
