"""Tests of filters, summaries and repeated deliveries of inference logs."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.dynamodb.table import Item
from shared.inference_logs import store as inference_logs
from shared.models.inference_log import CallStatus, InferenceLog, LogFilters
from shared.resources import Resources
from tests.fixtures.aws import LOGS_TABLE
from tests.fixtures.inference_logs import call
from tests.unit.inference_logs.helpers import MILLISECOND, NOW, RETENTION, Space, calls, filters

MIDNIGHT = datetime(2026, 3, 14, tzinfo=UTC)


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


def redelivered(rows: Sequence[Item], chance: random.Random) -> Iterator[list[Item]]:
    """Yields batches of rows in random order. Some rows and some batches come twice."""
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
            assert space.read_every_page(each, page_size) == expected


@pytest.mark.row("IL-1")
def test_a_call_counts_once_before_and_after_its_stream_record(space: Space) -> None:
    space.record(call(NOW - timedelta(milliseconds=123)), call(NOW - timedelta(seconds=119)))
    assert space.total_calls() == space.page(LogFilters(), 1, 10).count == 2
    space.roll_up()
    assert space.total_calls() == space.page(LogFilters(), 1, 10).count == 2


@pytest.mark.row("IL-2")
def test_repeated_rows_in_other_batches_and_orders_count_once(space: Space) -> None:
    space.record(*(call(MIDNIGHT + timedelta(seconds=20 * number), tags=["a", "b"]) for number in range(40)))
    rows = space.rows()
    space.roll_up(rows[:15], rows[:15], rows[5:30], list(reversed(rows)), [*rows, *rows])
    assert space.total_calls() == space.page(LogFilters(tag="a"), 1, 1).count == 40
    assert space.page(LogFilters(user="ann", tag="b"), 1, 1).count == 40


def test_rows_of_several_spaces_in_one_batch_count_in_their_own_space(space: Space, stores: Resources) -> None:
    other = Space(stores)
    other.record(call(MIDNIGHT))
    space.record(call(MIDNIGHT), call(MIDNIGHT))
    space.roll_up([*space.rows(), *other.rows()])
    assert (space.total_calls(), other.total_calls()) == (2, 1)


def test_rows_that_another_delivery_counts_first_count_once(space: Space) -> None:
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
def test_both_bounds_are_inclusive_and_finer_bounds_are_not_rounded_outwards(space: Space) -> None:
    first, last = MIDNIGHT + timedelta(hours=1, seconds=30), MIDNIGHT + timedelta(days=1, minutes=7, seconds=5)
    space.record(*(call(edge + MILLISECOND * offset) for edge in (first, last) for offset in (-1, 0, 1)))
    space.roll_up()
    microsecond = timedelta(microseconds=1)
    assert space.total_calls(start_date=first, end_date=last) == 4
    assert space.total_calls(start_date=first + microsecond, end_date=last - microsecond) == 2
    assert space.total_calls(start_date=first, end_date=first) == 1


def test_calls_older_than_the_retention_are_ignored_before_their_deletion(space: Space) -> None:
    oldest = NOW.replace(microsecond=124_000) - RETENTION
    space.record(call(oldest - MILLISECOND), call(oldest), call(oldest + MILLISECOND))
    space.roll_up()
    assert space.total_calls() == 2
    assert len(space.read_every_page(LogFilters(start_date=NOW - 2 * RETENTION), 1)) == 2
    assert space.total_calls(end_date=oldest - MILLISECOND) == 0
    [row, *_] = space.rows()
    assert row["expires_at"] == pytest.approx((oldest + RETENTION).timestamp(), abs=2)


def test_rollups_expire_after_the_last_row_that_they_count(space: Space) -> None:
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
