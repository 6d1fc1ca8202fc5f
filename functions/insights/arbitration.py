"""Ranks actions by score: propensity times the weight of the priority. No language model takes part."""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.models.action import ActionPriority
from shared.models.insight import Arbitration

# Change the version with the weights or the formula, because every insight stores it.
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
    """An eligible action with its propensity, from 0 to 1."""

    action_id: str
    propensity: float
    priority: ActionPriority

    @property
    def score(self) -> float:
        return self.propensity * WEIGHTS[self.priority]


def arbitrate(contenders: Iterable[Contender]) -> list[Contender]:
    """Returns the actions, best score first. Ids decide between equal scores, so equal inputs give equal results."""
    return sorted(contenders, key=lambda each: (-each.score, each.action_id))
