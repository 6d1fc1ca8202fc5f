"""Usage and reservations of a limit are exact with parallel, killed and late callers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.clock import new_id
from shared.dynamodb.table import Table
from shared.llm.limit_usage import (
    EPOCH_MINUTES,
    Amount,
    BudgetExceededError,
    LimitUsages,
    RateLimitedError,
    Reservation,
    Subject,
)
from shared.models.limits import NANO, LimitName, Limits, ModelPrice, SpaceLimits
from tests.fixtures.aws import TABLE, create_table
from tests.fixtures.emulator import emulated_aws

NOON = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_minutes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def usages(table: Table, clock: Clock) -> LimitUsages:
    return LimitUsages(table, clock)


def space(**limits: Any) -> Subject:
    return Subject.space(new_id(), SpaceLimits(space=Limits(**limits)))


@pytest.fixture(scope="module")
def emulated() -> Iterator[Table]:
    """Yields a table in another process, which executes one write after the other."""
    with emulated_aws() as environment:
        client = boto3.client(
            "dynamodb",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        create_table(client)
        yield Table(client, TABLE)


@pytest.mark.row("X-5")
@pytest.mark.parametrize(
    ("limits", "passing"),
    [
        ({"requests_per_minute": 10}, 10),
        ({"tokens_per_minute": 100}, 10),
        ({"tokens_per_day": 95}, 10),
        ({"tokens_per_month": 91}, 10),
        ({"cost_per_day": 0.0003}, 10),
        ({"concurrent_calls": 10}, 10),
        ({"concurrent_calls": 40, "tokens_per_day": 200, "requests_per_minute": 7}, 7),
    ],
    ids=str,
)
def test_a_limit_accepts_the_allowed_number_of_fifty_parallel_calls(
    emulated: Table, limits: dict[str, Any], passing: int
) -> None:
    subject, usages = space(**limits), LimitUsages(emulated, Clock())
    amount = Amount(requests=1, calls=1, tokens=10, cost=ModelPrice(input=3).cost(10, 0))

    def call(_: int) -> Reservation | None:
        try:
            return usages.reserve(Reservation(subject, amount))
        except (BudgetExceededError, RateLimitedError):
            return None

    with ThreadPoolExecutor(50) as pool:
        held = [each for each in pool.map(call, range(50)) if each]
        assert len(held) == passing
        list(pool.map(lambda each: usages.replace(each, Amount(tokens=9, cost=1)), held))
    measured = usages.usage(Subject.space(subject.place.pk.split("#")[1], ALL))
    assert measured[LimitName.TOKENS_PER_DAY].used == 9 * passing
    assert measured[LimitName.COST_PER_MONTH].used == passing / NANO
    assert {each.reserved for each in measured.values()} == {0}


ALL = SpaceLimits(space=Limits(**dict.fromkeys(map(str, LimitName), 10**9)))


@pytest.mark.row("X-5")
def test_a_refusal_names_the_limit_its_usage_and_its_reset(usages: LimitUsages) -> None:
    subject = space(tokens_per_month=100, cost_per_day=1)
    usages.replace(usages.reserve(Reservation(subject, Amount(1, 1, 40, 0))), Amount(tokens=120))
    with pytest.raises(BudgetExceededError) as refused:
        usages.reserve(Reservation(subject, Amount(1, 1, 1, 0)))
    assert refused.value.headers == {"Retry-After": str(12 * 3600)}
    for said in ("tokens_per_month", "the space", "120 of 100 are used", "0 are reserved", "2026-04-01T00:00:00"):
        assert said in refused.value.message


@pytest.mark.row("X-5")
def test_a_call_that_only_reservations_refuse_may_retry_after_one_second(usages: LimitUsages) -> None:
    subject = space(tokens_per_day=100)
    usages.reserve(Reservation(subject, Amount(1, 1, 100, 0)))
    with pytest.raises(BudgetExceededError, match="100 are reserved for calls") as refused:
        usages.reserve(Reservation(subject, Amount(1, 1, 1, 0)))
    assert refused.value.headers == {"Retry-After": "1"}


@pytest.mark.row("X-5")
@pytest.mark.parametrize(
    ("limit", "minutes"), [("requests_per_minute", 1), ("tokens_per_day", 12 * 60), ("cost_per_month", 12 * 60)]
)
def test_a_new_window_starts_at_zero(usages: LimitUsages, clock: Clock, limit: str, minutes: int) -> None:
    subject, amount = space(**{limit: 1}), Amount(1, 1, 1, NANO)
    usages.replace(usages.reserve(Reservation(subject, amount)), amount)
    clock.pass_minutes(minutes - 1)
    if minutes > 1:
        with pytest.raises(BudgetExceededError):
            usages.reserve(Reservation(subject, amount))
    clock.pass_minutes(1)
    usages.reserve(Reservation(subject, amount))


@pytest.mark.row("X-5")
def test_the_reservation_of_a_killed_process_expires(usages: LimitUsages, clock: Clock) -> None:
    subject = space(concurrent_calls=1, tokens_per_day=10)
    usages.reserve(Reservation(subject, Amount(1, 1, 10, 0)))
    clock.pass_minutes(EPOCH_MINUTES - 1)
    with pytest.raises(BudgetExceededError):
        usages.reserve(Reservation(subject, Amount(1, 1, 10, 0)))
    clock.pass_minutes(EPOCH_MINUTES + 1)
    late = usages.reserve(Reservation(subject, Amount(1, 1, 10, 0)))
    clock.pass_minutes(2 * EPOCH_MINUTES)
    usages.reserve(Reservation(subject, Amount(1, 1, 3, 0)))
    usages.replace(late, Amount(tokens=4))
    usage = usages.usage(subject)[LimitName.TOKENS_PER_DAY]
    assert (usage.used, usage.reserved) == (4, 3), "late usage counts too"


@pytest.mark.row("X-5", "EN-4")
def test_a_call_that_ends_after_its_reservation_expired_is_counted_once(usages: LimitUsages, clock: Clock) -> None:
    subject = space(concurrent_calls=2, tokens_per_day=100)
    late = usages.reserve(Reservation(subject, Amount(1, 1, 10, 0)))
    clock.pass_minutes(2 * EPOCH_MINUTES)
    for _ in range(2):  # the second write comes after a lost response
        usages.replace(usages.reserve(Reservation(subject, Amount(1, 1, 3, 0))), Amount(tokens=3))
        usages.replace(late, Amount(tokens=4))
    assert usages.usage(subject)[LimitName.TOKENS_PER_DAY].used == 3 + 4 + 3
    assert usages.usage(subject)[LimitName.CONCURRENT_CALLS].reserved == 0


def test_a_slow_clock_does_not_reopen_a_window(usages: LimitUsages, clock: Clock) -> None:
    subject = space(requests_per_minute=2)
    usages.reserve(Reservation(subject, Amount(1)))
    clock.pass_minutes(-1)
    usages.reserve(Reservation(subject, Amount(1)))
    with pytest.raises(RateLimitedError):
        usages.reserve(Reservation(subject, Amount(1)))


@pytest.mark.row("X-5")
def test_a_clock_that_is_a_day_ahead_does_not_block_later_calls(
    table: Table, usages: LimitUsages, clock: Clock
) -> None:
    one = space(requests_per_minute=3, tokens_per_day=100)
    usages.replace(usages.reserve(Reservation(one, Amount(requests=1, calls=1, tokens=10))), Amount(tokens=10))
    ahead = LimitUsages(table, lambda: clock.now + timedelta(days=1))
    ahead.replace(ahead.reserve(Reservation(one, Amount(requests=1, calls=1, tokens=10))), Amount(tokens=10))
    for _ in range(4):
        for _ in range(2):
            usages.replace(usages.reserve(Reservation(one, Amount(requests=1, calls=1, tokens=10))), Amount(tokens=10))
        clock.pass_minutes(1)
    found = usages.usage(one)
    assert (found[LimitName.REQUESTS_PER_MINUTE].used, found[LimitName.TOKENS_PER_DAY].reserved) == (0, 0)
    assert found[LimitName.TOKENS_PER_DAY].used == 90
    resets_at = found[LimitName.TOKENS_PER_DAY].resets_at
    assert resets_at is not None
    assert resets_at - clock.now < timedelta(days=1)


def test_a_limit_of_0_refuses_every_call(usages: LimitUsages) -> None:
    with pytest.raises(RateLimitedError):
        usages.reserve(Reservation(space(requests_per_minute=0), Amount(1)))


@dataclass
class Recount:
    """The expected values of an item, from a list of all calls."""

    minute: int = 0
    open: list[tuple[int, Reservation]] = field(default_factory=list)
    used: list[tuple[int, int]] = field(default_factory=list)

    def live(self) -> int:
        epoch = self.minute // EPOCH_MINUTES
        return sum(each.amount.tokens for minute, each in self.open if epoch - minute // EPOCH_MINUTES < 2)

    def used_in(self, name: LimitName, now: datetime) -> int:
        def window(moment: datetime) -> Any:
            day = (moment.year, moment.month, moment.day)
            return (*day, moment.hour, moment.minute) if name is LimitName.TOKENS_PER_MINUTE else day

        return sum(tokens for minute, tokens in self.used if window(_time(minute)) == window(now))


def _time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "reserve", "replace", "wait"]), st.integers(0, 50), st.integers(0, 40)),
    max_size=25,
)


@given(STEPS)
@hypothesis_settings(max_examples=25)
def test_usage_and_reservations_equal_a_recount_of_all_calls(emulated: Table, steps: list[Any]) -> None:
    clock = Clock(NOON + timedelta(hours=11, minutes=20))
    subject, usages, recount = space(tokens_per_minute=10**9, tokens_per_day=10**9), LimitUsages(emulated, clock), None
    recount = Recount()
    for step, tokens, other in steps:
        minute = int(clock().timestamp()) // 60
        if step == "wait":
            clock.pass_minutes(other)
        elif step == "reserve":
            recount.minute = minute
            recount.open.append((minute, usages.reserve(Reservation(subject, Amount(1, 1, tokens, 0)))))
        elif recount.open:
            _, reservation = recount.open.pop(other % len(recount.open))
            usages.replace(reservation, Amount(tokens=tokens))
            recount.used.append((recount.minute, tokens))
    usages.replace(usages.reserve(Reservation(subject, Amount(1, 1, 0, 0))), Amount())
    recount.minute = int(clock().timestamp()) // 60
    for name, usage in usages.usage(subject).items():
        assert usage.reserved == recount.live()
        assert usage.used == recount.used_in(name, clock())
