"""Deals customers to the arms of the space's experiment, and explores actions without a model."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.decisions.arbitration import Contender
from shared.decisions.scoring import PRIOR_ACCEPTED, PRIOR_OFFERS
from shared.insights.store import Counts
from shared.models.action import Action
from shared.models.experiment import ExperimentArm, Experiments
from shared.models.insight import Client, InsightPolicy

if TYPE_CHECKING:
    import numpy as np

_PLACES = 2**64
# The probability of the winner is an average over so many quantiles of its distribution.
_QUANTILES = 2000


def place_of(salt: str, client_key: str) -> float:
    """Returns the place of a customer, from 0 up to 100. It depends on nothing else, so it never changes."""
    digest = hashlib.sha256(f"{salt}\n{client_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / _PLACES * 100


def assigned(experiments: Experiments, client: Client) -> ExperimentArm | None:
    """Returns the arm of a customer. Clients without a key are in no arm, because they cannot stay in one."""
    if not experiments.arms or client.name is None:
        return None
    place, end = place_of(experiments.salt or "", client.key), 0.0
    for arm in experiments.arms:
        end += float(arm.percentage)
        if place < end:
            return arm
    return experiments.arms[-1]


def policy_of(policy: InsightPolicy, arm: ExperimentArm | None) -> InsightPolicy:
    """Returns the policy of an arm."""
    if arm is None or arm.policy is None:
        return policy
    given = arm.policy
    return policy.model_copy(
        update={name: value for name in type(given).model_fields if (value := getattr(given, name)) is not None}
    )


def actions_of(actions: Sequence[Action], arm: ExperimentArm | None) -> list[Action]:
    """Returns the actions with the models of an arm."""
    if arm is None or arm.checkpoint is None:
        return list(actions)
    return [
        action.model_copy(update={"model_id": arm.checkpoint})
        if action.model_id and arm.replaces in (None, action.model_id)
        else action
        for action in actions
    ]


class Exploration:
    """Draws propensities of actions from Beta distributions of their acceptance rates (Thompson sampling)."""

    def __init__(self, counts: Mapping[str, Counts], generator: "np.random.Generator | None" = None) -> None:
        self.shapes = {
            action_id: (each.accepted + PRIOR_ACCEPTED, each.offers - each.accepted + PRIOR_OFFERS - PRIOR_ACCEPTED)
            for action_id, each in counts.items()
        }
        self._generator = generator

    def draw(self) -> dict[str, float]:
        """Returns a propensity for each explored action."""
        if not self.shapes:
            return {}
        import numpy as np

        # A new generator has its own seed, also in copies of a snapshot.
        generator = self._generator or np.random.default_rng()
        return {action_id: float(generator.beta(*shape)) for action_id, shape in self.shapes.items()}

    def probability(self, ranking: Sequence[Contender]) -> float:
        """Returns how probable it was, before the draws, that the first of the ranking would be the first."""
        if not self.shapes:
            return 1.0
        best, *others = ranking
        explored = [each for each in others if each.action_id in self.shapes]
        fixed = max((each.score for each in others if each.action_id not in self.shapes), default=0.0)
        if best.action_id not in self.shapes:
            return float(self._below([best.score], explored)[0])
        import numpy as np
        from scipy.special import betaincinv

        middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        scores = betaincinv(*self.shapes[best.action_id], middles) * best.factor
        return float(np.mean(self._below(scores, explored) * (scores >= fixed)))

    def _below(self, scores: Any, explored: Iterable[Contender]) -> Any:
        """Returns the probability that the scores of all explored actions are below each of these scores."""
        import numpy as np
        from scipy.special import betainc

        found = np.ones(len(scores))
        for each in explored:
            if each.factor > 0:
                found *= betainc(*self.shapes[each.action_id], np.minimum(np.asarray(scores) / each.factor, 1.0))
        return found
