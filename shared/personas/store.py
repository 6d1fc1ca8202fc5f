"""Stores personas, and an index by which uploads find known personas.

The index has one item for each name and birthdate under ``persona_key#<space>``. Its sort key is a digest of the
normalised name and the birthdate; its ``ids`` are the personas that share them. One transaction writes a persona and
its index item.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Idempotency, Repository
from shared.dynamodb.table import Key, Table, TransactionFailedError, Write, check, delete, put, repeat_on_conflict
from shared.errors import ConflictError, ContendedError
from shared.models.base import Deleted
from shared.models.persona import SAME_PERSON_LIMIT, Persona
from shared.text.comparison import comparable_name


def person_key(name: str, birthdate: str) -> str:
    """Returns the key that all personas of one person share."""
    return hashlib.sha256(f"{comparable_name(name)}\n{birthdate}".encode()).hexdigest()


class KeyChangedError(ContendedError):
    """Error raised when another request has changed the index item since it was read."""


@dataclass(frozen=True)
class Known:
    """The ids of the personas that share one key, oldest first."""

    key: Key
    ids: tuple[str, ...] = ()

    def write(self, ids: Sequence[str]) -> Write:
        """Returns the write that replaces the ids. It fails with KeyChangedError if the ids have changed."""
        if not ids:
            return delete(self.key, self._is_current, _key_changed())
        return put(self.key, {"ids": sorted(ids)}, self._is_current, _key_changed())

    def unchanged(self) -> Write:
        """Returns a check that fails with KeyChangedError if the ids have changed."""
        return check(self.key, self._is_current, _key_changed())

    @property
    def _is_current(self) -> ConditionBase:
        return Attr("ids").eq(list(self.ids)) if self.ids else Attr("PK").not_exists()

    def added(self, persona_id: str) -> Write:
        return self.write([*self.ids, persona_id])

    def removed(self, persona_id: str) -> Write:
        return self.write([each for each in self.ids if each != persona_id])


class Personas:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self.repository = Repository(table, Persona, kind="persona", clock=clock)
        self._table = table
        self._clock = clock

    def known(self, space_id: str, keys: Iterable[str]) -> dict[str, Known]:
        """Returns the personas of each key."""
        wanted = {key: Key(f"persona_key#{space_id}", key) for key in keys}
        found = self._table.get_many(list(wanted.values()))
        return {key: Known(item_key, tuple(found.get(item_key, {}).get("ids", ()))) for key, item_key in wanted.items()}

    def _known_of(self, space_id: str, persona: Persona) -> Known:
        key = person_key(persona.name, persona.birthdate)
        return self.known(space_id, [key])[key]

    def create(self, space_id: str, persona: Persona, idempotency: Idempotency | None) -> Persona:
        """Stores a persona. Raises ConflictError if too many personas share its name and birthdate."""

        def step() -> Persona:
            known = self._known_of(space_id, persona)
            check_room(known)
            return self.repository.create(space_id, persona, idempotency=idempotency, also=[known.added(persona.id)])

        return repeat_on_conflict(step, "Too many changes to the same persona in a moment.", (KeyChangedError,))

    def create_writes(self, space_id: str, personas: Sequence[Persona]) -> list[Write]:
        """Returns the writes that store and count new personas. The caller writes their index items."""
        if not personas:
            return []
        puts = [self.repository.put_write(space_id, persona) for persona in personas]
        return [*self.repository.count_writes(space_id, personas[0].id, len(personas)), *puts]

    def update(self, space_id: str, persona_id: str, changes: dict[str, Any], expected_version: int | None) -> Persona:
        """Updates a persona. Raises NotFoundError, PreconditionFailedError, and ConflictError as ``create`` does."""

        def step() -> Persona:
            current = self.repository.update(space_id, persona_id, {}, expected_version=expected_version)
            values = {**changes, "updated_at": self._clock()}
            changed = current.model_copy(update={**values, "version": current.version + 1})
            action = self.repository.update_write(space_id, persona_id, values, expected_version=current.version)
            self._table.transact([action, *self._moves(space_id, current, changed)])
            return changed

        return repeat_on_conflict(
            step,
            "Too many changes to the same persona in a moment.",
            (
                TransactionFailedError,
                KeyChangedError,
            ),
        )

    def _moves(self, space_id: str, current: Persona, changed: Persona) -> list[Write]:
        before, after = self._known_of(space_id, current), self._known_of(space_id, changed)
        if before.key == after.key:
            return []
        check_room(after)
        return [before.removed(current.id), after.added(current.id)]

    def delete(self, space_id: str, persona_id: str, expected_version: int | None) -> Deleted:
        """Deletes a persona. Raises the same errors as ``Repository.delete``."""

        def step() -> Deleted:
            current = self.repository.update(space_id, persona_id, {}, expected_version=expected_version)
            return self.repository.delete(
                space_id,
                persona_id,
                expected_version=expected_version,
                condition=Attr("version").eq(current.version),
                also=[self._known_of(space_id, current).removed(persona_id)],
            )

        return repeat_on_conflict(
            step,
            "Too many changes to the same persona in a moment.",
            (
                ConditionNotMetError,
                KeyChangedError,
            ),
        )


def check_room(known: Known) -> None:
    """Raises ConflictError if no further persona may share the key, because the size of an index item is limited."""
    if len(known.ids) >= SAME_PERSON_LIMIT:
        raise ConflictError(
            f"{SAME_PERSON_LIMIT} personas already have this name and birthdate. Change or delete one of them."
        )


def _key_changed() -> KeyChangedError:
    return KeyChangedError(
        "Another request has just changed the same persona. Try again.", headers={"Retry-After": "1"}
    )
