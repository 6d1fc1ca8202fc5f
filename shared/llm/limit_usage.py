"""Stores the use of language model limits: one item for each space, user and API key.

Before a call, one conditional write reserves the most that the call can use. At its end, the call replaces the
reservation with its real use. A counter is the sum of the use in its window and the current reservations. A call may
begin while the counter is below the limit, so only the last call can exceed the limit, by at most its own use.

Each reservation has an id and is an attribute of the item: ``held#<id>``. A write that comes twice, because its
response was lost, finds its own result and changes nothing.

Windows are minutes, days and months in UTC. A reservation expires if its process dies before the call ends: only
reservations of the last two epochs count, and an epoch is longer than any call. A call that reads an item with an
earlier minute starts the new windows and turns old reservations into ``expired#<id>``, for a call that ends late.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import and_
from typing import Self

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.clock import Clock, utc_now
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, put, repeat_on_conflict, update
from shared.errors import ApiError
from shared.models.base import format_timestamp
from shared.models.limits import COSTS, NANO, LimitName, Limits, LimitUsage, SpaceLimits

MINUTE = timedelta(minutes=1)
# Correct clocks differ by less. An item that is further in the future has the time of a wrong clock and is reset.
SKEW_MINUTES = 10
# The longest completions are streamed for 15 minutes.
EPOCH_MINUTES = 16
# The longest window is a month.
KEPT = timedelta(days=62)
_SORT_KEY = "usage"
_HELD = "held#"
_EXPIRED = "expired#"
# Reservations and marks of expired reservations stay for so many epochs.
_EPOCHS = 2
# The unit of each counter and of its reservations.
_UNITS = {
    LimitName.COST_PER_MONTH: "cost",
    LimitName.COST_PER_DAY: "cost",
    LimitName.TOKENS_PER_MONTH: "tokens",
    LimitName.TOKENS_PER_DAY: "tokens",
    LimitName.TOKENS_PER_MINUTE: "tokens",
    LimitName.CONCURRENT_CALLS: "calls",
}


class BudgetExceededError(ApiError):
    """Error raised when a budget of a day or a month is used up."""

    status = 429
    code = "budget_exceeded"


class RateLimitedError(ApiError):
    """Error raised for too many calls or tokens in a minute, or too many calls at the same time."""

    status = 429
    code = "rate_limited"


@dataclass(frozen=True)
class Subject:
    """The owner of limits. ``name`` appears in messages to users."""

    name: str
    limits: Limits
    place: Key

    @classmethod
    def space(cls, space_id: str, limits: SpaceLimits) -> Self:
        return cls("the space", limits.space, Key(f"limit_usage#{space_id}", _SORT_KEY))

    @classmethod
    def user(cls, space_id: str, user_id: str, limits: SpaceLimits) -> Self:
        return cls("this user", limits.of_user(user_id), Key(f"limit_usage#{space_id}#user#{user_id}", _SORT_KEY))

    @classmethod
    def key(cls, space_id: str, key_id: str, limits: Limits) -> Self:
        return cls("this API key", limits, Key(f"limit_usage#{space_id}#key#{key_id}", _SORT_KEY))


@dataclass(frozen=True)
class Amount:
    """An amount that calls use. ``cost`` is in billionths of the currency."""

    requests: int = 0
    calls: int = 0
    tokens: int = 0
    cost: int = 0


@dataclass(frozen=True)
class Reservation:
    """The part of a subject's limits that is reserved for a call. It exists before it is stored, so that a caller
    without a response can end it.
    """

    subject: Subject
    amount: Amount
    id: str = field(default_factory=lambda: secrets.token_urlsafe(8))


@dataclass(frozen=True)
class _Held:
    """A stored reservation. ``epoch`` is its time."""

    epoch: int
    calls: int
    tokens: int
    cost: int

    @classmethod
    def read(cls, text: str) -> Self:
        return cls(*map(int, text.split()))

    def __str__(self) -> str:
        return f"{self.epoch} {self.calls} {self.tokens} {self.cost}"


class LimitUsages:
    """A store of the use of limits."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock

    def reserve(self, reservation: Reservation) -> Reservation:
        """Stores a reservation. Raises BudgetExceededError or RateLimitedError with the limit and its next reset.

        After any other error it is unknown whether the reservation is stored, so the caller must ``replace`` it.
        """
        subject, amount, held = reservation.subject, reservation.amount, f"{_HELD}{reservation.id}"
        ceilings, minute = subject.limits.ceilings, self._minute()
        if not amount.requests:  # another call of an accepted request
            ceilings.pop(LimitName.REQUESTS_PER_MINUTE, None)

        def reserve() -> Reservation:
            nonlocal minute
            stored = {held: str(_Held(minute // EPOCH_MINUTES, amount.calls, amount.tokens, amount.cost))}
            condition = Attr(held).not_exists() & _has_room(ceilings, minute)
            try:
                self._table.write(update(subject.place, stored, add=_taken(amount), condition=condition))
            except ConditionFailedError as failed:
                item = failed.item or {}
                if held in item:  # this call stored it, and the response was lost
                    return reservation
                minute = self._shared_minute(item)
                if item.get("minute") != minute:
                    self._move_on(subject.place, item, minute)
                else:
                    self._refuse_if_full(subject, ceilings, item)
                raise
            return reservation

        return repeat_on_conflict(reserve, "Too many calls use the same limit at the same time.")

    def replace(self, reservation: Reservation, used: Amount) -> None:
        """Replaces a reservation with the real use, once: a repeated call changes nothing."""
        reserved = reservation.amount
        more = {name.value: getattr(used, unit) - getattr(reserved, unit) for name, unit in _UNITS.items()}
        # The counters do not include an expired reservation any more.
        late = {name.value: getattr(used, unit) for name, unit in _UNITS.items()}
        for mark, changes in ((_HELD, more), (_EXPIRED, late)):
            name = f"{mark}{reservation.id}"
            added = {each: value for each, value in changes.items() if value} | {"revision": 1}
            with suppress(ConditionFailedError):
                self._table.write(
                    update(reservation.subject.place, {name: None}, add=added, condition=Attr(name).exists())
                )
                return

    def usage(self, subject: Subject) -> dict[LimitName, LimitUsage]:
        """Returns the current use of each limit that is set."""
        item = self._table.get(subject.place) or {}
        item = _moved_on(item, self._shared_minute(item))
        return {
            name: LimitUsage(
                limit=_shown(name, ceiling),
                used=_shown(name, item[name] - _reserved(item, name)),
                reserved=_shown(name, _reserved(item, name)),
                resets_at=_window_end(name, item["minute"]),
            )
            for name, ceiling in subject.limits.ceilings.items()
        }

    def _minute(self) -> int:
        return int(self._clock().timestamp()) // 60

    def _shared_minute(self, item: Item) -> int:
        """Returns the current minute, or a later minute of the item if another process's clock is a little ahead."""
        ours = self._minute()
        return max(ours, item["minute"]) if item and item["minute"] - ours <= SKEW_MINUTES else ours

    def _move_on(self, key: Key, item: Item, minute: int) -> None:
        """Starts the windows and epochs of the minute, unless another call has changed the item."""
        unchanged = Attr("revision").eq(item["revision"]) if item else Attr("PK").not_exists()
        expires_at = int((_time(minute) + KEPT).timestamp())
        values = {**_moved_on(item, minute), "revision": item.get("revision", 0) + 1, "expires_at": expires_at}
        try:
            self._table.write(put(key, values, unchanged))
        except ConditionFailedError:
            return

    def _refuse_if_full(self, subject: Subject, ceilings: Mapping[LimitName, int], item: Item) -> None:
        for name, ceiling in ceilings.items():
            if item[name] >= ceiling:
                raise self._refusal(subject, name, item)

    def _refusal(self, subject: Subject, name: LimitName, item: Item) -> ApiError:
        reserved = _reserved(item, name)
        used, ceiling = item[name] - reserved, subject.limits.ceilings[name]
        end = _window_end(name, item["minute"])
        wait = 1 if end is None or used < ceiling else max(1, round((end - self._clock()).total_seconds()))
        amounts = [_amount_text(name, amount) for amount in (ceiling, used, reserved)]
        until = f" It resets at {format_timestamp(end)}." if end else ""
        error = RateLimitedError if name in _RATES else BudgetExceededError
        return error(
            f"The limit {name.value} of {subject.name} allows no further call: {amounts[1]} of {amounts[0]} are used, "
            f"and {amounts[2]} are reserved for calls that have not ended.{until} "
            f"Try again in {wait} s, or ask the owner of the space for a higher limit.",
            headers={"Retry-After": str(wait)},
        )


_RATES = {LimitName.TOKENS_PER_MINUTE, LimitName.REQUESTS_PER_MINUTE, LimitName.CONCURRENT_CALLS}


def _taken(amount: Amount) -> dict[str, int]:
    counted = {name.value: getattr(amount, unit) for name, unit in _UNITS.items()}
    counted |= {LimitName.REQUESTS_PER_MINUTE.value: amount.requests}
    return {name: value for name, value in counted.items() if value} | {"revision": 1}


def _has_room(ceilings: Mapping[LimitName, int], minute: int) -> ConditionBase:
    conditions: list[ConditionBase] = [Attr(name.value).lt(ceiling) for name, ceiling in ceilings.items()]
    return reduce(and_, [Attr("minute").eq(minute), *conditions])


def _moved_on(item: Item, minute: int) -> Item:
    """Returns the item of this minute. After the end of a window, its counter keeps only the reservations."""
    was, epoch = item.get("minute", 0), minute // EPOCH_MINUTES
    held = dict(_reservations(item))
    # Entries of a clock that is far ahead expire too.
    live = {each: text for each, text in held.items() if abs(epoch - text.epoch) < _EPOCHS}
    expired = {each.replace(_HELD, _EXPIRED): epoch for each in held.keys() - live.keys()}
    marks = {each: min(value, epoch) for each, value in item.items() if each.startswith(_EXPIRED)}
    expired |= {each: value for each, value in marks.items() if epoch - value < _EPOCHS}
    moved: Item = {each: str(text) for each, text in live.items()} | expired
    for name in LimitName:
        reserved, end = _reserved(moved, name), _window_end(name, was)
        # Calls have no window: those that run are those with a reservation.
        is_over = name is LimitName.CONCURRENT_CALLS or (end is not None and end <= _time(minute))
        moved[name.value] = reserved if is_over else item.get(name.value, 0) - _reserved(item, name) + reserved
    return moved | {"minute": minute}


def _reservations(item: Item) -> Iterator[tuple[str, _Held]]:
    return ((name, _Held.read(text)) for name, text in item.items() if name.startswith(_HELD))


def _reserved(item: Item, name: LimitName) -> int:
    unit = _UNITS.get(name)
    return 0 if unit is None else sum(getattr(held, unit) for _, held in _reservations(item))


def _time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _window_end(name: LimitName, minute: int) -> datetime | None:
    start = _time(minute)
    if name is LimitName.CONCURRENT_CALLS:
        return None
    if name.value.endswith("_minute"):
        return start + MINUTE
    midnight = start.replace(hour=0, minute=0)
    if name.value.endswith("_day"):
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


def _shown(name: LimitName, value: int) -> float:
    return value / NANO if name in COSTS else value


def _amount_text(name: LimitName, value: int) -> str:
    return f"{_shown(name, value):,.6g}" if name in COSTS else f"{value:,}"
