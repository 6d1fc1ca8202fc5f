"""Tests of decisions by the deployed functions, from an offer to its lineage."""

from typing import Any

import pytest

from tests.e2e.conftest import Stack, TrainingSpace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STREAM_SECONDS = 60.0


@pytest.fixture(scope="module")
def checkpoint(space: TrainingSpace) -> dict[str, Any]:
    training = space.wait_for(space.train()["id"])
    assert training["status"] == "succeeded", training
    found: dict[str, Any] = training["checkpoints"][0]
    return found


@pytest.fixture(scope="module")
def insight(space: TrainingSpace, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns the decision for one customer between an offer with a model and an offer without."""
    space.api.call("PUT", "/checkpoints/aliases/champion", {"checkpoint_id": checkpoint["id"]})
    offer = {"description": "", "type": "offer", "status": "active", "channel": "email"}
    for fields in ({"name": "Advice", "priority": "very_high", "model_id": "champion"}, {"name": "Card"}):
        space.api.post("/actions", {"priority": "very_low", **offer, **fields})
    found: dict[str, Any] = space.api.post("/insights", {"client": space.rows(1)[0], "max_tokens": 60})
    return found


@pytest.mark.row("IN-1", "Y-4")
def test_an_insight_names_the_best_offer_and_the_reasons(insight: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    by_name = {each["name"]: each for each in insight["candidates"]}
    assert by_name["Advice"]["score_source"] == "model"
    assert by_name["Advice"]["checkpoint_id"] == checkpoint["id"]
    assert by_name["Card"]["score_source"] == "acceptance_rate"
    assert insight["reason_codes"]
    assert insight["argument"]


@pytest.mark.row("X-8")
def test_a_rejected_offer_is_not_repeated(space: TrainingSpace, insight: dict[str, Any]) -> None:
    space.api.post(f"/insights/{insight['id']}/reactions", {"reaction": "rejected"})
    second = space.api.post("/insights", {"client": space.rows(1)[0], "max_tokens": 60})
    rejected = next(each for each in second["candidates"] if each["action_id"] == insight["action_id"])
    assert rejected["removed_by"] == "suppressed"


@pytest.mark.row("Y-1")
def test_the_lineage_names_the_version_of_the_file_and_its_scan(space: TrainingSpace, insight: dict[str, Any]) -> None:
    lineage = space.api.get(f"/insights/{insight['id']}/lineage")
    (file,) = lineage["files"]
    assert (file["connector_id"], file["file"]) == (space.connector_id, space.data_set.training_file)
    assert file["version_id"]
    assert file["scan_id"]
    assert lineage["data_model_id"] == space.data_model_id


@pytest.mark.row("X-14")
def test_a_write_appears_in_the_audit_log(space: TrainingSpace, insight: dict[str, Any]) -> None:
    path = f"/audit-logs?entity=insight&entity_id={insight['id']}"
    page = space.api.wait(path, lambda page: page["count"] > 0, seconds=STREAM_SECONDS)
    created = page["data"][-1]
    assert (created["action"], created["actor"]) == ("created", space.api.get("/me")["id"])


@pytest.mark.row("SP-2")
def test_a_deleted_space_disappears_immediately_and_can_be_restored(stack: Stack) -> None:
    owner = stack.member()
    action = owner.post("/actions", {"name": "A", "description": "", "priority": "low", "type": "offer"})
    owner.delete(f"/spaces/{owner.space_id}")
    assert owner.send("GET", f"/actions/{action['id']}").status_code == 404
    owner.post(f"/spaces/{owner.space_id}/restore")
    assert owner.get(f"/actions/{action['id']}") == action
