"""Reads of a decision that need nothing of each other wait for the table at the same time."""

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.decisions.scoring import PropensityScorer
from shared.models.checkpoint import Checkpoint
from shared.resources import Resources
from tests.functional.insights.helpers import CLIENT, ActionMaker, decide

PATIENCE_SECONDS = 20
# Each of a pair goes on only when the other one has begun. The explanation is no read.
PAIRS = (("insight_policy#", "action#"), ("insight_contact#", "checkpoint#"), ("score#", "the explanation"))


@pytest.mark.row("IN-1")
def test_independent_reads_wait_for_the_table_at_the_same_time(
    client: TestClient,
    resources: Resources,
    create_action: ActionMaker,
    model: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_action("Gold card", model_id=model.id)
    decide(client)
    barriers = {pair: threading.Barrier(2) for pair in PAIRS}
    met: list[str] = []

    def meet(what: str) -> None:
        for pair, barrier in barriers.items():
            for each in pair:
                if each in what:
                    barrier.wait(PATIENCE_SECONDS)
                    met.append(each)

    def read(params: Any, model: Any, **_: Any) -> None:
        if model.name in ("BatchGetItem", "Query"):
            meet(str(params["body"]))

    explain = PropensityScorer.explain

    def explained(*given: Any) -> Any:
        meet("the explanation")
        return explain(*given)

    monkeypatch.setattr(PropensityScorer, "explain", explained)
    resources.dynamodb.meta.events.register("before-call.dynamodb", read)
    try:
        found = decide(client, {"customer_id": 7, **CLIENT})
    finally:
        resources.dynamodb.meta.events.unregister("before-call.dynamodb", read)
    assert found["contributions"]["values"]
    assert sorted(met) == sorted(each for pair in PAIRS for each in pair)
