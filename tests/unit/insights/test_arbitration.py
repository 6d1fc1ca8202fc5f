"""Arbitration ranks the same candidates in the same order, and their input order does not matter."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.insights.arbitration import ARBITRATION, WEIGHTS, Contender, arbitrate
from shared.models.action import ActionPriority

contenders = st.lists(
    st.builds(
        Contender,
        action_id=st.text("abc", min_size=1, max_size=6),
        # Few values cause ties.
        propensity=st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.4, 1.0]),
        priority=st.sampled_from(ActionPriority),
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
def test_a_higher_propensity_or_priority_never_lowers_the_rank_of_an_action(
    given_: list[Contender], data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(given_))
    others = [each for each in given_ if each is not chosen]
    before = place(arbitrate(given_), chosen.action_id)
    likelier = Contender(chosen.action_id, data.draw(st.floats(chosen.propensity, 1)), chosen.priority)
    assert place(arbitrate([*others, likelier]), chosen.action_id) <= before
    order = list(ActionPriority)
    higher = data.draw(st.sampled_from(order[order.index(chosen.priority) :]))
    lifted = Contender(chosen.action_id, chosen.propensity, higher)
    assert place(arbitrate([*others, lifted]), chosen.action_id) <= before


@pytest.mark.row("IN-1")
def test_the_weights_increase_with_the_priority_and_are_published_with_their_version() -> None:
    weights = [WEIGHTS[priority] for priority in ActionPriority]
    assert weights == sorted(set(weights))
    assert ARBITRATION.model_dump(mode="json") == {
        "version": "1",
        "formula": "score = propensity * weight of the priority",
        "weights": {"very_low": 0.5, "low": 0.75, "medium": 1.0, "high": 1.5, "very_high": 2.0},
    }
