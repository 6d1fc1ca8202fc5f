"""Ranks actions by score: propensity times value times the weight of the priority. No language model takes part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from shared.models.action import Action, ActionPriority
from shared.models.insight import Arbitration, InsightPolicy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# A formula's number is the first part of the version that every insight stores. Change it with the formula.
_FORMULA = ("1", "score = propensity * weight of the priority")
_FORMULA_WITH_VALUES = ("2", "score = propensity * value * weight of the priority")


@dataclass(frozen=True)
class Contender:
    """An eligible action with its propensity, from 0 to 1."""

    action_id: str
    propensity: float
    weight: float
    value: Decimal | None = None

    @property
    def factor(self) -> float:
        """Returns what the propensity is multiplied with."""
        return (1.0 if self.value is None else float(self.value)) * self.weight

    @property
    def score(self) -> float:
        return score(self.propensity, self.factor)


Factor = TypeVar("Factor", float, "npt.NDArray[np.float64]")


def score(propensity: Factor, factor: Factor) -> Factor:
    """Returns the score of one action, or those of many customers and actions."""
    return propensity * factor


def arbitration_of(policy: InsightPolicy, actions: Sequence[Action]) -> Arbitration:
    """Returns the method that ranks these actions. Values count if at least one of the actions has a value."""
    has_values = any(action.value for action in actions)
    number, formula = _FORMULA_WITH_VALUES if has_values else _FORMULA
    return Arbitration(
        version=f"{number}.{policy.weights_version}" if policy.weights_version else number,
        formula=formula,
        weights={priority: getattr(policy.weights, priority) for priority in ActionPriority},
        currency=policy.currency if has_values else None,
        default_value=policy.default_value if has_values else None,
    )


def contender(action: Action, propensity: float, arbitration: Arbitration) -> Contender:
    value = action.value.amount if action.value else arbitration.default_value
    return Contender(action.id, propensity, arbitration.weights[action.priority], value)


def arbitrate(contenders: Iterable[Contender]) -> list[Contender]:
    """Returns the actions, best score first. Ids decide between equal scores, so equal inputs give equal results."""
    import numpy as np

    ordered = sorted(contenders, key=lambda each: each.action_id)
    (places,) = best_first(np.array([[each.score for each in ordered]]))
    return [ordered[place] for place in places]


def best_first(scores: "npt.NDArray[np.float64]") -> "npt.NDArray[np.intp]":
    """Returns for each row the places of its scores, best first. The columns are in the order of the actions' ids."""
    import numpy as np

    return np.argsort(-scores, axis=1, kind="stable")
