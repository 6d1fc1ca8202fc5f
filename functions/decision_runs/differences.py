"""Compares the summaries of two runs."""

from collections import Counter

from shared.models.decision_run import DecisionSummary, OfferChange, RunDifference


def difference(ours: DecisionSummary, theirs: DecisionSummary, compared_to: str) -> RunDifference:
    """Returns the numbers of one summary minus those of another."""
    mine = {(each.action_id, each.channel): each for each in ours.offers_by_action}
    other = {(each.action_id, each.channel): each for each in theirs.offers_by_action}
    removals = Counter[str]()
    for each in ours.removals:
        removals[each.rule.value] += each.customers
    for each in theirs.removals:
        removals[each.rule.value] -= each.customers
    return RunDifference(
        compared_to=compared_to,
        customers=ours.customers - theirs.customers,
        expected_acceptances=ours.expected_acceptances - theirs.expected_acceptances,
        expected_value=_minus(ours.expected_value, theirs.expected_value),
        offers=ours.offers - theirs.offers,
        offers_by_action=[
            OfferChange(
                action_id=place[0],
                channel=place[1],
                offers=(mine[place].offers if place in mine else 0) - (other[place].offers if place in other else 0),
                expected_value=_minus(
                    mine[place].expected_value if place in mine else 0.0,
                    other[place].expected_value if place in other else 0.0,
                ),
            )
            for place in sorted({*mine, *other}, key=str)
        ],
        removals=dict(sorted(removals.items())),
        score=ours.score - theirs.score,
    )


def _minus(ours: float | None, theirs: float | None) -> float | None:
    """Returns the difference, or ``None`` where values do not count in one of the runs."""
    return None if ours is None or theirs is None else ours - theirs
