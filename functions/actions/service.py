"""Manages actions, and checks their references and dates."""

from functools import reduce
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.checkpoints.aliases import CheckpointAliases
from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Idempotency, Repository
from shared.dynamodb.table import Table
from shared.errors import ValidationFailedError
from shared.insights.conditions import check_conditions
from shared.insights.store import InsightPolicies
from shared.models.action import Action, ActionCreate, ActionStatus, ActionUpdate
from shared.models.action_group import ActionGroup
from shared.models.base import Deleted, Page, format_timestamp
from shared.models.space import Privilege
from shared.spaces.members import SpaceContext


class ActionService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._actions = Repository(table, Action, kind="action", clock=clock)
        self._groups = Repository(table, ActionGroup, kind="action_group", clock=clock)
        self._policies = InsightPolicies(table, clock)
        self._checkpoints = CheckpointAliases(table, clock)
        self._clock = clock

    def create(self, context: SpaceContext, request: ActionCreate, idempotency: Idempotency | None) -> Action:
        """Creates an action. Raises ValidationFailedError for an unknown group or model, a wrong condition, or a
        currency that is not the one of the policy.
        """
        if request.status is ActionStatus.ACTIVE:
            context.require(Privilege.ACTIONS_PUBLISH, "An active action")
        values = {name: getattr(request, name) for name in type(request).model_fields}
        self._require_references(context, values)
        now = self._clock()
        action = Action(id=new_id(), created_at=now, updated_at=now, **{**values, "group": request.group or ""})
        return self._actions.create(context.space_id, action, idempotency=idempotency)

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[Action]:
        page = self._actions.list_after(context.space_id, after, limit)
        return page.model_copy(update={"data": self._grouped(context, page.data)})

    def get(self, context: SpaceContext, action_id: str) -> Action:
        return self._grouped(context, [self._actions.get(context.space_id, action_id)])[0]

    def update(
        self, context: SpaceContext, action_id: str, request: ActionUpdate, expected_version: int | None
    ) -> Action:
        """Updates an action. Raises ValidationFailedError as ``create`` does, and if it would end before its start."""
        changes = request.changes()
        condition = self._require_publisher(context, action_id, changes)
        self._require_references(context, changes)
        if "group" in changes:
            changes["group"] = changes["group"] or ""
        try:
            action = self._actions.update(
                context.space_id,
                action_id,
                changes,
                expected_version=expected_version,
                condition=_all_of(condition, _fits_the_other_date(changes)),
            )
        except ConditionNotMetError as failed:
            if condition is not None and getattr(failed.current, "status", None) is ActionStatus.ACTIVE:
                context.require(Privilege.ACTIONS_PUBLISH, "A change of an active action")
            field = "end_date" if "end_date" in changes else "start_date"
            raise ValidationFailedError.of(
                f"body.{field}", "end_date would be before start_date: send both dates, or null for one of them"
            ) from None
        return self._grouped(context, [action])[0]

    def delete(self, context: SpaceContext, action_id: str, expected_version: int | None) -> Deleted:
        condition = self._require_publisher(context, action_id, {})
        try:
            return self._actions.delete(
                context.space_id, action_id, expected_version=expected_version, condition=condition
            )
        except ConditionNotMetError:  # published just now
            context.require(Privilege.ACTIONS_PUBLISH, "The deletion of an active action")
            raise

    def _require_publisher(
        self, context: SpaceContext, action_id: str, changes: dict[str, Any]
    ) -> ConditionBase | None:
        """Raises PermissionDeniedError for a caller without the right to change an active action or to make one.

        Returns the condition for such a caller: the action is not active, also at the time of the write.
        """
        if context.allows(Privilege.ACTIONS_PUBLISH):
            return None
        current = self._actions.get(context.space_id, action_id).status
        if ActionStatus.ACTIVE in (current, changes.get("status")):
            context.require(Privilege.ACTIONS_PUBLISH, "A change of an active action")
        return Attr("status").ne(ActionStatus.ACTIVE.value)

    def _require_references(self, context: SpaceContext, values: dict[str, Any]) -> None:
        check_conditions(values.get("conditions", []), "body.conditions")
        if (group := values.get("group")) and group not in self._groups.get_many(context.space_id, [group]):
            raise ValidationFailedError.of("body.group", "there is no such action group; GET /action-groups lists them")
        if (model := values.get("model_id")) and not self._checkpoints.checkpoint(context.space_id, model):
            raise ValidationFailedError.of(
                "body.model_id", "there is no such checkpoint or alias; GET /checkpoints lists them"
            )
        if (value := values.get("value")) and value.currency != (known := self._currency(context)):
            asked = f"must be {known}, as in the policy" if known else "set `currency` in PUT /insights/policy first"
            raise ValidationFailedError.of("body.value.currency", asked)

    def _currency(self, context: SpaceContext) -> str | None:
        return self._policies.get(context.space_id).currency

    def _grouped(self, context: SpaceContext, actions: list[Action]) -> list[Action]:
        """Returns the actions, without references to deleted groups."""
        groups = self._groups.get_many(context.space_id, {action.group for action in actions if action.group})
        return [
            action if not action.group or action.group in groups else action.model_copy(update={"group": ""})
            for action in actions
        ]


def _all_of(*conditions: ConditionBase | None) -> ConditionBase | None:
    return reduce(lambda one, other: one & other if one and other else one or other, conditions)


def _fits_the_other_date(changes: dict[str, Any]) -> ConditionBase | None:
    """Returns the condition on the stored date if only one of the dates changes."""
    start, end = changes.get("start_date"), changes.get("end_date")
    if start and "end_date" not in changes:
        return Attr("end_date").not_exists() | Attr("end_date").gte(format_timestamp(start))
    if end and "start_date" not in changes:
        return Attr("start_date").not_exists() | Attr("start_date").lte(format_timestamp(end))
    return None
