"""Rules of action groups."""

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import Idempotency, Repository
from shared.dynamodb.table import Table
from shared.insights.conditions import check_conditions
from shared.models.action_group import ActionGroup, ActionGroupCreate, ActionGroupUpdate
from shared.models.base import Deleted, Page
from shared.spaces.members import SpaceContext


class ActionGroupService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._groups = Repository(table, ActionGroup, kind="action_group", clock=clock)
        self._clock = clock

    def create(self, context: SpaceContext, request: ActionGroupCreate, idempotency: Idempotency | None) -> ActionGroup:
        """Creates a group. Raises ValidationFailedError for a condition that cannot be read."""
        check_conditions(request.conditions, "body.conditions")
        now = self._clock()
        group = ActionGroup(id=new_id(), created_at=now, updated_at=now, **request.model_dump())
        return self._groups.create(context.space_id, group, idempotency=idempotency)

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[ActionGroup]:
        return self._groups.list_after(context.space_id, after, limit)

    def get(self, context: SpaceContext, group_id: str) -> ActionGroup:
        return self._groups.get(context.space_id, group_id)

    def update(
        self, context: SpaceContext, group_id: str, request: ActionGroupUpdate, expected_version: int | None
    ) -> ActionGroup:
        """Updates a group. Raises ValidationFailedError as ``create`` does."""
        changes = request.changes()
        check_conditions(changes.get("conditions", []), "body.conditions")
        return self._groups.update(context.space_id, group_id, changes, expected_version=expected_version)

    def delete(self, context: SpaceContext, group_id: str, expected_version: int | None) -> Deleted:
        """Deletes a group. Its actions stay without a group, because they look their group up when they are read."""
        return self._groups.delete(context.space_id, group_id, expected_version=expected_version)
