"""Experts and all their versions; what an expert brings lies with the version, the expert names the current one."""

from collections.abc import Iterable, Sequence
from typing import Any

from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.large_values import LargeValues
from shared.dynamodb.repository import Idempotency, Repository
from shared.dynamodb.table import Item, Key, Table, TransactionFailedError, Write, put
from shared.models.base import Deleted, Entity, Page
from shared.models.expert import Expert, ExpertVersion

EXPERTS_LIMIT = 500
_CONTENT = ("context", "file_context", "tools")


class StoredExpert(Entity):
    """Without what it brings, so that a list of experts stays small."""

    description: str
    name: str
    content: dict[str, Any]
    version_number: int = 1


class Experts:
    def __init__(self, table: Table, values: LargeValues, clock: Clock = utc_now) -> None:
        self._table = table
        self._values = values
        self._clock = clock
        self._experts = Repository(table, StoredExpert, kind="expert", clock=clock)

    def create(self, space_id: str, expert: Expert, idempotency: Idempotency | None) -> Expert:
        stored, also = self._stored(space_id, expert)
        version = self._version(space_id, stored)
        return self._load(self._experts.create(space_id, stored, idempotency=idempotency, also=[version, *also]))

    def get(self, space_id: str, expert_id: str) -> Expert:
        """Raises NotFoundError."""
        return self._load(self._experts.get(space_id, expert_id))

    def get_many(self, space_id: str, expert_ids: Iterable[str]) -> dict[str, Expert]:
        """Returns the existing experts, by id."""
        found = self._experts.get_many(space_id, expert_ids)
        return {expert_id: self._load(stored) for expert_id, stored in found.items()}

    def list_all(self, space_id: str) -> list[Expert]:
        """Returns the newest 500 experts without their large values, which ``get`` loads."""
        items = self._table.query(f"expert#{space_id}", limit=EXPERTS_LIMIT)
        return [_without_content(self._experts.load(item)) for item in items]

    def list_after(self, space_id: str, after: str, limit: int) -> Page[Expert]:
        page = self._experts.list_after(space_id, after, limit)
        return Page(count=page.count, data=[self._load(each) for each in page.data], has_more=page.has_more)

    def update(self, space_id: str, expert: Expert, expected_version: int | None) -> Expert:
        """Stores a changed expert as its next version; ``expert.version`` is the one that it was made from.

        Raises NotFoundError, PreconditionFailedError, and ConditionNotMetError when somebody else was faster.
        """
        following = expert.model_copy(update={"version_number": expert.version_number + 1})
        stored, also = self._stored(space_id, following)
        changes = {name: getattr(stored, name) for name in ("description", "name", "content", "version_number")}
        update = self._experts.update_write(space_id, expert.id, changes, expected_version=expert.version)
        try:
            self._table.transact([update, self._version(space_id, stored), *also])
        except TransactionFailedError as failed:
            raise self._experts.explain(failed.item, expected_version) from None
        return self.get(space_id, expert.id)

    def delete(self, space_id: str, expert_id: str, expected_version: int | None) -> Deleted:
        """Deletes an expert. Its versions stay, because chats name those that they used."""
        return self._experts.delete(space_id, expert_id, expected_version=expected_version)

    def versions(self, space_id: str, expert_id: str, before: int | None, limit: int) -> Page[ExpertVersion]:
        """Returns the versions before a number, newest first. Raises NotFoundError."""
        current = self.get(space_id, expert_id)
        condition = KeyCondition("SK").lt(_number(before)) if before is not None else None
        items = list(self._table.query(_versions(space_id, expert_id), condition=condition, limit=limit + 1))
        data = [self._load_version(expert_id, item) for item in items[:limit]]
        return Page(count=current.version_number, data=data, has_more=len(items) > limit)

    def _stored(self, space_id: str, expert: Expert) -> tuple[StoredExpert, Sequence[Write]]:
        content = expert.model_dump(mode="json", include=set(_CONTENT))
        place = Key(_versions(space_id, expert.id), _number(expert.version_number))
        key = f"spaces/{space_id}/experts/{expert.id}/{new_id()}.json"
        kept, also = self._values.keep(space_id, content, key, place)
        fields = expert.model_dump(exclude={*_CONTENT, "version"})
        return StoredExpert.model_validate({**fields, "content": kept}), also

    def _version(self, space_id: str, stored: StoredExpert) -> Write:
        values: Item = {
            "created_at": self._clock(),
            "description": stored.description,
            "name": stored.name,
            "content": stored.content,
            "version_number": stored.version_number,
        }
        return put(Key(_versions(space_id, stored.id), _number(stored.version_number)), values)

    def _load(self, stored: StoredExpert) -> Expert:
        expert = _without_content(stored)
        content = self._values.load(stored.content)
        return Expert.model_validate({**expert.model_dump(), **content, "version": stored.version})

    def _load_version(self, expert_id: str, item: Item) -> ExpertVersion:
        return ExpertVersion.model_validate({**item, **self._values.load(item["content"]), "id": expert_id})


def _without_content(stored: StoredExpert) -> Expert:
    fields = {name: getattr(stored, name) for name in StoredExpert.model_fields if name != "content"}
    return Expert.model_validate(fields)


def _versions(space_id: str, expert_id: str) -> str:
    return f"expert_version#{space_id}#{expert_id}"


def _number(version_number: int) -> str:
    return f"{version_number:010}"
