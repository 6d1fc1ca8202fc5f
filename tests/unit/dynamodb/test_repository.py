"""Tests of a repository's lists, counters and conditional writes, compared with a plain list in memory."""

import random
from datetime import UTC, datetime
from uuid import UUID

import pytest
from boto3.dynamodb.conditions import Key as KeyCondition
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.clock import new_id, utc_now
from shared.dynamodb.repository import COUNTER_SHARDS, Idempotency, Repository
from shared.dynamodb.table import Key, Table, put
from shared.errors import ConflictError, InvalidCursorError, NotFoundError, PreconditionFailedError
from shared.models.base import Entity


class Note(Entity):
    text: str = ""


def note(text: str = "", *, note_id: str | None = None) -> Note:
    now = utc_now()
    return Note(id=note_id or new_id(), created_at=now, updated_at=now, text=text)


def id_at(milliseconds: int, tail: int) -> str:
    """Returns a UUIDv7 of a given moment."""
    return str(UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | tail))


@pytest.fixture
def notes(table: Table) -> Repository[Note]:
    return Repository(table, Note, kind="note", paged=True)


START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
SECOND, DAY = 1000, 86_400_000


@pytest.mark.row("C-7", "C-9")
@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("total", [0, 1, 6, 7])
def test_reading_every_page_yields_each_item_once_newest_first(notes: Repository[Note], limit: int, total: int) -> None:
    made = [notes.create("s1", note(str(i))).id for i in range(total)]
    notes.create("s2", note("another space"))

    seen, after = [], ""
    while True:
        page = notes.list_after("s1", after, limit)
        assert page.count == total
        seen += [each.id for each in page.data]
        assert page.has_more == (len(seen) < total)
        if not page.has_more:
            break
        after = page.data[-1].id
    assert seen == made[::-1]


@pytest.mark.row("C-7")
def test_a_list_continues_after_a_deleted_item(notes: Repository[Note]) -> None:
    made = [notes.create("s1", note()).id for _ in range(4)]
    notes.delete("s1", made[2])
    assert [each.id for each in notes.list_after("s1", made[2], 10).data] == [made[1], made[0]]


@pytest.mark.row("C-7")
@pytest.mark.parametrize("after", ["x", "123", "ABCDEF", "../..", "01a2081a-1610-752b-8cc0-d52dcf52e48"])
def test_an_invalid_cursor_is_refused(notes: Repository[Note], after: str) -> None:
    with pytest.raises(InvalidCursorError):
        notes.list_after("s1", after, 10)


@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.randoms(use_true_random=False), st.integers(0, 16), st.integers(1, 7))
def test_numbered_pages_have_the_same_items_as_a_list_in_memory(
    table: Table, randomness: random.Random, total: int, page_size: int
) -> None:
    space = new_id()
    notes = Repository(table, Note, kind="note", paged=True)
    moments = [START + randomness.choice([SECOND, 80 * SECOND, DAY, 9 * DAY]) * i for i in range(total)]
    alive = {id_at(moment, i) for i, moment in enumerate(moments)}
    for each in alive:
        notes.create(space, note(note_id=each))
    for each in randomness.sample(sorted(alive), total // 3):
        notes.delete(space, each)
        alive.discard(each)
    expected = sorted(alive, reverse=True)
    for number in range(1, len(expected) // page_size + 3):
        page = notes.list_page(space, number, page_size)
        begin = (number - 1) * page_size
        assert [each.id for each in page.data] == expected[begin : begin + page_size]
        assert page.has_more == (begin + page_size < len(expected))
        assert page.count == len(expected)


@pytest.mark.row("C-9")
def test_writers_spread_the_count_over_several_items(notes: Repository[Note], table: Table) -> None:
    made = [notes.create("s1", note()).id for _ in range(40)]
    for each in made[::3]:
        notes.delete("s1", each)

    shards = list(table.query("note#s1#count", condition=KeyCondition("SK").begins_with("total")))
    assert len(shards) > COUNTER_SHARDS / 2
    assert sum(shard["items"] for shard in shards) == notes.count("s1") == notes.list_after("s1", "", 1).count == 26


def test_the_count_includes_an_older_counter_in_a_single_item(notes: Repository[Note], table: Table) -> None:
    table.write(put(Key("note#s1#count", "total"), {"items": 5}))
    notes.delete("s1", notes.create("s1", note()).id)
    assert notes.count("s1") == 5


@pytest.mark.row("C-12")
def test_a_repeated_create_returns_the_first_item_and_another_body_conflicts(notes: Repository[Note]) -> None:
    promise = Idempotency("key", "alice", "digest")
    first = notes.create("s1", note("a"), idempotency=promise)
    again = notes.create("s1", note("a"), idempotency=promise)
    assert again == first
    assert notes.count("s1") == 1
    with pytest.raises(ConflictError):
        notes.create("s1", note("b"), idempotency=Idempotency("key", "alice", "other digest"))
    notes.create("s1", note("c"), idempotency=Idempotency("key", "bob", "digest"))
    assert notes.count("s1") == 2


@pytest.mark.row("C-13")
def test_only_one_of_two_updates_with_the_same_version_succeeds(notes: Repository[Note]) -> None:
    made = notes.create("s1", note("old"))
    assert notes.update("s1", made.id, {"text": "first"}, expected_version=1).version == 2
    with pytest.raises(PreconditionFailedError):
        notes.update("s1", made.id, {"text": "second"}, expected_version=1)
    assert notes.get("s1", made.id).text == "first"
    assert notes.update("s1", made.id, {"text": "third"}).text == "third"


@pytest.mark.row("C-14")
def test_a_deleted_item_is_not_found_listed_or_counted(notes: Repository[Note]) -> None:
    made = notes.create("s1", note())
    kept = notes.create("s1", note())
    notes.delete("s1", made.id)
    for attempt in (lambda: notes.get("s1", made.id), lambda: notes.delete("s1", made.id)):
        with pytest.raises(NotFoundError):
            attempt()
    page = notes.list_after("s1", "", 10)
    assert ([each.id for each in page.data], page.count) == ([kept.id], 1)


def test_an_update_does_not_restore_a_deleted_item(notes: Repository[Note], table: Table) -> None:
    made = notes.create("s1", note())
    notes.delete("s1", made.id)
    with pytest.raises(NotFoundError):
        notes.update("s1", made.id, {"text": "ghost"})
    assert table.get(Key("note#s1", made.id)) is None


def test_an_item_of_another_space_gives_the_same_error_as_an_unknown_item(notes: Repository[Note]) -> None:
    made = notes.create("s1", note())
    messages = []
    for space, item in (("s2", made.id), ("s2", new_id()), ("s1", "nonsense")):
        with pytest.raises(NotFoundError) as refused:
            notes.get(space, item)
        messages.append(str(refused.value))
    assert len(set(messages)) == 1
