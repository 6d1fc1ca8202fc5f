"""Arbitration ranks the same candidates in the same order, and their input order does not matter."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.decisions.arbitration import Contender, arbitrate, arbitration_of, contender
from shared.models.action import Action, ActionPriority, ActionValue
from shared.models.insight import InsightPolicy, PriorityWeights

WEIGHTS = [0.5, 0.75, 1.0, 1.5, 2.0]

contenders = st.lists(
    st.builds(
        Contender,
        action_id=st.text("abc", min_size=1, max_size=6),
        # Few values cause ties.
        propensity=st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.4, 1.0]),
        weight=st.sampled_from(WEIGHTS),
        value=st.sampled_from([None, Decimal(0), Decimal(1), Decimal("2.5")]),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda each: each.action_id,
)


def place(ranking: list[Contender], action_id: str) -> int:
    return [each.action_id for each in ranking].index(action_id)


@pytest.mark.row("IN-1")
@given(contenders, st.randoms())
def test_the_ranking_does_not_depend_on_the_order_of_the_candidates(given_: list[Contender], random: Any) -> None:
    shuffled = list(given_)
    random.shuffle(shuffled)
    ranking = arbitrate(given_)
    assert arbitrate(shuffled) == ranking == arbitrate(given_)
    assert sorted(each.action_id for each in ranking) == sorted(each.action_id for each in given_)
    for better, worse in pairwise(ranking):
        assert (better.score, worse.action_id) >= (worse.score, better.action_id)


@given(contenders, st.data())
def test_a_higher_propensity_or_weight_never_lowers_the_rank_of_an_action(
    given_: list[Contender], data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(given_))
    others = [each for each in given_ if each is not chosen]
    before = place(arbitrate(given_), chosen.action_id)
    likelier = Contender(chosen.action_id, data.draw(st.floats(chosen.propensity, 1)), chosen.weight, chosen.value)
    assert place(arbitrate([*others, likelier]), chosen.action_id) <= before
    heavier = data.draw(st.sampled_from([weight for weight in WEIGHTS if weight >= chosen.weight]))
    lifted = Contender(chosen.action_id, chosen.propensity, heavier, chosen.value)
    assert place(arbitrate([*others, lifted]), chosen.action_id) <= before


POLICY = InsightPolicy()
SET_POLICY = InsightPolicy(
    currency="EUR", default_value=Decimal("12.50"), weights=PriorityWeights(high=3), weights_version=4
)
NOW = datetime(2026, 7, 1, tzinfo=UTC)


def action(name: str, priority: ActionPriority, value: str | None) -> Action:
    worth = ActionValue(amount=Decimal(value), currency="EUR") if value else None
    fields = {"description": "", "name": name, "priority": priority, "status": "active", "type": "offer"}
    return Action.model_validate({"id": name, "created_at": NOW, "updated_at": NOW, "value": worth, **fields})


@pytest.mark.row("IN-1")
def test_the_weights_increase_with_the_priority_and_are_published_with_their_version() -> None:
    arbitration = arbitration_of(POLICY, [action("a", ActionPriority.LOW, None)])
    weights = [arbitration.weights[priority] for priority in ActionPriority]
    assert weights == sorted(set(weights))
    assert arbitration.model_dump(mode="json", exclude_none=True) == {
        "version": "1",
        "formula": "score = propensity * weight of the priority",
        "weights": {"very_low": 0.5, "low": 0.75, "medium": 1.0, "high": 1.5, "very_high": 2.0},
    }


# Computed by hand: propensity, priority and value of each action, the policy, and the scores. Change the formula's
# number with them.
GOLDEN = [
    (POLICY, "1", [(0.04, "high", None, 0.06), (0.05, "medium", None, 0.05), (0.1, "very_low", None, 0.05)]),
    (SET_POLICY, "1.4", [(0.04, "high", None, 0.12), (0.05, "medium", None, 0.05)]),
    (SET_POLICY, "2.4", [(0.02, "high", "1000", 60.0), (0.3, "medium", "99.90", 29.97), (0.4, "low", None, 3.75)]),
    (SET_POLICY, "2.4", [(0.5, "very_high", "0.01", 0.01), (1.0, "very_low", "0", 0.0)]),
]


@pytest.mark.row("EL-2")
@pytest.mark.parametrize(("policy", "version", "vectors"), GOLDEN)
def test_scores_equal_the_golden_vectors_of_their_version(
    policy: InsightPolicy, version: str, vectors: list[tuple[float, str, str | None, float]]
) -> None:
    actions = [action(str(at), ActionPriority(priority), value) for at, (_, priority, value, _) in enumerate(vectors)]
    arbitration = arbitration_of(policy, actions)
    assert arbitration.version == version
    for each, (propensity, *_, score) in zip(actions, vectors, strict=True):
        assert contender(each, propensity, arbitration).score == pytest.approx(score, rel=1e-12)
