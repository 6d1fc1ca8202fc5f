"""Tests of the gates of aliases: owners write them, and every promotion has to meet them."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.models.checkpoint import Checkpoint
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_member, add_score
from tests.fixtures.trainings import add_benchmark, space_of
from tests.functional.conftest import ClientMaker

CHAMPION = "/checkpoints/aliases/champion"
GATE = f"{CHAMPION}/gate"
Measure = Callable[..., Checkpoint]


@pytest.fixture
def benchmark(client: TestClient, table: Table) -> str:
    return add_benchmark(client, add_connector(table, space_of(client)))


@pytest.fixture
def measure(client: TestClient, table: Table, benchmark: str) -> Measure:
    """Returns a function that stores a checkpoint with a result on the benchmark."""

    def make(**metrics: float) -> Checkpoint:
        checkpoint = add_checkpoint(table, space_of(client))
        add_score(table, space_of(client), checkpoint, benchmark, revision=None, **metrics)
        return checkpoint

    return make


@pytest.fixture
def promoter(client: TestClient, sign_in: ClientMaker, table: Table) -> TestClient:
    """Returns a member who may promote, but does not own the space."""
    member = sign_in("promoter")
    add_member(table, member, space_of(client), [])
    address = f"/spaces/{space_of(client)}/members/{member.get('/me').json()['id']}"
    client.put(address, json={"privileges": ["aliases:promote"]}).raise_for_status()
    return member


def promote(client: TestClient, checkpoint: Checkpoint, alias: str = "champion", **more: Any) -> Any:
    return client.put(f"/checkpoints/aliases/{alias}", json={"checkpoint_id": checkpoint.id, **more})


def set_gate(client: TestClient, benchmark: str, **rules: Any) -> None:
    client.put(GATE, json={"required_benchmark_ids": [benchmark], **rules}).raise_for_status()


@pytest.mark.row("GV-2")
def test_a_caller_can_not_write_the_gate_that_they_have_to_meet(
    client: TestClient, promoter: TestClient, sign_in: ClientMaker, table: Table, measure: Measure, benchmark: str
) -> None:
    set_gate(client, benchmark)
    unmeasured = add_checkpoint(table, space_of(client))
    refused = promote(promoter, unmeasured, required_benchmark_ids=[])
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert promoter.put(GATE, json={"required_benchmark_ids": []}).status_code == 403
    assert promote(promoter, unmeasured).json()["code"] == "promotion_refused"
    assert promote(client, unmeasured).json()["code"] == "promotion_refused"
    assert promote(promoter, measure(roc_auc=0.8), required_benchmark_ids=[benchmark]).status_code == 200

    member = sign_in("member")
    add_member(table, member, space_of(client), [])
    refused = promote(member, measure(roc_auc=0.9), required_benchmark_ids=[])
    assert (refused.status_code, "aliases:promote" in refused.json()["error"]) == (403, True)
    assert member.delete(CHAMPION).status_code == 403


@pytest.mark.row("GV-2")
def test_champion_is_protected(client: TestClient, promoter: TestClient, measure: Measure, benchmark: str) -> None:
    checkpoint = measure(roc_auc=0.8)
    without_gate = promote(promoter, checkpoint)
    assert (without_gate.status_code, "has no gate" in without_gate.json()["error"]) == (403, True)
    assert promote(promoter, checkpoint, "candidate").status_code == 200
    assert promoter.delete("/checkpoints/aliases/candidate").status_code == 200
    assert promote(client, checkpoint).status_code == 200
    set_gate(client, benchmark)
    assert promote(promoter, checkpoint).status_code == 200
    assert promoter.delete(CHAMPION).status_code == 403
    assert client.delete(CHAMPION).status_code == 200
    # The gate is not forgotten with the alias.
    assert client.get(GATE).json()["required_benchmark_ids"] == [benchmark]
    assert client.get("/checkpoints/aliases/other/gate").status_code == 404


@pytest.mark.row("GV-2")
def test_the_thresholds_of_the_gate_hold_to_the_digit(client: TestClient, measure: Measure, benchmark: str) -> None:
    thresholds = [{"metric": "roc_auc", "at_least": 0.8}, {"metric": "log_loss", "at_most": 0.4}]
    set_gate(client, benchmark, thresholds=thresholds)
    for roc_auc, log_loss, status in ((0.8, 0.4, 200), (0.7999, 0.4, 409), (0.8, 0.4001, 409)):
        answer = promote(client, measure(roc_auc=roc_auc, log_loss=log_loss))
        assert answer.status_code == status, answer.text
    refused = promote(client, measure(log_loss=0.1))
    assert "roc_auc >= 0.8" in refused.json()["error"]


@pytest.mark.row("GV-2")
def test_another_alias_can_be_the_one_to_match(
    client: TestClient, promoter: TestClient, measure: Measure, benchmark: str
) -> None:
    promote(client, measure(roc_auc=0.9)).raise_for_status()
    gate = {"required_benchmark_ids": [benchmark], "not_worse": {"than": "champion"}}
    client.put("/checkpoints/aliases/challenger/gate", json=gate).raise_for_status()
    assert promote(client, measure(roc_auc=0.8), "challenger").status_code == 409
    assert promote(client, measure(roc_auc=0.91), "challenger").status_code == 200
    # Without it, the next one would have nothing to match.
    assert promoter.delete("/checkpoints/aliases/challenger").status_code == 403
    assert client.delete("/checkpoints/aliases/challenger").status_code == 200


@pytest.mark.parametrize(
    "gate",
    [
        {"thresholds": [{"metric": "roc_auc", "at_least": 0.8}]},
        {"not_worse": {}},
        {"required_benchmark_ids": ["unknown"]},
        {"required_benchmark_ids": ["a"], "thresholds": [{"metric": "ks", "at_least": 0.1, "benchmark_id": "b"}]},
        {"required_benchmark_ids": ["a"], "thresholds": [{"metric": "ks"}]},
        {"required_benchmark_ids": ["a"], "thresholds": [{"metric": "ks", "at_least": 0.1, "at_most": 0.2}]},
    ],
)
def test_a_gate_that_nothing_could_be_judged_by_is_refused(client: TestClient, gate: dict[str, Any]) -> None:
    assert client.put(GATE, json=gate).status_code == 400
    assert client.get(GATE).status_code == 404
