"""Checks what policies name: actions, and groups of actions."""

from collections.abc import Iterator

from shared.clock import Clock
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import Detail, ValidationFailedError
from shared.models.action import Action
from shared.models.action_group import ActionGroup
from shared.models.insight import ContactExemptions, ContactLimit

_KINDS = {"action": "there is no such action; GET /actions lists them",
          "group": "there is no such action group; GET /action-groups lists them"}  # fmt: skip


class PolicyNames:
    """The actions and groups of a space that the limits and exemptions of a policy may name."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._actions = Repository(table, Action, kind="action", clock=clock)
        self._groups = Repository(table, ActionGroup, kind="action_group", clock=clock)

    def require_known(
        self, space_id: str, limits: list[ContactLimit], exempt: ContactExemptions | None, field_path: str
    ) -> None:
        """Raises ValidationFailedError if a limit or an exemption names an action or a group that does not exist."""
        named = list(_named(limits, exempt))
        ids = {kind: {each for _, other, each in named if other == kind} for kind in _KINDS}
        known = {
            "action": self._actions.get_many(space_id, ids["action"]).keys(),
            "group": self._groups.get_many(space_id, ids["group"]).keys(),
        }
        details = [
            Detail(f"{field_path}.{place}", _KINDS[kind]) for place, kind, each in named if each not in known[kind]
        ]
        if details:
            raise ValidationFailedError(f"{details[0].field}: {details[0].message}", details)


def _named(limits: list[ContactLimit], exempt: ContactExemptions | None) -> Iterator[tuple[str, str, str]]:
    """Returns the place, the kind and the id of each action and group that limits and exemptions name."""
    for index, limit in enumerate(limits):
        if limit.action_id:
            yield f"contact_limits[{index}].action_id", "action", limit.action_id
        if limit.group:
            yield f"contact_limits[{index}].group", "group", limit.group
    for index, action_id in enumerate(exempt.actions if exempt else ()):
        yield f"exempt.actions[{index}]", "action", action_id
    for index, group in enumerate(exempt.groups if exempt else ()):
        yield f"exempt.groups[{index}]", "group", group
