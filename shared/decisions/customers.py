"""Decides for customers at one moment. One customer or a million: the rules are the same code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from shared.decisions.arbitration import Contender, arbitrate, arbitration_of, best_first, contender, score
from shared.decisions.eligibility import Engagement, Removal
from shared.decisions.experiments import Exploration, actions_of, assigned, policy_of
from shared.decisions.moments import Moment
from shared.decisions.scoring import Propensities, Propensity, PropensityScorer
from shared.insights.conditions import ClientConditions
from shared.insights.ledger import History
from shared.models.action import Action, channel_key
from shared.models.experiment import ExperimentArm
from shared.models.insight import Client, InsightPolicy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Generators = Callable[[Client], "np.random.Generator | None"]


class ArmRules:
    """The rules for the customers of an arm, or of those without one. The actions are in the order of their ids."""

    def __init__(self, moment: Moment, arm: ExperimentArm | None) -> None:
        self.arm = arm
        self.policy = policy_of(moment.policy, arm)
        self.actions = sorted(actions_of(moment.actions, arm), key=lambda each: each.id)
        self.arbitration = arbitration_of(self.policy, self.actions)
        self.factors = [contender(action, 1.0, self.arbitration).factor for action in self.actions]
        self.channels = _channels(self.actions)
        # What happened before has no effect.
        self.since = moment.now - _memory(self.policy)
        self._moment = moment
        self._without_history = self._engagement(History())

    def engagement(self, history: History) -> Engagement:
        return self._without_history if history.is_empty else self._engagement(history)

    def _engagement(self, history: History) -> Engagement:
        return Engagement(self.policy, history, self._moment.now, self._moment.groups, self.channels)


@dataclass(frozen=True)
class Decided:
    """The decisions about customers in one arm. A row is a customer, and a column one of the arm's actions.

    ``places`` are the places of the customers among all. ``values`` are the propensities, some of them drawn.
    """

    rules: ArmRules
    places: list[int]
    clients: list[Client]
    histories: list[History]
    engagements: list[Engagement]
    removals: list[list[Removal | None]]
    propensities: Propensities
    values: "npt.NDArray[np.float64]"
    explorations: list[Exploration]

    @cached_property
    def scores(self) -> "npt.NDArray[np.float64]":
        """Returns the scores, below all others where a rule removed the action."""
        import numpy as np

        left = np.array([[each is None for each in row] for row in self.removals], dtype=bool)
        factors = np.array(self.rules.factors)
        return np.where(left.reshape(self.values.shape), score(self.values, factors), -np.inf)

    @cached_property
    def best(self) -> list[int | None]:
        """Returns the column of each customer's best action, if any is left."""
        if not self.rules.actions:
            return [None] * len(self.clients)
        columns = best_first(self.scores)[:, 0].tolist()
        return [best if row[best] is None else None for best, row in zip(columns, self.removals, strict=True)]

    def ranking(self, row: int) -> list[Contender]:
        """Returns the actions that are left for a customer, best first."""
        return arbitrate(
            contender(action, value, self.rules.arbitration)
            for action, value, removal in zip(
                self.rules.actions, self.values[row].tolist(), self.removals[row], strict=True
            )
            if removal is None
        )

    def propensities_of(self, row: int) -> dict[str, Propensity]:
        """Returns the propensities of a customer with their sources, by the action that is left."""
        drawn = self.explorations[row].shapes
        return {
            action.id: self.propensities.of(row, column, value, is_drawn=action.id in drawn)
            for column, (action, value) in enumerate(zip(self.rules.actions, self.values[row].tolist(), strict=True))
            if self.removals[row][column] is None
        }


class HistorySource(Protocol):
    """Where the histories of customers come from."""

    def read(self, space_id: str, customers: Sequence[Sequence[str]], since: datetime) -> list[History]: ...


class CustomerDecider:
    """Decides for customers. ``generators`` gives each customer the source of the draws of an exploration."""

    def __init__(
        self, ledger: HistorySource, propensities: PropensityScorer, generators: Generators = lambda _: None
    ) -> None:
        self._ledger = ledger
        self._propensities = propensities
        self._generators = generators

    def decide(self, space_id: str, moment: Moment, clients: Sequence[Client]) -> list[Decided]:
        """Returns the decisions about all clients, those of each arm together."""
        arms: dict[str | None, ExperimentArm | None] = {}
        members: dict[str | None, list[int]] = {}
        for place, client in enumerate(clients):
            arm = assigned(moment.experiments, client)
            name = arm.name if arm else None
            arms[name] = arm
            members.setdefault(name, []).append(place)
        return [self._decide(space_id, moment, arms[name], places, clients) for name, places in members.items()]

    def _decide(
        self,
        space_id: str,
        moment: Moment,
        arm: ExperimentArm | None,
        places: list[int],
        everybody: Sequence[Client],
    ) -> Decided:
        rules, clients = ArmRules(moment, arm), [everybody[place] for place in places]
        keys = [(client.key, *client.former_keys) for client in clients]
        histories = self._ledger.read(space_id, keys, rules.since)
        engagements = [rules.engagement(history) for history in histories]
        removals = []
        for client, engagement in zip(clients, engagements, strict=True):
            conditions = ClientConditions(client.fields, moment.now)
            removals.append([engagement.removal(action, conditions) for action in rules.actions])
        wanted = {
            action.id for column, action in enumerate(rules.actions) if any(row[column] is None for row in removals)
        }
        propensities = self._propensities.score(space_id, clients, rules.actions, wanted)
        values = propensities.values()
        explorations = []
        for row, client in enumerate(clients):
            left = [column for column, removal in enumerate(removals[row]) if removal is None]
            explored = propensities.unmodelled(left) if moment.experiments.explore else {}
            exploration = Exploration(explored, self._generators(client))
            drawn = exploration.draw()
            for column in left if drawn else ():
                values[row, column] = drawn.get(rules.actions[column].id, values[row, column])
            explorations.append(exploration)
        return Decided(rules, places, clients, histories, engagements, removals, propensities, values, explorations)


def _channels(actions: Sequence[Action]) -> list[str]:
    """Returns the channels of the actions, each in its first spelling."""
    spelled = sorted({action.channel for action in actions if action.channel})
    return list({channel_key(channel): channel for channel in reversed(spelled)}.values())[::-1]


def _memory(policy: InsightPolicy) -> timedelta:
    """Returns the longest period of the policy: what happened before it has no effect."""
    windows = policy.suppression_days
    days = [windows.accepted, windows.ignored, windows.rejected, *(limit.days for limit in policy.contact_limits)]
    # Calendar days may be longer than 24 hours.
    return timedelta(days=max(days) + 1)
