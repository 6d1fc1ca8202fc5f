"""From an offer to its lineage, through the deployed functions: their layers, their grants, the table's stream."""

from typing import Any

import pytest

from tests.e2e.conftest import Lab, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STREAM_SECONDS = 60.0


@pytest.fixture(scope="module")
def checkpoint(lab: Lab) -> dict[str, Any]:
    training = lab.wait_for(lab.train()["id"])
    assert training["status"] == "succeeded", training
    found: dict[str, Any] = training["checkpoints"][0]
    return found


@pytest.fixture(scope="module")
def insight(lab: Lab, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The decision for one held-out customer between an offer with a model and one without."""
    lab.api.call("PUT", "/checkpoints/aliases/champion", {"checkpoint_id": checkpoint["id"]})
    offer = {"description": "", "type": "offer", "status": "active", "channel": "email"}
    for fields in ({"name": "Advice", "priority": "very_high", "model_id": "champion"}, {"name": "Card"}):
        lab.api.post("/actions", {"priority": "very_low", **offer, **fields})
    found: dict[str, Any] = lab.api.post("/insights", {"client": lab.rows(1)[0], "max_tokens": 60})
    return found


@pytest.mark.row("IN-1", "Y-4")
def test_an_insight_names_the_best_offer_and_why(insight: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    by_name = {each["name"]: each for each in insight["candidates"]}
    assert by_name["Advice"]["score_source"] == "model"
    assert by_name["Advice"]["checkpoint_id"] == checkpoint["id"]
    assert by_name["Card"]["score_source"] == "acceptance_rate"
    assert insight["reason_codes"]
    assert insight["argument"]


@pytest.mark.row("X-8")
def test_a_rejected_offer_is_not_made_again(lab: Lab, insight: dict[str, Any]) -> None:
    lab.api.post(f"/insights/{insight['id']}/reactions", {"reaction": "rejected"})
    again = lab.api.post("/insights", {"client": lab.rows(1)[0], "max_tokens": 60})
    rejected = next(each for each in again["candidates"] if each["action_id"] == insight["action_id"])
    assert rejected["removed_by"] == "suppressed"


@pytest.mark.row("Y-1")
def test_the_lineage_leads_back_to_the_version_of_the_file_and_its_scan(lab: Lab, insight: dict[str, Any]) -> None:
    lineage = lab.api.get(f"/insights/{insight['id']}/lineage")
    (file,) = lineage["files"]
    assert (file["connector_id"], file["file"]) == (lab.connector_id, lab.data_set.training_file)
    assert file["version_id"]
    assert file["scan_id"]
    assert lineage["data_model_id"] == lab.data_model_id


@pytest.mark.row("X-14")
def test_the_audit_log_tells_of_the_write_by_itself(lab: Lab, insight: dict[str, Any]) -> None:
    path = f"/audit-logs?entity=insight&entity_id={insight['id']}"
    page = lab.api.wait(path, lambda page: page["count"] > 0, seconds=STREAM_SECONDS)
    created = page["data"][-1]
    assert (created["action"], created["actor"]) == ("created", lab.api.get("/me")["id"])


@pytest.mark.row("SP-2")
def test_a_deleted_space_is_gone_at_once_and_comes_back_whole(stack: Stack) -> None:
    owner = stack.member()
    action = owner.post("/actions", {"name": "A", "description": "", "priority": "low", "type": "offer"})
    owner.delete(f"/spaces/{owner.space_id}")
    assert owner.send("GET", f"/actions/{action['id']}").status_code == 404
    owner.post(f"/spaces/{owner.space_id}/restore")
    assert owner.get(f"/actions/{action['id']}") == action
