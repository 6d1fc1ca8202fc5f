"""Tests of the stored rows of inference logs, and of the number of items that a request reads."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from unittest import mock

import boto3
import pytest

from shared.dynamodb.table import Item
from shared.inference_logs import store as inference_logs
from shared.inference_logs.store import SHARDS
from shared.models.inference_log import MAX_TAGS, CallStatus, CallType, LogFilters
from shared.resources import Resources
from tests.fixtures.aws import LOGS_TABLE
from tests.fixtures.inference_logs import call
from tests.load.capacity import item_bytes
from tests.unit.inference_logs.helpers import MILLISECOND, MODELS, NOW, USERS, Space

JUST_NOW = NOW.replace(microsecond=123_000)


def test_a_call_with_long_texts_and_many_tags_is_shortened_and_found(space: Space) -> None:
    long = call(NOW, user="u" * 300, tags=[f"{n}" for n in range(40)], prompt="p" * 9_000, error="e" * 9_000)
    space.record(long)
    space.roll_up()
    [found] = space.page(LogFilters(user="u" * 200, tag="14"), 1, 1).data
    assert (len(found.tags), len(found.prompt or ""), len(found.error or "")) == (MAX_TAGS, 2_000, 2_000)


def test_calls_of_one_moment_are_spread_over_partitions_and_listed_in_order(space: Space) -> None:
    space.record(*(call(JUST_NOW) for _ in range(4 * SHARDS)))
    rows = space.rows()
    for name in ("PK", "by_user", "by_model"):
        assert sorted(Counter(row[name] for row in rows).values()) == [4] * SHARDS
    for each in (LogFilters(), LogFilters(user="ann"), LogFilters(type=CallType.CHAT)):
        assert space.read_every_page(each, 3) == space.expected(each)


def test_calls_in_a_single_shard_are_found(space: Space) -> None:
    alike = [each for each in (call(JUST_NOW) for _ in range(16 * 30)) if each.id.endswith("0")]
    space.record(*alike)
    assert space.read_every_page(LogFilters(), 21) == space.expected(LogFilters())


def test_texts_are_stored_in_other_items_and_returned_with_their_rows(space: Space) -> None:
    long = call(JUST_NOW, prompt="p" * 2_000, answer="a" * 2_000, tags=["a", "b"])
    space.record(long, call(JUST_NOW - MILLISECOND, prompt=""), call(JUST_NOW - 2 * MILLISECOND))
    items = boto3.client("dynamodb").scan(TableName=LOGS_TABLE)["Items"]
    largest, second, *_ = sorted(map(item_bytes, items), reverse=True)
    assert largest > 4_000 > 1_024 > second
    for each in (LogFilters(), LogFilters(tag="b"), LogFilters(correlation_id="request-1")):
        assert space.read_every_page(each, 2) == space.expected(each)
    space.logs.remove_all(space.id)
    assert boto3.client("dynamodb").scan(TableName=LOGS_TABLE)["Items"] == []


def test_a_call_without_tags_needs_one_write_and_counts_once(space: Space) -> None:
    requests: list[str] = []
    space.logs._table._client.meta.events.register(
        "before-call.dynamodb", lambda model, **_: requests.append(model.name)
    )
    once = call(NOW)
    space.record(once)
    assert requests == ["PutItem"]
    space.logs.record(space.id, once)
    assert space.total_calls() == 1


class Reads:
    """A counter of the requests and items that are read from the table."""

    def __init__(self, client: Any) -> None:
        self.requests = self.items = 0
        client.meta.events.register("after-call.dynamodb.Query", self._count)
        client.meta.events.register("after-call.dynamodb.BatchGetItem", self._count)

    def _count(self, parsed: dict[str, Any], **_: Any) -> None:
        self.requests += 1
        self.items += len(parsed.get("Items", [])) + sum(map(len, parsed.get("Responses", {}).values()))


def put_directly(space: Space, count: int) -> None:
    """Stores calls of 30 days with their rollups directly, because the stream takes longer."""
    step = timedelta(days=30) / count
    rows: list[Item] = []
    for number in range(count):
        each = call(
            NOW - number * step,
            user=USERS[number % 3],
            model=MODELS[number % 2],
            status="error" if number % 50 == 0 else "success",
        )
        rows += space.logs.items(space.id, each)
    space.logs._table.put_all(rows)
    sums = space.logs.rollups.sums(space.id, rows)
    space.logs._table.put_all([{**key.values, **labels, **asdict(totals)} for key, labels, totals in sums])


@pytest.mark.row("IL-1")
def test_pages_and_summaries_do_not_read_more_items_for_more_calls(stores: Resources) -> None:
    for size in (100, 800):
        reads = count_reads(Space(stores), size)
        for name, (requests, items) in reads.items():
            assert requests <= 5 + 3 * SHARDS, (
                f"{name} of {size} calls: more than five requests for rollups and three for each shard"
            )
            assert items <= 400, (size, name)


@pytest.mark.row("IL-1")
def test_recent_calls_are_counted_without_reading_all_their_rows(space: Space) -> None:
    made = [call(JUST_NOW - number * MILLISECOND, status="error" if number % 3 else "success") for number in range(90)]
    space.calls = made
    space.logs._table.put_all([item for each in made for item in space.logs.items(space.id, each)])
    reads = Reads(space.logs._table._client)
    failed = LogFilters(status=CallStatus.ERROR)
    with mock.patch.multiple(inference_logs, ROWS_AT_ONCE=12):
        for each in (LogFilters(), LogFilters(user="ann")):
            reads.items = 0
            page = space.page(each, 1, 5)
            assert (page.count, page.data) == (90, space.expected(each)[:5])
            assert reads.items < 60
        assert space.read_every_page(failed, 30) == space.expected(failed)


def count_reads(space: Space, size: int) -> dict[str, tuple[int, int]]:
    put_directly(space, size)
    reads = Reads(space.logs._table._client)

    def count(ask: Callable[[], object]) -> tuple[int, int]:
        reads.requests = reads.items = 0
        ask()
        return reads.requests, reads.items

    month = LogFilters(start_date=NOW - timedelta(days=30))
    return {
        "summary": count(lambda: space.logs.summary(space.id, month)),
        "first page": count(lambda: space.page(LogFilters(), 1, 20)),
        "last page": count(lambda: space.page(LogFilters(), size // 20, 20)),
        "page of a user": count(lambda: space.page(LogFilters(user="ann"), 2, 20)),
        "page of a status": count(lambda: space.page(LogFilters(status=CallStatus.ERROR), 1, 4)),
    }
