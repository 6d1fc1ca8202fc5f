"""Helpers of the tests of inference logs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from hypothesis import strategies as st

from functions.events.roll_up_inference_logs import roll_up_inference_logs
from shared.clock import new_id
from shared.dynamodb.table import Item, Table
from shared.inference_logs.store import SHARDS, InferenceLogs
from shared.models.base import Page
from shared.models.inference_log import CallStatus, CallType, InferenceLog, LogFilters
from shared.resources import Resources
from tests.fixtures.aws import LOGS_TABLE
from tests.fixtures.inference_logs import call, stream_event

NOW = datetime(2026, 3, 15, 10, 37, 21, 123456, tzinfo=UTC)


MILLISECOND = timedelta(milliseconds=1)


RETENTION = timedelta(days=90)


class Space:
    """The logs of one space, with a list of its recorded calls."""

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
        """Returns the calls that a filter should find, newest first."""
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

    def read_every_page(self, filters: LogFilters, page_size: int) -> list[InferenceLog]:
        """Reads every page, checks its count, and returns the calls of all pages."""
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


USERS, MODELS, TAGS = ("ann", "bob", 'a"#1'), ("small", "large", "x#y/ü"), ("batch", "#", "night shift")


@st.composite
def moments(draw: st.DrawFn) -> datetime:
    """Generates a time in the retention period or shortly before it, often within a millisecond of a bucket's edge."""
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
