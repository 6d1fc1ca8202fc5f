"""Limits the bytes that a space stores: uploads, checkpoints, files of personas, and everything else in its folders.

S3 holds the truth, so the bytes are measured by listing the space's folders, at most every few minutes and only for
requests that add files. Forms for uploads reserve the most that they allow until they have expired and a measurement
has seen what was uploaded. One item of each space holds both. It changes on condition that nobody else has changed it,
so requests at the same time cannot pass the limit together.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, utc_now
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, put, repeat_on_conflict
from shared.errors import LimitReachedError
from shared.models.base import parse_timestamp
from shared.models.job_limits import GIB, JobLimits
from shared.models.limits import LimitUsage
from shared.space_usage.jobs import limits_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FRESH = timedelta(minutes=15)
# A request that would be refused measures again, but not each of a flood.
FRESH_FOR_REFUSAL = timedelta(minutes=1)
# Pages of 1,000 objects that one request lists, within some seconds. The next request goes on.
PAGES_AT_ONCE = 50


class StorageUsages:
    """A store of the bytes that each space uses. ``stage`` are the limits of spaces without their own."""

    def __init__(self, table: Table, s3: "S3Client", bucket: str, stage: JobLimits, clock: Clock = utc_now) -> None:
        self._table = table
        self._s3 = s3
        self._bucket = bucket
        self.stage = stage
        self._clock = clock

    def reserve(self, space_id: str, wanted: int, lifetime: timedelta) -> None:
        """Reserves bytes for uploads that end within ``lifetime``. Raises LimitReachedError."""

        def step() -> None:
            item, limit = self._read(space_id)
            if limit is None:
                return
            item = self._measured(space_id, item, FRESH)
            if _counted(item) + wanted > limit:
                item = self._measured(space_id, item, FRESH_FOR_REFUSAL)
            if _counted(item) + wanted > limit:
                raise _full(item, wanted, limit)
            # Minutes keep the item small.
            minute = str(int((self._clock() + lifetime).timestamp()) // 60 + 1)
            reserved = item["reserved"] | {minute: item["reserved"].get(minute, 0) + wanted}
            self._replace(space_id, item, {"reserved": reserved})

        repeat_on_conflict(step, "Too many uploads of the space begin just now.", (ConditionFailedError,))

    def require_room(self, space_id: str) -> None:
        """Measures, unless the last measurement is fresh. Raises LimitReachedError if nothing is left."""

        def step() -> None:
            item, limit = self._read(space_id)
            if limit is None:
                return
            item = self._measured(space_id, item, FRESH)
            if _counted(item) >= limit:
                item = self._measured(space_id, item, FRESH_FOR_REFUSAL)
            if _counted(item) >= limit:
                raise _full(item, 0, limit)

        repeat_on_conflict(step, "Too many requests measure the space just now.", (ConditionFailedError,))

    def check(self, space_id: str) -> None:
        """Raises LimitReachedError if the last measurement left no room. It lists nothing."""
        item, limit = self._read(space_id)
        if limit is not None and item and _counted(item) >= limit:
            raise _full(item, 0, limit)

    def usage(self, space_id: str) -> dict[str, LimitUsage]:
        """Returns the use of the limit as it was last measured, if there is a limit."""
        item, limit = self._read(space_id)
        if limit is None:
            return {}
        used, reserved = item.get("bytes", 0), sum(item.get("reserved", {}).values())
        return {
            "storage_gib": LimitUsage(limit=limit / GIB, used=round(used / GIB, 3), reserved=round(reserved / GIB, 3))
        }

    def _read(self, space_id: str) -> tuple[Item, int | None]:
        found = self._table.get_many([_key(space_id), limits_key(space_id)])
        limits = self.stage.overridden(found.get(limits_key(space_id), {}).get("limits", {}))
        limit = limits.storage_gib
        return found.get(_key(space_id), {}), None if limit is None else limit * GIB

    def _measured(self, space_id: str, item: Item, fresh: timedelta) -> Item:
        """Returns the item after a measurement, unless the last one is fresh."""
        now = self._clock()
        if "measured_at" in item and now - parse_timestamp(item["measured_at"]) < fresh:
            return item
        part = item.get("part") or {"bytes": 0, "last": "", "since": int(now.timestamp())}
        total, last = self._listed(space_id, part)
        if last:
            return self._replace(
                space_id, {"bytes": 0, "reserved": {}, **item}, {"part": {**part, "bytes": total, "last": last}}
            )
        # What was uploaded before this minute has been listed.
        minute = part["since"] // 60
        reserved = {each: amount for each, amount in item.get("reserved", {}).items() if int(each) > minute}
        values = {"bytes": total, "reserved": reserved, "measured_at": now, "part": None}
        return self._replace(space_id, item, values)

    def _listed(self, space_id: str, part: Item) -> tuple[int, str | None]:
        """Returns the bytes of the objects so far, and the last object's key if there are more."""
        total, last = part["bytes"], part["last"]
        for number, page in enumerate(self._pages(space_id, last)):
            if number == PAGES_AT_ONCE:
                return total, last
            for found in page:
                total, last = total + found["Size"], found["Key"]
        return total, None

    def _pages(self, space_id: str, after: str) -> Iterator[list[Any]]:
        for prefix in (f"spaces/{space_id}/", f"temporary/spaces/{space_id}/"):
            # In the order of keys, so a prefix that sorts before has been listed.
            if prefix < after and not after.startswith(prefix):
                continue
            # An empty start is before the first object.
            start = after if after.startswith(prefix) else ""
            paginator = self._s3.get_paginator("list_objects_v2")
            pages = paginator.paginate(Bucket=self._bucket, Prefix=prefix, StartAfter=start)
            for page in pages:
                yield list(page.get("Contents", []))

    def _replace(self, space_id: str, item: Item, changes: dict[str, Any]) -> Item:
        """Writes the item, on condition that it is unchanged. Raises ConditionFailedError."""
        revision = item.get("revision", 0)
        unchanged = Attr("revision").eq(revision) if revision else Attr("PK").not_exists()
        values = {name: value for name, value in item.items() if name not in ("PK", "SK")}
        new = {**values, **changes, "revision": revision + 1}
        self._table.write(put(_key(space_id), new, unchanged))
        return new


def _key(space_id: str) -> Key:
    return Key(f"space_usage#{space_id}", "storage")


def _counted(item: Item) -> int:
    return int(item["bytes"] + sum(item["reserved"].values()))


def _full(item: Item, wanted: int, limit: int) -> LimitReachedError:
    reserved = sum(item["reserved"].values())
    return LimitReachedError(
        f"The limit storage_gib of the space has no room for {wanted / GIB:.2f} GiB: of {limit / GIB:g} GiB, "
        f"{item['bytes'] / GIB:.2f} are used, and {reserved / GIB:.2f} are reserved for uploads that began. State the "
        "size of the files, delete files, wait until unused uploads expire, or ask the operator for a higher limit."
    )
