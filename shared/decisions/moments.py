"""Reads what decides at one moment, besides the customers: policy, experiment, actions and their groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.clock import Clock
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import ValidationFailedError
from shared.insights.exposures import experiments_key
from shared.insights.store import policy_key
from shared.models.action import Action, ActionStatus
from shared.models.action_group import ActionGroup
from shared.models.experiment import Experiments
from shared.models.insight import CANDIDATES_LIMIT, InsightPolicy
from shared.space_binding import aside

# The most actions that are read to find the active actions.
ACTIONS_LIMIT = 5000


@dataclass(frozen=True)
class Moment:
    """What decides at one moment. ``groups`` are the groups of the actions."""

    now: datetime
    policy: InsightPolicy
    experiments: Experiments
    actions: Sequence[Action]
    groups: Mapping[str, ActionGroup]


class Moments:
    def __init__(self, table: Table, clock: Clock) -> None:
        self._actions = Repository(table, Action, kind="action", clock=clock)
        self._groups = Repository(table, ActionGroup, kind="action_group", clock=clock)
        self._table = table
        self._clock = clock

    def read(self, space_id: str, action_ids: Sequence[str]) -> Moment:
        """Returns the present moment, for these actions or all active ones.

        Raises ValidationFailedError for an unknown action or too many actions.
        """
        keys = policy_key(space_id), experiments_key(space_id)
        with aside(self._table.get_many, keys) as reading:
            actions = self._candidates(space_id, action_ids)
            found = reading.result()
        policy, experiments = (found.get(key, {}) for key in keys)
        groups = self._groups.get_many(space_id, {action.group for action in actions if action.group})
        return Moment(
            self._clock(),
            InsightPolicy.model_validate(policy),
            Experiments.model_validate(experiments),
            actions,
            groups,
        )

    def _candidates(self, space_id: str, action_ids: Sequence[str]) -> list[Action]:
        if not action_ids:
            return self._active(space_id)
        found = self._actions.get_many(space_id, dict.fromkeys(action_ids))
        for index, action_id in enumerate(action_ids):
            if action_id not in found:
                raise ValidationFailedError.of(
                    f"body.actions[{index}]", "there is no such action; GET /actions lists them"
                )
        return list(found.values())

    def _active(self, space_id: str) -> list[Action]:
        # Reads one more than the limit, to see whether there are too many.
        items = list(self._actions.table.query(f"action#{space_id}", limit=ACTIONS_LIMIT + 1))
        active = [self._actions.load(item) for item in items if item["status"] == ActionStatus.ACTIVE]
        for found, limit, kind in ((active, CANDIDATES_LIMIT, "active actions"), (items, ACTIONS_LIMIT, "actions")):
            if len(found) > limit:
                raise ValidationFailedError.of(
                    "body.actions",
                    f"must list the actions to compare, because the space has more than {limit:,} {kind}",
                )
        return active
