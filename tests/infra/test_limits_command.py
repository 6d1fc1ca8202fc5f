"""Operators set the limits of single spaces."""

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from infra.operations.__main__ import main
from infra.operations.limits import LIMITS
from infra.settings import STAGES, StageSettings
from shared.models.job_limits import JobLimits
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.identity import Issuer


@pytest.fixture
def client(resources: Resources, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Returns a client who owns a space of the stage "test"."""
    # moto describes no stacks without packages that we do not have.
    monkeypatch.setattr("infra.operations.__main__.table_of", lambda *_: resources.settings.table_name)
    client = TestClient(build_api(resources), headers={"Authorization": f"Bearer {issuer.token('alice')}"})
    client.headers["X-Space-Id"] = client.post("/spaces", json={"name": "A", "description": ""}).json()["id"]
    return client


@pytest.mark.row("SE-9")
def test_an_operator_sets_limits_of_a_space_and_its_owner_sees_them(
    client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    space_id = client.headers["X-Space-Id"]
    space = ["limits", "--stage", "test", "--space", space_id]
    assert main([*space, "--running-trainings", "3", "--storage-gib", "7"]) == 0
    assert main([*space, "--running-trainings", "4"]) == 0
    assert f"{'running_trainings':24} {4:6}" in capsys.readouterr().out
    shown = client.get(f"/spaces/{space_id}/limits").json()["job_usage"]
    assert {name: each["limit"] for name, each in shown.items()} == {"running_trainings": 4, "storage_gib": 7}
    assert main(space) == 0
    assert main([*space, "--reset"]) == 0
    assert client.get(f"/spaces/{space_id}/limits").json()["job_usage"] == {}


def test_an_unknown_space_gets_no_limits(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    other = client.headers["X-Space-Id"][::-1]
    assert main(["limits", "--stage", "test", "--space", other, "--running-trainings", "3"]) == 2
    assert "there is no space" in capsys.readouterr().out


def test_each_limit_has_a_setting_in_every_stage_and_reaches_the_functions() -> None:
    assert LIMITS.keys() == JobLimits.model_fields.keys()
    assert set(LIMITS.values()) <= Settings.model_fields.keys() & set(StageSettings.__dataclass_fields__)
    assert all(getattr(stage, name) > 0 for stage in STAGES.values() for name in LIMITS.values())
