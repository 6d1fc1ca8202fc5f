"""The report of a training: one HTML file with all that is known of it."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from functions.workflows.training.fail_training import fail_training
from functions.workflows.training.register_checkpoints import register_checkpoints
from shared.dynamodb.table import Key, Table
from shared.resources import Resources
from tests.fixtures.evaluations import add_member
from tests.fixtures.reports import CHARTS, HOSTILE, safe_page
from tests.fixtures.trained_models import QUICK, packed, train_model
from tests.fixtures.training_workflow import World
from tests.fixtures.trainings import space_of, training_request
from tests.functional.conftest import ClientMaker

pytestmark = pytest.mark.row("UI-2")


@pytest.fixture
def world(client: TestClient, resources: Resources, table: Table) -> World:
    # Names hold no control characters.
    return World(client, resources, table, training_request(client, table, name=HOSTILE.replace("\x00", "")))


def test_a_report_shows_metrics_curves_calibration_notes_and_versions(world: World, tmp_path: Path) -> None:
    configuration = QUICK | {"calibration": "logistic", "threshold": {"rule": "f1"}}
    model = packed(train_model(tmp_path, "lightgbm", configuration))
    register_checkpoints(world.resources, world.put_model(content=model))
    shown = world.shown()
    [checkpoint] = shown["checkpoints"]

    page = safe_page(world.client.get(f"{world.address}/report"))

    assert f"Training {shown['name']}" in page.texts
    # Each title is above its chart, and in it for screen readers.
    assert page.charts == [name for name in CHARTS for _ in range(2)]
    assert page.elements.count("svg") == 7
    low, high = (checkpoint["intervals"]["roc_auc"][end] for end in ("low", "high"))
    assert f"{low:.4f} to {high:.4f}" in page.texts
    measured, raw = checkpoint["calibration"]["measured"], checkpoint["calibration"]["raw"]
    assert {f"{each['expected_error']:.4f}" for each in (measured, raw)} <= set(page.texts)
    assert any(text.startswith("At the threshold") and "the best F1" in text for text in page.texts)
    assert set(shown["notes"]) <= set(page.texts)
    assert {"a.csv", "lightgbm", "Progress", "Libraries"} <= set(page.texts)
    assert (checkpoint["calibration"]["method"], checkpoint["threshold_rule"]) == ("logistic", "the best F1")

    # The report stays for a month after a deletion, without the series.
    world.client.delete(world.address)
    after = safe_page(world.client.get(f"{world.address}/report"))
    assert (after.charts, "Progress" in after.texts) == (page.charts, False)


def test_a_training_without_a_model_has_a_report_of_why(world: World) -> None:
    assert "Metrics" not in safe_page(world.client.get(f"{world.address}/report")).texts
    fail_training(
        world.resources, {**world.event, "error": "JobFailedError", "cause": f'{{"errorMessage": "{"<b>" * 3}"}}'}
    )
    page = safe_page(world.client.get(f"{world.address}/report"))
    assert any(text.startswith("It ended without a model") for text in page.texts)
    assert "b" not in page.elements


def test_a_checkpoint_of_an_earlier_version_has_a_report_of_its_metrics(world: World) -> None:
    register_checkpoints(world.resources, world.put_model())
    [checkpoint] = world.shown()["checkpoints"]
    world.table.delete_all([Key(f"checkpoint#{space_of(world.client)}#report", checkpoint["id"])])
    assert "0.8100" in safe_page(world.client.get(f"{world.address}/report")).texts


def test_only_members_who_may_read_trainings_get_a_report(world: World, table: Table, sign_in: ClientMaker) -> None:
    member, reader = sign_in("member"), sign_in("reader")
    add_member(table, member, space_of(world.client), [])
    add_member(table, reader, space_of(world.client), ["trainings:get"])
    address = f"{world.address}/report"
    assert member.get(address).status_code == 403
    assert reader.get(address).status_code == 200
