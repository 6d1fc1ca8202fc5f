"""Fixtures of the tests of webhook endpoints."""

from collections.abc import Iterator

import pytest

from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.audit import Stream, watch_table
from tests.fixtures.clocks import MovableClock
from tests.fixtures.webhooks import FakeSqs, Post, Receiver, received


@pytest.fixture
def sqs(movable_clock: MovableClock) -> FakeSqs:
    return FakeSqs(movable_clock)


@pytest.fixture
def resources(aws: None, settings: Settings, movable_clock: MovableClock, sqs: FakeSqs) -> Resources:
    return Resources(
        settings.model_copy(update={"webhook_queue_url": "https://sqs.test/queue"}), movable_clock, sqs=sqs
    )


@pytest.fixture
def post(resources: Resources, clock: MovableClock, sqs: FakeSqs) -> Post:
    watch_table()
    return Post(resources, clock, sqs, Stream())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with received(Receiver()) as receiver:
        yield receiver
