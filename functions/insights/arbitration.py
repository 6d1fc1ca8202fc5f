"""Which action is offered: propensity times the weight of its priority. Pure, and never shown to a language model."""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.models.action import ActionPriority
from shared.models.insight import Arbitration

# Another version for every change of the weights or the formula: stored insights say which one they were made by.
WEIGHTS = {
    ActionPriority.VERY_LOW: 0.5,
    ActionPriority.LOW: 0.75,
    ActionPriority.MEDIUM: 1.0,
    ActionPriority.HIGH: 1.5,
    ActionPriority.VERY_HIGH: 2.0,
}
ARBITRATION = Arbitration(version="1", formula="score = propensity * weight of the priority", weights=WEIGHTS)


@dataclass(frozen=True)
class Contender:
    """An action that may be offered; ``propensity`` is from 0 to 1."""

    action_id: str
    propensity: float
    priority: ActionPriority

    @property
    def score(self) -> float:
        return self.propensity * WEIGHTS[self.priority]


def arbitrate(contenders: Iterable[Contender]) -> list[Contender]:
    """Best first; equal scores in the order of their ids, so that equal inputs give equal answers."""
    return sorted(contenders, key=lambda each: (-each.score, each.action_id))
