"""Create, read, update, delete and list the entities of one kind, the same way for every group.

Items of a kind live under ``PK = "<kind>#<space id>"`` and ``SK = <id>``. Ids are UUIDv7, so the sort key is the time
of creation and the newest-first list is one query from ``after`` on, at any depth and after deletions.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock, utc_now
from shared.dynamodb.table import (
    ConditionFailedError,
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    delete,
    put,
    repeat_on_conflict,
    update,
)
from shared.dynamodb.write_markers import WRITE_MARKER, as_written, has_write_marker, removal, write_marker
from shared.errors import ApiError, ConflictError, InvalidCursorError, NotFoundError, PreconditionFailedError
from shared.models.base import Deleted, Entity, Page

E = TypeVar("E", bound=Entity)

IDEMPOTENCY_WINDOW = timedelta(hours=24)

# Page lists find their place by counting: a counter for each 3.1 days (5 hexadecimal digits of the id's 48-bit
# millisecond clock) and for each 65.5 seconds (8 digits), so that page 10,000 costs about what page 1 does.
BUCKET_DIGITS = (5, 8)
# A counter of a kind is this many items, so that so many writers meet at one of them only now and then.
COUNTER_SHARDS = 16


@dataclass(frozen=True)
class Idempotency:
    """A client's promise that a repeated request is the same one: its key, whose it is, and the request's digest."""

    key: str
    user_id: str
    fingerprint: str

    @property
    def sort_key(self) -> str:
        return hashlib.sha256(f"{self.user_id}\n{self.key}".encode()).hexdigest()


@dataclass(frozen=True)
class Modification:
    """New values of an entity, and other writes of the same transaction."""

    values: dict[str, Any]
    also: Sequence[Write] = ()


class ConditionNotMetError(ConflictError):
    """The entity exists, but not in the state that the write asks for; ``current`` is the entity as it is."""

    current: Entity


def is_identifier(text: str) -> bool:
    """Returns whether this is an id as we make them: a UUID in its canonical spelling."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def cursor_id(after: str | None) -> str | None:
    """Returns the id that a list goes on after; absent, empty and the literal ``""`` mean the start.

    Raises InvalidCursorError for anything that is no id.
    """
    if after is None or after in ("", '""'):
        return None
    if not is_identifier(after):
        raise InvalidCursorError("after: must be the id of the last row you got; leave it out to start from the newest")
    return after


class Repository(Generic[E]):
    """The entities of one kind. ``paged`` kinds also keep the counters that page-number lists need."""

    def __init__(self, table: Table, model: type[E], *, kind: str, paged: bool = False, clock: Clock = utc_now) -> None:
        self.table = table
        self.kind = kind
        self._model = model
        self._paged = paged
        self._clock = clock

    def key(self, space_id: str, entity_id: str) -> Key:
        return Key(f"{self.kind}#{space_id}", entity_id)

    @property
    def _busy(self) -> str:
        return f"Too many changes to the same {self.kind.replace('_', ' ')} at the same time."

    def not_found(self) -> NotFoundError:
        return NotFoundError(f"There is no {self.kind.replace('_', ' ')} with this id in the space.")

    def create(
        self, space_id: str, entity: E, *, idempotency: Idempotency | None = None, also: Sequence[Write] = ()
    ) -> E:
        """Stores a new entity, counts it and carries out ``also`` in one transaction.

        With ``idempotency`` a repeated request returns the first one's entity. Raises ConflictError when the key was
        used for another request, or the error of an action in ``also``.
        """
        actions = [] if idempotency is None else [self._idempotency_write(space_id, entity, idempotency)]
        exists = ConflictError(f"This {self.kind} exists already.")
        actions += [self.put_write(space_id, entity, exists), *self.count_writes(space_id, entity.id, +1), *also]
        try:
            self.table.transact(actions)
        except TransactionFailedError as failed:
            if idempotency is None or failed.index != 0:
                raise
            return self._replay(space_id, idempotency)
        return entity

    def put_write(self, space_id: str, entity: E, error: ApiError | None = None) -> Write:
        """Returns the write that stores a new entity without counting it, for use within a transaction."""
        values = {name: getattr(entity, name) for name in type(entity).model_fields}
        return put(
            self.key(space_id, entity.id), {**values, WRITE_MARKER: write_marker()}, Attr("PK").not_exists(), error
        )

    def remember(self, space_id: str, entity: E, idempotency: Idempotency) -> E:
        """Makes repeats of a request that created nothing return ``entity``, as ``create`` does for a new one."""
        try:
            self.table.write(self._idempotency_write(space_id, entity, idempotency))
        except ConditionFailedError:
            return self._replay(space_id, idempotency)
        return entity

    def _idempotency_write(self, space_id: str, entity: E, idempotency: Idempotency) -> Write:
        now = self._clock()
        return put(
            self._idempotency_key(space_id, idempotency),
            {
                "fingerprint": idempotency.fingerprint,
                "entity": {name: getattr(entity, name) for name in type(entity).model_fields},
                "expires_at": int((now + IDEMPOTENCY_WINDOW).timestamp()),
            },
            Attr("PK").not_exists() | Attr("expires_at").lt(int(now.timestamp())),
        )

    def _idempotency_key(self, space_id: str, idempotency: Idempotency) -> Key:
        return Key(f"{self.kind}#{space_id}#idempotency", idempotency.sort_key)

    def answered(self, space_id: str, idempotency: Idempotency) -> E | None:
        """Returns the entity of the first request with this key, or ``None``.

        Raises ConflictError for another request.
        """
        record = self.table.get(self._idempotency_key(space_id, idempotency))
        if record is None or int(record["expires_at"]) < self._clock().timestamp():
            return None
        if record["fingerprint"] != idempotency.fingerprint:
            raise _other_request()
        return self._model.model_validate(record["entity"])

    def _replay(self, space_id: str, idempotency: Idempotency) -> E:
        first = self.answered(space_id, idempotency)
        if first is None:
            raise _other_request()
        return first

    def get(self, space_id: str, entity_id: str) -> E:
        """Raises NotFoundError, also for an id of another space."""
        item = self.table.get(self.key(space_id, entity_id)) if is_identifier(entity_id) else None
        if item is None:
            raise self.not_found()
        return self.load(item)

    def get_many(self, space_id: str, entity_ids: Iterable[str]) -> dict[str, E]:
        """Returns the existing entities, by id."""
        keys = [self.key(space_id, entity_id) for entity_id in entity_ids if is_identifier(entity_id)]
        return {key.sk: self.load(item) for key, item in self.table.get_many(keys).items()}

    def load(self, item: Item) -> E:
        return self._model.model_validate(item)

    def update_write(
        self,
        space_id: str,
        entity_id: str,
        changes: dict[str, Any],
        *,
        expected_version: int | None = None,
        condition: ConditionBase | None = None,
    ) -> Write:
        """Returns the write behind ``update``, for use within a transaction."""
        return update(
            self.key(space_id, entity_id),
            {"updated_at": self._clock(), WRITE_MARKER: write_marker(), **changes},
            add={"version": 1},
            condition=_existing(expected_version, condition),
        )

    def update(
        self,
        space_id: str,
        entity_id: str,
        changes: dict[str, Any],
        *,
        expected_version: int | None = None,
        condition: ConditionBase | None = None,
    ) -> E:
        """Sets ``changes`` (``None`` clears a field) in one conditional write; without changes it returns the entity.

        Raises NotFoundError, PreconditionFailedError when ``expected_version`` is not the current one, and
        ConditionNotMetError when ``condition`` does not hold.
        """
        if not is_identifier(entity_id):
            raise self.not_found()
        if not changes:
            entity = self.get(space_id, entity_id)
            if expected_version not in (None, entity.version):
                raise _changed_meanwhile()
            return entity
        changes = {**changes, WRITE_MARKER: write_marker()}
        action = self.update_write(space_id, entity_id, changes, expected_version=expected_version, condition=condition)
        try:
            item = self.table.write(action)
        except ConditionFailedError as failed:
            if not has_write_marker(failed.item, changes[WRITE_MARKER]):
                raise self.explain(failed.item, expected_version) from None
            item = failed.item
        return self.load(item or {})

    def modify(
        self,
        space_id: str,
        entity_id: str,
        decide: Callable[[E], Modification | None],
        *,
        expected_version: int | None = None,
        commit: Callable[[list[Write]], Any] | None = None,
    ) -> E:
        """Reads an entity, writes what ``decide`` makes of it, and returns it; ``None`` leaves it unchanged.

        Starts again when another writer was faster, so ``decide`` may run several times. ``commit`` carries out the
        writes; by default one transaction does. Raises NotFoundError, PreconditionFailedError when
        ``expected_version`` is not the current one, UnavailableError, and what ``decide`` raises.
        """

        def step() -> E:
            current = self.get(space_id, entity_id)
            if expected_version not in (None, current.version):
                raise _changed_meanwhile()
            modification = decide(current)
            if modification is None:
                return current
            values = {"updated_at": self._clock(), **modification.values}
            write = self.update_write(space_id, entity_id, values, expected_version=current.version)
            (commit or self.table.transact)([write, *modification.also])
            return current.model_copy(update={**values, "version": current.version + 1})

        return repeat_on_conflict(step, self._busy)

    def delete(
        self,
        space_id: str,
        entity_id: str,
        *,
        expected_version: int | None = None,
        condition: ConditionBase | None = None,
        also: Sequence[Write] = (),
    ) -> Deleted:
        """Removes an entity and reduces the count in one transaction. Raises as ``update`` does."""
        if not is_identifier(entity_id):
            raise self.not_found()
        key = self.key(space_id, entity_id)

        def step() -> Deleted:
            current = self.table.get(key)
            if current is None:
                raise self.not_found()
            actions = [
                delete(key, _existing(expected_version, condition) & as_written(current)),
                removal(current, self._clock),
                *self.count_writes(space_id, entity_id, -1),
            ]
            try:
                self.table.transact([*actions, *also])
            except TransactionFailedError as failed:
                if failed.index == 0 and failed.item and not has_write_marker(failed.item, current.get(WRITE_MARKER)):
                    raise
                raise self.explain(failed.item, expected_version) from None
            return Deleted(id=entity_id)

        return repeat_on_conflict(step, self._busy, (TransactionFailedError,))

    def remove_all(self, space_id: str) -> None:
        """Removes the entities of a partition that nobody can reach any more."""
        for pk in (f"{self.kind}#{space_id}", f"{self.kind}#{space_id}#count"):
            for item in list(self.table.query(pk, attributes=("SK",))):
                self.table.write(delete(Key(pk, item["SK"])))

    def explain(self, item: Item | None, expected_version: int | None) -> Exception:
        """Returns the error for ``item``, for which the condition of ``update_write`` does not hold."""
        if item is None:
            return self.not_found()
        if expected_version not in (None, item["version"]):
            return _changed_meanwhile()
        error = ConditionNotMetError(f"The {self.kind.replace('_', ' ')} is not in a state that allows this.")
        error.current = self.load(item)
        return error

    def count(self, space_id: str) -> int:
        shards = self.table.query(f"{self.kind}#{space_id}#count", condition=KeyCondition("SK").begins_with("total"))
        return sum(shard["items"] for shard in shards)

    def list_after(self, space_id: str, after: str | None, limit: int) -> Page[E]:
        """Returns the ``limit`` entities that follow ``after``, newest first. Raises InvalidCursorError."""
        last = cursor_id(after)
        condition = KeyCondition("SK").lt(last) if last is not None else None
        items = list(self.table.query(f"{self.kind}#{space_id}", condition=condition, limit=limit + 1))
        return self._page(space_id, items, limit)

    def list_page(self, space_id: str, page: int, page_size: int) -> Page[E]:
        """Returns the ``page``-th ``page_size`` entities, newest first; an empty page beyond the end."""
        condition, skip = self._seek(space_id, (page - 1) * page_size)
        items = list(self.table.query(f"{self.kind}#{space_id}", condition=condition, limit=skip + page_size + 1))
        return self._page(space_id, items[skip:], page_size)

    def _page(self, space_id: str, items: list[Item], limit: int) -> Page[E]:
        return Page(
            count=self.count(space_id),
            data=[self.load(item) for item in items[:limit]],
            has_more=len(items) > limit,
        )

    def _seek(self, space_id: str, skip: int) -> tuple[ConditionBase | None, int]:
        """Returns the start of a page: a sort key condition and the number of items to skip."""
        if not self._paged:
            raise TypeError(f"{self.kind} keeps no page counters: make its repository with paged=True")
        if skip == 0:
            return None, 0
        bucket = ""
        for digits in BUCKET_DIGITS:
            prefix = f"{digits}#{bucket}"
            counters = self.table.query(
                f"{self.kind}#{space_id}#count", condition=KeyCondition("SK").begins_with(prefix)
            )
            for counter in counters:
                if skip < counter["items"]:
                    bucket = counter["SK"].partition("#")[2]
                    break
                skip -= counter["items"]
            else:
                return KeyCondition("SK").lt(" "), 0  # beyond the end: nothing sorts before a blank
        return KeyCondition("SK").lt(f"{bucket}~"), skip

    def count_writes(self, space_id: str, entity_id: str, amount: int) -> list[Write]:
        """Returns the writes that add to the counters, for use within a transaction; of ``paged`` kinds, for this
        entity.
        """
        names = [total_counter(entity_id)]
        if self._paged:
            digits = entity_id.replace("-", "")
            names += [f"{length}#{digits[:length]}" for length in BUCKET_DIGITS]
        return [update(Key(f"{self.kind}#{space_id}#count", name), {}, add={"items": amount}) for name in names]


def total_counter(entity_id: str) -> str:
    """Returns the sort key of the counter that counts this entity; all that begin with ``total`` add up to the count.

    The digest spreads ids of any kind, and is the same for the write that adds as for the one that takes away.
    """
    return f"total#{zlib.crc32(entity_id.encode()) % COUNTER_SHARDS:02d}"


def _existing(expected_version: int | None, state: ConditionBase | None) -> ConditionBase:
    """Returns the condition of a write to an entity that must exist, be of a version, and be in a state."""
    condition: ConditionBase = Attr("PK").exists()
    if expected_version is not None:
        condition &= Attr("version").eq(expected_version)
    return condition if state is None else condition & state


def _other_request() -> ConflictError:
    return ConflictError(
        "This Idempotency-Key was used for another request. Send a new key, or repeat the request unchanged."
    )


def _changed_meanwhile() -> PreconditionFailedError:
    return PreconditionFailedError("The entity was changed since you read it. Get it again and use its new ETag.")
