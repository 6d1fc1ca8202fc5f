"""Chats and their turns: a turn is an item of its own, so that adding one costs the same at any length of the chat."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.large_values import LargeValues
from shared.dynamodb.repository import Idempotency, Repository, cursor_id
from shared.dynamodb.searches import SEARCHED_AT_ONCE, search
from shared.dynamodb.table import Item, Key, Table, TransactionFailedError, Write, put
from shared.errors import ConflictError
from shared.models.base import Deleted, SearchedPage
from shared.models.chat import Chat, ChatCompletion, Message

ANSWER_KEPT_FOR = timedelta(hours=24)
TURNS_AT_ONCE = 500
_LISTED = tuple(name for name in (*Chat.model_fields, "PK", "SK") if name != "last_response")


class ChatPage(SearchedPage[Chat]):
    """A page of chats."""


class StoredChat(Chat):
    """``generation`` counts how often all messages were replaced; only turns of the current one are read."""

    generation: int = 0


@dataclass(frozen=True)
class Turn:
    """What one completion adds to a chat, and the answer that a repeated request is given."""

    chat: StoredChat
    is_new: bool
    messages: Sequence[Message]
    answer: ChatCompletion
    idempotency: Idempotency | None = None
    # Whether the guard accepted all of its messages.
    is_judged: bool = False
    # What else is written with it.
    also: Sequence[Write] = ()


class Chats:
    def __init__(self, table: Table, values: LargeValues, clock: Clock = utc_now) -> None:
        self._table = table
        self._values = values
        self._clock = clock
        self._chats = Repository(table, StoredChat, kind="chat", clock=clock)
        self.purges = CleanupList(table, "chat", clock)

    def get(self, space_id: str, chat_id: str) -> StoredChat:
        """Returns the chat without its messages. Raises NotFoundError."""
        return self._chats.get(space_id, chat_id)

    def messages(self, space_id: str, chat: StoredChat) -> list[Message]:
        """Returns all messages of the chat, in order."""
        turns = self._table.query(
            _turns(space_id, chat.id),
            condition=KeyCondition("SK").begins_with(_generation(chat.generation)),
            newest_first=False,
        )
        return [
            Message.model_validate(each).judged(is_judged=turn.get("is_judged", False))
            for turn in turns
            for each in self._values.load(turn["messages"])
        ]

    def list_after(self, space_id: str, after: str, limit: int, name: str) -> ChatPage:
        """Returns chats without messages, newest first. ``name`` is any part of the name, in upper or lower case."""
        if not name:
            page = self._chats.list_after(space_id, after, limit)
            last_id = page.data[-1].id if page.has_more else None
            return ChatPage(
                count=page.count, data=[_listed(chat) for chat in page.data], has_more=page.has_more, next_after=last_id
            )
        last, part = cursor_id(after), name.casefold()
        older = KeyCondition("SK").lt(last) if last is not None else None
        read = partial(self._table.query, f"chat#{space_id}")

        def matches(item: Item) -> bool:
            return part in item["name"].casefold()

        found = search(partial(read, condition=older, attributes=_LISTED), matches, limit)
        newest = list(read(limit=SEARCHED_AT_ONCE + 1, attributes=("name",)))
        return ChatPage(
            count=sum(map(matches, newest[:SEARCHED_AT_ONCE])),
            data=[_listed(self._chats.load(item)) for item in found.items],
            has_more=found.has_more,
            next_after=found.next_after,
            count_capped=len(newest) > SEARCHED_AT_ONCE,
        )

    def answered(self, space_id: str, idempotency: Idempotency) -> ChatCompletion | None:
        """Returns the answer to the first request with this key, if there was one.

        Raises ConflictError for another body, and NotFoundError if the chat is deleted.
        """
        record = self._table.get(_idempotency_key(space_id, idempotency))
        if record is None or int(record["expires_at"]) < self._clock().timestamp():
            return None
        if record["fingerprint"] != idempotency.fingerprint:
            raise ConflictError(
                "This Idempotency-Key was used for another request. Send a new key, or repeat the request unchanged."
            )
        self._chats.get(space_id, record["chat_id"])
        return ChatCompletion.model_validate(self._values.load(record["answer"]))

    def append(self, space_id: str, turn: Turn) -> ChatCompletion:
        """Stores a turn, and its chat if that is new, all or nothing.

        A repeated request gets the first one's answer.
        """
        now = self._clock()
        actions: list[Write] = []
        if turn.idempotency is not None:
            actions += self._remember(space_id, turn, turn.idempotency, now)
        if turn.messages:
            actions += self._turn(space_id, turn.chat, turn.messages, is_judged=turn.is_judged)
        actions += turn.also
        try:
            if turn.is_new:
                self._chats.create(space_id, turn.chat, also=actions)
            else:
                grown = self._chats.update_write(space_id, turn.chat.id, {}, condition=_is_current(turn.chat))
                self._table.transact([*actions, grown])
        except TransactionFailedError as failed:
            first = self.answered(space_id, turn.idempotency) if turn.idempotency else None
            if first is None:
                raise self._chats.explain(failed.item, None) from None
            return first
        return turn.answer

    def replace(
        self,
        space_id: str,
        chat: StoredChat,
        messages: Sequence[Message],
        changes: dict[str, Any],
        expected: int | None,
    ) -> StoredChat:
        """Replaces all messages and makes other changes in one transaction. Raises as ``update`` does."""
        following = chat.model_copy(update={"generation": chat.generation + 1})
        change = self._chats.update_write(
            space_id,
            chat.id,
            {**changes, "generation": following.generation},
            expected_version=expected,
            condition=_is_current(chat),
        )
        try:
            note = self.purges.note(space_id, chat.id)
            self._table.transact([change, *self._turn(space_id, following, messages), note])
        except TransactionFailedError as failed:
            raise self._chats.explain(failed.item, expected) from None
        self.clean(space_id, chat.id)
        return self.get(space_id, chat.id)

    def update(self, space_id: str, chat_id: str, changes: dict[str, Any], expected: int | None) -> StoredChat:
        return self._chats.update(space_id, chat_id, changes, expected_version=expected)

    def delete(self, space_id: str, chat_id: str, expected: int | None) -> Deleted:
        note = self.purges.note(space_id, chat_id)
        deleted = self._chats.delete(space_id, chat_id, expected_version=expected, also=[note])
        self.clean(space_id, chat_id)
        return deleted

    def clean(self, space_id: str, chat_id: str) -> None:
        """Removes the turns that nobody can read any more, and all objects of a deleted chat. Safe to repeat."""
        with self.purges.settling(chat_id):
            chat = self._chats.get_many(space_id, [chat_id]).get(chat_id)
            current = None if chat is None else KeyCondition("SK").lt(_generation(chat.generation))
            objects = set(self._values.keys(_folder(space_id, chat_id)))
            pk = _turns(space_id, chat_id)
            # Only the keys are read, because turns may be large and many.
            while turns := list(self._table.query(pk, condition=current, attributes=("SK",), limit=TURNS_AT_ONCE)):
                for turn in turns:
                    key = _object_key(space_id, chat_id, turn["SK"].partition("#")[2])
                    if key in objects:
                        self._values.remove(key)
                self._table.delete_all([Key(pk, turn["SK"]) for turn in turns])
            if chat is None:
                for key in self._values.keys(_folder(space_id, chat_id)):
                    self._values.remove(key)

    def _turn(
        self, space_id: str, chat: StoredChat, messages: Sequence[Message], *, is_judged: bool = False
    ) -> list[Write]:
        turn_id = new_id()
        dumped = [message.model_dump(mode="json", exclude_none=True) for message in messages]
        key = Key(_turns(space_id, chat.id), f"{_generation(chat.generation)}{turn_id}")
        kept, also = self._values.keep(space_id, dumped, _object_key(space_id, chat.id, turn_id), key)
        return [put(key, {"messages": kept, **({"is_judged": True} if is_judged else {})}), *also]

    def _remember(self, space_id: str, turn: Turn, idempotency: Idempotency, now: datetime) -> list[Write]:
        key = _idempotency_key(space_id, idempotency)
        name = _object_key(space_id, turn.chat.id, f"answer-{new_id()}")
        kept, also = self._values.keep(space_id, turn.answer.model_dump(mode="json"), name, key)
        values = {
            "fingerprint": idempotency.fingerprint,
            "answer": kept,
            "chat_id": turn.chat.id,
            "expires_at": int((now + ANSWER_KEPT_FOR).timestamp()),
        }
        unused = Attr("PK").not_exists() | Attr("expires_at").lt(int(now.timestamp()))
        return [put(key, values, unused), *also]


def _listed(chat: StoredChat) -> Chat:
    return chat.model_copy(update={"last_response": None})


def _is_current(chat: StoredChat) -> ConditionBase:
    """Returns the condition that nobody else has replaced the messages."""
    return Attr("generation").eq(chat.generation)


def _folder(space_id: str, chat_id: str) -> str:
    return f"spaces/{space_id}/chats/{chat_id}/"


def _object_key(space_id: str, chat_id: str, name: str) -> str:
    return f"{_folder(space_id, chat_id)}{name}.json"


def _turns(space_id: str, chat_id: str) -> str:
    return f"chat_turn#{space_id}#{chat_id}"


def _generation(number: int) -> str:
    return f"{number:08}#"


def _idempotency_key(space_id: str, idempotency: Idempotency) -> Key:
    return Key(f"chat#{space_id}#idempotency", idempotency.sort_key)
