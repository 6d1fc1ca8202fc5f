"""Summaries, counts and pages of logged calls against a plain list of them."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.events.roll_up_inference_logs import roll_up_inference_logs
from shared.clock import new_id
from shared.dynamodb.table import Item, Table
from shared.inference_logs import store as inference_logs
from shared.inference_logs.store import SHARDS, InferenceLogs
from shared.models.base import Page
from shared.models.inference_log import MAX_TAGS, CallStatus, CallType, InferenceLog, LogFilters
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import LOGS_TABLE, create_logs_table
from tests.fixtures.emulator import emulated_aws
from tests.fixtures.inference_logs import call, stream_event
from tests.load.capacity import item_bytes

NOW = datetime(2026, 3, 15, 10, 37, 21, 123456, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
RETENTION = timedelta(days=90)
MIDNIGHT = datetime(2026, 3, 14, tzinfo=UTC)
JUST_NOW = NOW.replace(microsecond=123_000)


class Space:
    """One space's logs, and the calls that were put into it."""

    def __init__(self, resources: Resources) -> None:
        self.id = new_id()
        self.resources = resources
        self.logs: InferenceLogs = resources.inference_logs
        self.table = Table(boto3.client("dynamodb"), LOGS_TABLE)
        self.calls: list[InferenceLog] = []

    def record(self, *calls: InferenceLog) -> None:
        for each in calls:
            self.logs.record(self.id, each)
            self.calls.append(each)

    def rows(self) -> list[Item]:
        return [row for shard in range(SHARDS) for row in self.table.query(f"log#{self.id}#{shard}")]

    def roll_up(self, *batches: Sequence[Item]) -> None:
        for batch in batches or (self.rows(),):
            roll_up_inference_logs(stream_event(batch), self.resources)

    def expected(self, filters: LogFilters) -> list[InferenceLog]:
        """What a filter should find: newest first."""
        start = max(filters.start_date or NOW - RETENTION, NOW - RETENTION)
        return sorted(
            (
                each
                for each in self.calls
                if start <= each.created_at
                and (filters.end_date is None or each.created_at <= filters.end_date)
                and all(
                    getattr(filters, name) in (None, getattr(each, name))
                    for name in ("user", "model", "status", "type", "correlation_id")
                )
                and (filters.tag is None or filters.tag in each.tags)
            ),
            key=lambda each: each.id,
            reverse=True,
        )

    def walk(self, filters: LogFilters, page_size: int) -> list[InferenceLog]:
        """All pages, one after the other, each telling the same count and whether there are more."""
        found: list[InferenceLog] = []
        number, more = 1, True
        while more:
            page = self.page(filters, number, page_size)
            assert page.count == len(self.expected(filters))
            found += page.data
            number, more = number + 1, page.has_more
        return found

    def page(self, filters: LogFilters, number: int, page_size: int) -> Page[InferenceLog]:
        return self.logs.page(self.id, filters, number, page_size)

    def total_calls(self, **filters: Any) -> int:
        return self.logs.summary(self.id, LogFilters(**filters)).total_calls


@pytest.fixture(scope="module")
def emulator() -> Iterator[dict[str, str]]:
    with emulated_aws() as environment:
        yield environment


@pytest.fixture
def stores(emulator: dict[str, str], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resources]:
    """The emulator's table: moto copies and sorts a whole table at each transaction and query."""
    for name, value in emulator.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("dynamodb")
    create_logs_table(client)
    yield Resources(settings, clock=lambda: NOW)
    client.delete_table(TableName=LOGS_TABLE)


@pytest.fixture
def space(stores: Resources) -> Space:
    return Space(stores)


def fold(calls: Sequence[InferenceLog]) -> dict[str, Any]:
    microseconds = sum(round(each.latency_ms * 1000) for each in calls)
    return {
        "total_calls": len(calls),
        "success_rate": sum(each.status == CallStatus.SUCCESS for each in calls) / len(calls) if calls else 0,
        "avg_latency_ms": microseconds / (1000 * len(calls)) if calls else 0,
        "input_tokens": sum(each.input_tokens for each in calls),
        "output_tokens": sum(each.output_tokens for each in calls),
        "total_tokens": sum(each.total_tokens for each in calls),
        "model_usage": {each.model: sum(one.model == each.model for one in calls) for each in calls},
    }


USERS, MODELS, TAGS = ("ann", "bob", 'a"#1'), ("small", "large", "x#y/ü"), ("batch", "#", "night shift")


@st.composite
def moments(draw: st.DrawFn) -> datetime:
    """Any time of the period kept and a little before; often on, or one millisecond beside, an edge of a bucket."""
    whole = NOW.replace(microsecond=NOW.microsecond // 1000 * 1000)
    if draw(st.booleans()):
        unit = draw(st.sampled_from([MILLISECOND, timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)]))
        return whole - draw(st.integers(0, 93)) * unit
    back = draw(st.integers(0, 95 * 24 * 60)) if draw(st.booleans()) else draw(st.integers(0, 200))
    edge = whole.replace(second=0, microsecond=0) - timedelta(minutes=back)
    edge = edge.replace(minute=draw(st.sampled_from([0, edge.minute])), hour=draw(st.sampled_from([0, edge.hour])))
    return edge + draw(st.integers(-1, 1)) * MILLISECOND


calls = st.builds(
    call,
    moments(),
    user=st.sampled_from(USERS),
    model=st.sampled_from(MODELS),
    type=st.sampled_from(list(CallType)[:3]),
    status=st.sampled_from(CallStatus),
    tags=st.lists(st.sampled_from(TAGS), max_size=2, unique=True),
    correlation_id=st.sampled_from(["one", "two"]),
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    total_tokens=st.integers(0, 10**6),
    latency_ms=st.integers(0, 10**9).map(lambda microseconds: microseconds / 1000),
)


@st.composite
def filters(draw: st.DrawFn) -> LogFilters:
    def maybe(values: Sequence[Any]) -> Any:
        return draw(st.none() | st.sampled_from(values))

    bounds = sorted(draw(st.lists(moments(), min_size=2, max_size=2)))
    shift = timedelta(microseconds=draw(st.sampled_from([0, 1, 999])))
    return LogFilters(
        start_date=maybe([bounds[0] + shift]),
        end_date=maybe([bounds[1] + shift]),
        user=maybe(USERS),
        model=maybe(MODELS),
        status=maybe(list(CallStatus)),
        type=maybe(list(CallType)[:3]),
        tag=maybe(TAGS),
        correlation_id=draw(st.sampled_from([None, None, None, "one"])),
    )


def redelivered(rows: Sequence[Item], chance: random.Random) -> Iterator[list[Item]]:
    """Batches of rows in any order, some rows twice within a batch and some batches twice."""
    shuffled = [*rows, *chance.sample(rows, k=len(rows) // 2)]
    chance.shuffle(shuffled)
    while shuffled:
        size = chance.randint(1, 40)
        batch, shuffled = shuffled[:size], shuffled[size:]
        yield from [batch] * chance.choice([1, 2])


@pytest.mark.row("IL-2")
@given(
    logged=st.lists(calls, max_size=10),
    asked=st.lists(filters(), min_size=2, max_size=2),
    page_size=st.integers(1, 9),
    rows_at_once=st.sampled_from([0, 3, 300]),
    sparse=st.sampled_from([1, 20]),
    chance=st.randoms(use_true_random=False),
)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_summary_and_pages_equal_the_full_list_for_any_filter(
    stores: Resources,
    logged: list[InferenceLog],
    asked: list[LogFilters],
    page_size: int,
    rows_at_once: int,
    sparse: int,
    chance: random.Random,
) -> None:
    space = Space(stores)
    space.record(*logged)
    space.roll_up(*redelivered(space.rows(), chance))
    with mock.patch.multiple(inference_logs, ROWS_AT_ONCE=rows_at_once, SPARSE=sparse):
        for each in [LogFilters(), *asked]:
            expected = space.expected(each)
            in_summary = [call for call in expected if call.created_at <= (each.end_date or NOW)]
            summary = space.logs.summary(space.id, each)
            assert summary.model_dump(include=set(fold([]))) == fold(in_summary)
            assert space.walk(each, page_size) == expected


@pytest.mark.row("IL-1")
def test_a_call_counts_at_once_before_the_stream_has_told_of_it_and_only_once_after(space: Space) -> None:
    space.record(call(NOW - timedelta(milliseconds=123)), call(NOW - timedelta(seconds=119)))
    assert space.total_calls() == space.page(LogFilters(), 1, 10).count == 2
    space.roll_up()
    assert space.total_calls() == space.page(LogFilters(), 1, 10).count == 2


@pytest.mark.row("IL-2")
def test_rows_told_of_twice_in_other_company_and_out_of_order_count_once(space: Space) -> None:
    space.record(*(call(MIDNIGHT + timedelta(seconds=20 * number), tags=["a", "b"]) for number in range(40)))
    rows = space.rows()
    space.roll_up(rows[:15], rows[:15], rows[5:30], list(reversed(rows)), [*rows, *rows])
    assert space.total_calls() == space.page(LogFilters(tag="a"), 1, 1).count == 40
    assert space.page(LogFilters(user="ann", tag="b"), 1, 1).count == 40


def test_rows_of_several_spaces_that_are_told_of_together_count_in_their_own(space: Space, stores: Resources) -> None:
    other = Space(stores)
    other.record(call(MIDNIGHT))
    space.record(call(MIDNIGHT), call(MIDNIGHT))
    space.roll_up([*space.rows(), *other.rows()])
    assert (space.total_calls(), other.total_calls()) == (2, 1)


def test_rows_counted_by_another_delivery_just_before_count_once(space: Space) -> None:
    space.record(*(call(MIDNIGHT) for _ in range(10)))
    rows, rollups = space.rows(), space.logs.rollups
    transact = space.logs._table.transact

    def too_late(actions: Any) -> None:
        patched.side_effect = transact
        rollups.add(space.id, rows[3:])
        transact(actions)

    with mock.patch.object(space.logs._table, "transact", side_effect=too_late) as patched:
        rollups.add(space.id, rows)
    assert patched.call_count == 3
    assert space.total_calls() == 10


@pytest.mark.row("IL-2")
def test_both_bounds_are_inclusive_to_the_millisecond_and_finer_bounds_are_not_rounded_outwards(space: Space) -> None:
    first, last = MIDNIGHT + timedelta(hours=1, seconds=30), MIDNIGHT + timedelta(days=1, minutes=7, seconds=5)
    space.record(*(call(edge + MILLISECOND * offset) for edge in (first, last) for offset in (-1, 0, 1)))
    space.roll_up()
    microsecond = timedelta(microseconds=1)
    assert space.total_calls(start_date=first, end_date=last) == 4
    assert space.total_calls(start_date=first + microsecond, end_date=last - microsecond) == 2
    assert space.total_calls(start_date=first, end_date=first) == 1


def test_calls_past_their_retention_are_ignored_although_they_are_deleted_later(space: Space) -> None:
    oldest = NOW.replace(microsecond=124_000) - RETENTION
    space.record(call(oldest - MILLISECOND), call(oldest), call(oldest + MILLISECOND))
    space.roll_up()
    assert space.total_calls() == 2
    assert len(space.walk(LogFilters(start_date=NOW - 2 * RETENTION), 1)) == 2
    assert space.total_calls(end_date=oldest - MILLISECOND) == 0
    [row, *_] = space.rows()
    assert row["expires_at"] == pytest.approx((oldest + RETENTION).timestamp(), abs=2)


def test_rollups_outlive_the_last_row_they_count_and_then_go(space: Space) -> None:
    space.record(call(MIDNIGHT + timedelta(hours=23)))
    space.roll_up()
    found = boto3.client("dynamodb").scan(TableName=LOGS_TABLE)["Items"]
    expiries = {
        item["SK"]["S"].split("#")[0]: int(item["expires_at"]["N"])
        for item in found
        if not item["PK"]["S"].startswith("log_counted#")
    }
    day_end = MIDNIGHT + timedelta(days=1)
    assert expiries["day"] == expiries["hour"] == (day_end + RETENTION).timestamp()
    assert all(expiry >= (MIDNIGHT + timedelta(hours=23) + RETENTION).timestamp() for expiry in expiries.values())


def test_long_texts_names_and_many_tags_are_cut_and_still_found(space: Space) -> None:
    long = call(NOW, user="u" * 300, tags=[f"{n}" for n in range(40)], prompt="p" * 9_000, error="e" * 9_000)
    space.record(long)
    space.roll_up()
    [found] = space.page(LogFilters(user="u" * 200, tag="14"), 1, 1).data
    assert (len(found.tags), len(found.prompt or ""), len(found.error or "")) == (MAX_TAGS, 2_000, 2_000)


def test_calls_of_one_moment_are_spread_over_partitions_and_listed_in_their_order(space: Space) -> None:
    space.record(*(call(JUST_NOW) for _ in range(4 * SHARDS)))
    rows = space.rows()
    for name in ("PK", "by_user", "by_model"):
        assert sorted(Counter(row[name] for row in rows).values()) == [4] * SHARDS
    for each in (LogFilters(), LogFilters(user="ann"), LogFilters(type=CallType.CHAT)):
        assert space.walk(each, 3) == space.expected(each)


def test_calls_that_all_happen_to_lie_in_one_shard_are_found_nevertheless(space: Space) -> None:
    alike = [each for each in (call(JUST_NOW) for _ in range(16 * 30)) if each.id.endswith("0")]
    space.record(*alike)
    assert space.walk(LogFilters(), 21) == space.expected(LogFilters())


def test_texts_lie_apart_and_come_with_the_rows_that_are_shown(space: Space) -> None:
    told = call(JUST_NOW, prompt="p" * 2_000, answer="a" * 2_000, tags=["a", "b"])
    space.record(told, call(JUST_NOW - MILLISECOND, prompt=""), call(JUST_NOW - 2 * MILLISECOND))
    items = boto3.client("dynamodb").scan(TableName=LOGS_TABLE)["Items"]
    largest, second, *_ = sorted(map(item_bytes, items), reverse=True)
    assert largest > 4_000 > 1_024 > second
    for each in (LogFilters(), LogFilters(tag="b"), LogFilters(correlation_id="request-1")):
        assert space.walk(each, 2) == space.expected(each)
    space.logs.remove_all(space.id)
    assert boto3.client("dynamodb").scan(TableName=LOGS_TABLE)["Items"] == []


def test_a_call_without_tags_is_one_write_and_recording_it_again_changes_nothing(space: Space) -> None:
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
    """Counts what is read of the table: requests and items."""

    def __init__(self, client: Any) -> None:
        self.requests = self.items = 0
        client.meta.events.register("after-call.dynamodb.Query", self._count)
        client.meta.events.register("after-call.dynamodb.BatchGetItem", self._count)

    def _count(self, parsed: dict[str, Any], **_: Any) -> None:
        self.requests += 1
        self.items += len(parsed.get("Items", [])) + sum(map(len, parsed.get("Responses", {}).values()))


def put_directly(space: Space, count: int) -> None:
    """Calls spread evenly over 30 days with their rollups, without a stream's detours."""
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
    space.logs._table.put_all([{**key.values, **says, **asdict(totals)} for key, says, totals in sums])


@pytest.mark.row("IL-1")
def test_what_a_page_and_a_summary_read_does_not_grow_with_the_number_of_calls(stores: Resources) -> None:
    for size in (100, 800):
        reads = what_is_read(Space(stores), size)
        for name, (requests, items) in reads.items():
            assert requests <= 5 + 3 * SHARDS, f"{name} of {size}: five of rollups, and three stretches of each shard"
            assert items <= 400, (size, name)


@pytest.mark.row("IL-1")
def test_many_calls_of_the_last_minutes_are_counted_and_not_read(space: Space) -> None:
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
        assert space.walk(failed, 30) == space.expected(failed)


def what_is_read(space: Space, size: int) -> dict[str, tuple[int, int]]:
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
