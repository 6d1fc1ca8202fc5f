"""Limits the jobs of a space: how many run at the same time, and the GPU-hours of a month (UTC).

One item of each space holds the ids of its unfinished jobs and the seconds of GPUs. A job takes its place in the
transaction that creates it, and gives it back in the transaction that ends it, by its id. So no number of requests at
the same time passes a limit, and no lost response keeps a place. A GPU job reserves the longest time that SageMaker
lets it run; its end replaces that by the time that it ran.

A refusal first looks whether each job that holds a place is still open. Places of jobs that are not, such as of records
that an operator removed, are given back.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.clock import Clock, utc_now
from shared.dynamodb.codec import StringSet
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, Write, update
from shared.errors import LimitReachedError
from shared.jobs.store import OPEN
from shared.models.job_reference import JobKind
from shared.models.limits import LimitUsage

if TYPE_CHECKING:
    from shared.models.job_limits import JobLimits

# The longest time that SageMaker lets a job run.
MAX_JOB_SECONDS = 24 * 3600
TOO_MANY_AT_ONCE = "Too many jobs of the space start and end just now."
# When to look again whether a job has ended.
RETRY_SECONDS = 60
_GPU = "gpu#"
# Jobs of kinds with one name share a limit.
_NAMES = {
    JobKind.TRAINING: "training",
    JobKind.EVALUATION: "evaluation",
    JobKind.PREDICTION: "run",
    JobKind.DECISION_RUN: "run",
}
_LIMIT_OF = {"training": "running_trainings", "evaluation": "running_evaluations", "run": "running_runs"}


@dataclass(frozen=True)
class JobPlace:
    """The place of a job among the unfinished ones of its space."""

    space_id: str
    kind: JobKind
    job_id: str
    gpu_count: int = 0

    @property
    def key(self) -> Key:
        return usage_key(self.space_id)

    @property
    def name(self) -> str:
        """Returns the attribute with the ids of such jobs."""
        return _NAMES[self.kind]


def usage_key(space_id: str) -> Key:
    return Key(f"space_usage#{space_id}", "jobs")


def limits_key(space_id: str) -> Key:
    """Returns the key of the limits that an operator set for the space alone (infra/operations)."""
    return Key(f"space_usage#{space_id}", "limits")


class JobUsages:
    """A store of what the jobs of each space use."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock

    def limits(self, space_id: str, stage: "JobLimits") -> "JobLimits":
        return self._read(space_id, stage)[1]

    def reserve(self, place: JobPlace, stage: "JobLimits") -> Write:
        """Returns the write by which a new job takes its place, for the transaction that creates the job.

        ``stage`` are the limits of spaces without their own. Raises LimitReachedError. The transaction fails with
        TransactionFailedError when another job was faster; the caller then starts again.
        """
        item, limits = self._read(place.space_id, stage)
        try:
            return self._reservation(place, item, limits)
        except LimitReachedError:
            if not self._return_lost_places(place.space_id, item):
                raise
        return self._reservation(place, self._table.get(place.key) or {}, limits)

    def release(self, place: JobPlace, seconds: float) -> list[Write]:
        """Returns the writes by which a job that ran for ``seconds`` gives its place back, if it has one."""
        item = self._table.get(place.key) or {}
        if place.job_id not in item.get(place.name, ()):
            return []
        reserved = item.get(f"{_GPU}{place.job_id}")
        if reserved is None:
            return [update(place.key, {}, take={place.name: StringSet({place.job_id})})]
        used = min(round(seconds) * place.gpu_count, reserved)
        return [_give_back(place.key, place.name, place.job_id, used - reserved)]

    def free(self, space_id: str, kind: JobKind, job_id: str) -> None:
        """Gives back the place of a job whose end was not recorded, if it has one. Its reserved time is not counted."""
        if kind in _NAMES:
            self._free(space_id, _NAMES[kind], job_id)

    def _free(self, space_id: str, name: str, job_id: str) -> None:
        key = usage_key(space_id)
        reserved = (self._table.get(key) or {}).get(f"{_GPU}{job_id}", 0)
        with suppress(ConditionFailedError):
            self._table.write(_give_back(key, name, job_id, -reserved, Attr(name).contains(job_id)))

    def usage(self, space_id: str, stage: "JobLimits") -> dict[str, LimitUsage]:
        """Returns the current use of each limit on jobs that is set."""
        item, limits = self._read(space_id, stage)
        found = {
            limit_name: LimitUsage(limit=limit, used=len(item.get(name, ())), reserved=0)
            for name, limit_name in _LIMIT_OF.items()
            if (limit := getattr(limits, limit_name)) is not None
        }
        if limits.gpu_hours_per_month is not None:
            counted, reserved = self._gpu_seconds(item), _reserved(item)
            found["gpu_hours_per_month"] = LimitUsage(
                limit=limits.gpu_hours_per_month,
                used=round((counted - reserved) / 3600, 2),
                reserved=round(reserved / 3600, 2),
                resets_at=self._month_end(),
            )
        return found

    def _read(self, space_id: str, stage: "JobLimits") -> "tuple[Item, JobLimits]":
        keys = usage_key(space_id), limits_key(space_id)
        found = self._table.get_many(keys)
        own = found.get(keys[1], {}).get("limits", {})
        return found.get(keys[0], {}), stage.overridden(own)

    def _reservation(self, place: JobPlace, item: Item, limits: "JobLimits") -> Write:
        name, conditions = place.name, list[ConditionBase]()
        limit = getattr(limits, _LIMIT_OF[name])
        if limit is not None:
            running = len(item.get(name, ()))
            if running >= limit:
                raise _too_many(name, running, limit)
            conditions.append(Attr(name).not_exists() | Attr(name).size().lt(limit))
        changes: dict[str, Any] = {}
        add: dict[str, int | StringSet] = {name: StringSet({place.job_id})}
        if place.gpu_count:
            seconds = place.gpu_count * MAX_JOB_SECONDS
            counted = self._gpu_seconds(item)
            if limits.gpu_hours_per_month is not None and counted + seconds > limits.gpu_hours_per_month * 3600:
                raise self._too_long(place, item, limits.gpu_hours_per_month)
            # The month and the sum are as they were read, so nobody has reserved since.
            changes = {
                "month": self._month(),
                "gpu_seconds": counted + seconds,
                f"{_GPU}{place.job_id}": seconds,
            }
            conditions += [_unchanged(item, "month"), _unchanged(item, "gpu_seconds")]
        return update(place.key, changes, add=add, condition=reduce(and_, conditions) if conditions else None)

    def _gpu_seconds(self, item: Item) -> int:
        """Returns the used and reserved seconds of this month. Reservations pass from one month to the next."""
        return int(item["gpu_seconds"]) if item.get("month") == self._month() else _reserved(item)

    def _return_lost_places(self, space_id: str, item: Item) -> bool:
        held = [(name, job_id) for name in _LIMIT_OF for job_id in item.get(name, ())]
        found = self._table.get_many([Key(OPEN, job_id) for _, job_id in held])
        # A training that has succeeded stays open until its evaluations are created.
        open_ids = {key.sk for key, job in found.items() if "due" not in job}
        lost = [(name, job_id) for name, job_id in held if job_id not in open_ids]
        for name, job_id in lost:
            self._free(space_id, name, job_id)
        return bool(lost)

    def _too_long(self, place: JobPlace, item: Item, limit: int) -> LimitReachedError:
        counted, reserved = self._gpu_seconds(item), _reserved(item)
        is_full = counted - reserved + place.gpu_count * MAX_JOB_SECONDS > limit * 3600
        wait = round((self._month_end() - self._clock()).total_seconds()) if is_full else RETRY_SECONDS
        return LimitReachedError(
            f"The limit gpu_hours_per_month of the space allows no further {place.kind.value} with {place.gpu_count} "
            f"GPUs, which may run for {MAX_JOB_SECONDS // 3600} h: of {limit} GPU-hours, "
            f"{(counted - reserved) / 3600:.1f} are used, and {reserved / 3600:.1f} are reserved for unfinished jobs. "
            "Ask for fewer GPUs, wait until jobs end or the month does, or ask the operator for a higher limit.",
            headers={"Retry-After": str(max(1, wait))},
        )

    def _month(self) -> str:
        return f"{self._clock().astimezone(UTC):%Y-%m}"

    def _month_end(self) -> datetime:
        start = self._clock().astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return (start + timedelta(days=32)).replace(day=1)


def seconds_between(start: datetime | None, end: datetime) -> float:
    """Returns how long a job ran; one that never started ran for no time."""
    return max(0.0, (end - start).total_seconds()) if start else 0


def _give_back(key: Key, name: str, job_id: str, seconds: int, condition: ConditionBase | None = None) -> Write:
    return update(
        key,
        {f"{_GPU}{job_id}": None},
        add={"gpu_seconds": seconds},
        take={name: StringSet({job_id})},
        condition=condition,
    )


def _reserved(item: Item) -> int:
    return sum(int(value) for name, value in item.items() if name.startswith(_GPU))


def _unchanged(item: Item, name: str) -> ConditionBase:
    return Attr(name).eq(item[name]) if name in item else Attr(name).not_exists()


def _too_many(name: str, running: int, limit: int) -> LimitReachedError:
    instead = {"training": ", or delete one", "run": ", or stop one"}.get(name, "")
    return LimitReachedError(
        f"The limit {_LIMIT_OF[name]} of the space allows no further {name}: {running} of {limit} run. "
        f"Try again when one has ended{instead}, "
        "or ask the operator for a higher limit.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )
