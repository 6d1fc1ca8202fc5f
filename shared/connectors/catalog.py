"""The catalog of a connector's files, kept right although scans and S3's events come late, twice and unordered.

One item for each file under ``catalog#<space>#<connector>``. An event counts only if its S3 sequencer is later than
the item's; a scan's result counts only if the item still has the sequencer that the scan began with. A deleted file
leaves its sequencer behind for a month, so that a late event can't bring it back. Files that events or
requests named, and that no scan has read since, are under ``catalog#<space>#<connector>#pending``. What users state
about the way single files are written is under ``catalog#<space>#<connector>#options``, where no scan changes it. Why
a running scan could not read a file yet is under ``catalog#<space>#<connector>#problems``.

A connector may be deleted at any moment: an event looks for it after its write, and a scan at its end. If the connector
is gone, they put it on the cleanup list again, with all that was written. A repeated event looks again too, because the
first one may have been interrupted before it looked.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from boto3.dynamodb.conditions import Attr, ConditionBase
from pydantic import TypeAdapter

from shared.clock import Clock, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.table import (
    ConditionFailedError,
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    check,
    delete,
    put,
    repeat_on_conflict,
    update,
)
from shared.dynamodb.write_markers import WRITE_MARKER, write_marker
from shared.errors import ApiError, NotFoundError
from shared.models.base import Page
from shared.models.catalog import CatalogColumn, CatalogEntry, CatalogStatus
from shared.models.reading import ReadOptions, ReadWarning, is_date_format
from shared.space_binding import BoundThreads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Beyond this many bytes of JSON the columns go to S3, far below DynamoDB's 400 KB an item.
INLINE_COLUMNS_BYTES = 100_000
READS_AT_ONCE = 10
# The first warnings and date formats of a file are kept, up to so many bytes of JSON each.
WARNINGS_BYTES = 100_000
DATE_FORMATS_BYTES = 50_000
TOMBSTONE_KEPT = timedelta(days=30)
# Longer than a scan may take.
PROBLEM_KEPT = timedelta(days=2)
SEQUENCER_DIGITS = 64
DELETED = "deleted"
# A transaction takes 100 actions, and one is a check.
MARKS_IN_TRANSACTION = 99
# DynamoDB takes 4 MB in one transaction, and an item may have 350 KB.
OPTIONS_IN_TRANSACTION = 10
_COLUMNS = TypeAdapter(list[CatalogColumn])


class EventOutcome(Enum):
    """Outcome of an event: it needs a scan, has nothing new, or its connector is deleted."""

    TO_SCAN = auto()
    UP_TO_DATE = auto()
    NO_CONNECTOR = auto()


@dataclass(frozen=True)
class ObjectVersion:
    """Content of a file in an event; ``sequencer`` is S3's order of the key's events."""

    file: str
    etag: str
    size_bytes: int
    sequencer: str
    version_id: str | None = None


@dataclass(frozen=True)
class FileState:
    """State of a file: ``status`` is a CatalogStatus or ``deleted``, ``scan_id`` the scan that found it."""

    status: str
    etag: str | None = None
    sequencer: str | None = None
    scan_id: str | None = None
    version_id: str | None = None
    options_digest: str | None = None
    size_bytes: int | None = None
    # As text, which sorts as times do.
    scanned_at: str | None = None
    # Formats by column with dates, as in the catalog's columns.
    date_formats: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What a scan knew of a file before it read it: the last event, and the request that named the file."""

    sequencer: str | None = None
    request: str | None = None


def comparable_sequencer(sequencer: str) -> str:
    """Returns a sequencer that sorts as text: S3's hexadecimal one, filled with zeros on the right."""
    return sequencer.upper().ljust(SEQUENCER_DIGITS, "0")


class Catalog:
    """The catalogs of all connectors."""

    def __init__(self, table: Table, s3: "S3Client", bucket: str, clock: Clock = utc_now) -> None:
        self._table = table
        self._s3 = s3
        self._bucket = bucket
        self._clock = clock
        self._purges = CleanupList(table, "connector", clock)

    def page(self, space_id: str, connector_id: str, number: int, size: int) -> Page[CatalogEntry]:
        """Returns the ``number``-th ``size`` entries, by file name."""
        files = [item["SK"] for item in self._items(space_id, connector_id, ("SK", "status"))]
        start = (number - 1) * size
        wanted = files[start : start + size]
        entries = self.entries(space_id, connector_id, wanted)
        return Page(
            count=len(files),
            data=[entries[file] for file in wanted if file in entries],
            has_more=start + size < len(files),
        )

    def entries(self, space_id: str, connector_id: str, files: Sequence[str] | None = None) -> dict[str, CatalogEntry]:
        """Returns the entries by file with their columns: the existing ones of ``files``, or all."""
        if files is None:
            items = list(self._items(space_id, connector_id))
        else:
            keys = [_key(space_id, connector_id, file) for file in files if 0 < len(file.encode()) <= 1024]
            items = [item for item in self._table.get_many(keys).values() if item["status"] != DELETED]
        options = self.read_options(space_id, connector_id, None if files is None else [item["SK"] for item in items])
        # Long columns are in S3, and a training reads the entries of thousands of files.
        with BoundThreads(READS_AT_ONCE) as pool:
            loaded = pool.map(lambda item: self._load(item, options.get(item["SK"])), items)
            return {item["SK"]: entry for item, entry in zip(items, loaded, strict=True)}

    def states(self, space_id: str, connector_id: str) -> dict[str, FileState]:
        """Returns the states of all files, deleted ones too, without their columns."""
        names = (
            "status", "etag", "sequencer", "scan_id", "version_id", "options_digest", "size_bytes", "scanned_at"
        )  # fmt: skip
        attributes = ("SK", "date_formats", *names)
        return {
            item["SK"]: FileState(
                **{name: item[name] for name in names if name in item},
                date_formats=json.loads(item.get("date_formats", "{}")),
            )
            for item in self._table.query(
                _key(space_id, connector_id, "").pk, newest_first=False, attributes=attributes
            )
        }

    def read_options(
        self, space_id: str, connector_id: str, files: Sequence[str] | None = None
    ) -> dict[str, ReadOptions]:
        """Returns what is stated about single files: about these, or all."""
        if files is None:
            items = self._table.query(_options_key(space_id, connector_id, "").pk, newest_first=False)
        else:
            items = iter(self._table.get_many([_options_key(space_id, connector_id, file) for file in files]).values())
        return {
            item["SK"]: ReadOptions.model_validate(item["read_options"]) for item in items if "read_options" in item
        }

    def state_options(self, space_id: str, connector_id: str, options: Mapping[str, ReadOptions]) -> None:
        """Stores how files are written, also files that are still to come.

        Raises NotFoundError for a deleted connector, and PayloadTooLargeError.
        """
        names = list(options)
        for start in range(0, len(names), OPTIONS_IN_TRANSACTION):
            batch = names[start : start + OPTIONS_IN_TRANSACTION]
            writes = [_options_write(space_id, connector_id, file, options[file]) for file in batch]
            self._table.transact([_exists(space_id, connector_id), *writes])

    def correct(self, space_id: str, connector_id: str, file: str, options: ReadOptions | None, request: str) -> None:
        """Stores how a file of the catalog is written, and marks the file as pending; ``None`` removes the options.

        Raises NotFoundError for an unknown file or connector, and PayloadTooLargeError.
        """
        is_known = Attr("status").exists() & Attr("status").ne(DELETED)
        self._table.transact(
            [
                _exists(space_id, connector_id),
                update(
                    _key(space_id, connector_id, file),
                    {"status": CatalogStatus.PENDING},
                    condition=is_known,
                    error=NotFoundError(f"The connector has no file '{file}' in its catalog."),
                ),
                update(_pending_key(space_id, connector_id, file), {"request": request}),
                _options_write(space_id, connector_id, file, options),
            ]
        )

    def remove(self, space_id: str, connector_id: str, file: str, condition: ConditionBase, error: ApiError) -> None:
        """Removes a file that a user deletes, and what was stated about it.

        Raises ``error`` if the connector does not meet the condition.
        """
        key = _key(space_id, connector_id, file)

        def step() -> None:
            known = self._table.get(key) or {}
            tombstone = {
                "status": DELETED,
                "sequencer": known.get("sequencer"),
                "deleted_at": self._clock(),
                "expires_at": self._expiry(),
                WRITE_MARKER: write_marker(),
            }
            self._table.transact(
                [
                    check(Key(f"connector#{space_id}", connector_id), Attr("PK").exists() & condition, error),
                    put(key, tombstone, _is("sequencer", known.get("sequencer"))),
                    delete(_pending_key(space_id, connector_id, file)),
                    delete(_options_key(space_id, connector_id, file)),
                ]
            )

        repeat_on_conflict(step, "The file is busy.")

    def sequencer(self, space_id: str, connector_id: str, file: str) -> str | None:
        """Returns the sequencer of the file's last known event, also for a deleted file."""
        item = self._table.get(_key(space_id, connector_id, file))
        return item.get("sequencer") if item else None

    def ask_for(self, space_id: str, connector_id: str, files: Sequence[str], request: str) -> None:
        """Marks the files of a request as pending. The mark stays until a later scan begins.

        Raises NotFoundError for a deleted connector.
        """
        marks = [update(_pending_key(space_id, connector_id, file), {"request": request}) for file in files]
        for start in range(0, len(marks), MARKS_IN_TRANSACTION):
            batch = marks[start : start + MARKS_IN_TRANSACTION]
            self._table.transact([_exists(space_id, connector_id), *batch])

    def pending(self, space_id: str, connector_id: str) -> dict[str, str | None]:
        """Returns the files that wait for a scan, with the request that named them if one did."""
        marks = self._table.query(_pending_key(space_id, connector_id, "").pk, newest_first=False)
        return {mark["SK"]: mark.get("request") for mark in marks}

    def has_pending(self, space_id: str, connector_id: str) -> bool:
        """Returns whether a file is pending."""
        return next(iter(self._table.query(_pending_key(space_id, connector_id, "").pk, limit=1)), None) is not None

    def record_created(self, space_id: str, connector_id: str, version: ObjectVersion) -> EventOutcome:
        """Records an event about new content."""
        return self._outcome(space_id, connector_id, self._created(space_id, connector_id, version))

    def _created(self, space_id: str, connector_id: str, version: ObjectVersion) -> EventOutcome:
        key, later = _key(space_id, connector_id, version.file), _later_than(version.sequencer)
        known = {"sequencer": version.sequencer, "version_id": version.version_id}
        try:
            # A scan was quicker than the event: the profile it wrote is of this very content.
            is_scanned = Attr("status").eq(CatalogStatus.SCANNED.value) & Attr("etag").eq(version.etag)
            self._table.write(update(key, known, condition=is_scanned & later))
            return EventOutcome.UP_TO_DATE
        except ConditionFailedError as failed:
            if failed.item and failed.item.get("sequencer", "") >= version.sequencer:
                is_repeated = failed.item["sequencer"] == version.sequencer
                is_pending = is_repeated and failed.item["status"] == CatalogStatus.PENDING
                return EventOutcome.TO_SCAN if is_pending else EventOutcome.UP_TO_DATE
        entry = {
            "file": version.file,
            "status": CatalogStatus.PENDING,
            "etag": version.etag,
            "size_bytes": version.size_bytes,
            **known,
        }
        write = put(key, entry, later)
        return self._record(space_id, connector_id, version.file, write, version.sequencer, is_pending=True)

    def record_deleted(self, space_id: str, connector_id: str, file: str, sequencer: str) -> EventOutcome:
        """Records an event about a deleted file, unless a later event is known."""
        tombstone = {"status": DELETED, "sequencer": sequencer, "expires_at": self._expiry()}
        write = put(_key(space_id, connector_id, file), tombstone, _later_than(sequencer))
        outcome = self._record(space_id, connector_id, file, write, sequencer, is_pending=False)
        return self._outcome(space_id, connector_id, outcome)

    def record_unclear(self, space_id: str, connector_id: str, file: str, sequencer: str) -> EventOutcome:
        """Records an event after which only the bucket shows the present content.

        A profile stays, because the content may be the same: lifecycle rules remove old versions.
        """
        values = {"file": file, "status": CatalogStatus.PENDING, "sequencer": sequencer, "expires_at": None}
        write = update(_key(space_id, connector_id, file), values, condition=_later_than(sequencer))
        outcome = self._record(space_id, connector_id, file, write, sequencer, is_pending=True)
        return self._outcome(space_id, connector_id, outcome)

    def record_result(self, space_id: str, connector_id: str, entry: CatalogEntry, seen: Seen) -> bool:
        """Stores the result of a scan; false if an event came between, because another scan follows it.

        A failure never replaces a profile of the same content and options, because only profiles know personal data.
        """
        values = {name: getattr(entry, name) for name in type(entry).model_fields if name != "read_options"}
        values |= {
            "sequencer": seen.sequencer,
            "warnings": _first_warnings(entry.warnings),
            "date_formats": _first_date_formats(entry.columns),
            **self.stored_columns(space_id, connector_id, entry),
        }
        kept = _good_profile(entry) if entry.status is CatalogStatus.ERROR else None
        return self._write_result(space_id, connector_id, entry.file, values, seen, kept)

    def record_missing(self, space_id: str, connector_id: str, file: str, seen: Seen, scan_id: str) -> bool:
        """Removes a file that a scan did not find, unless an event came between."""
        values = {
            "status": DELETED,
            "sequencer": seen.sequencer,
            "scan_id": scan_id,
            "expires_at": self._expiry(),
        }
        return self._write_result(space_id, connector_id, file, values, seen)

    def note_problem(self, space_id: str, connector_id: str, file: str, scan_id: str, problem: str) -> None:
        """Notes why a scan failed to read a file. It is repeated; only its end makes the problem the file's error."""
        expires_at = int((self._clock() + PROBLEM_KEPT).timestamp())
        values = {"scan_id": scan_id, "problem": problem, "expires_at": expires_at}
        self._table.write(put(_problem_key(space_id, connector_id, file), values))
        self._is_gone(space_id, connector_id)

    def problems(self, space_id: str, connector_id: str, scan_id: str) -> dict[str, str]:
        """Returns the noted problems of a scan by file."""
        notes = self._table.query(_problem_key(space_id, connector_id, "").pk, newest_first=False)
        return {note["SK"]: note["problem"] for note in notes if note["scan_id"] == scan_id}

    def stored_columns(self, space_id: str, connector_id: str, entry: CatalogEntry) -> Item:
        """Returns the columns as JSON text, because DynamoDB's numbers are narrower than a file's.

        Long ones are in S3.
        """
        text = _COLUMNS.dump_json(entry.columns).decode()
        if len(text.encode()) <= INLINE_COLUMNS_BYTES:
            return {"columns": text}
        digest = hashlib.sha256(f"{entry.file}\n{entry.etag}".encode()).hexdigest()
        location = f"{columns_prefix(space_id, connector_id)}{digest}.json"
        self._s3.put_object(Bucket=self._bucket, Key=location, Body=text.encode(), ContentType="application/json")
        return {"columns": None, "columns_key": location}

    def load_columns(self, item: Item) -> list[CatalogColumn]:
        """Returns the columns that ``stored_columns`` has stored."""
        text: str | bytes = item.get("columns", "[]")
        if location := item.get("columns_key"):
            text = self._s3.get_object(Bucket=self._bucket, Key=location)["Body"].read()
        return _COLUMNS.validate_json(text)

    def forget(self, space_id: str, connector_id: str) -> None:
        """Removes all data of a deleted connector."""
        for key in (_key, _pending_key, _options_key, _problem_key):
            pk = key(space_id, connector_id, "").pk
            for item in self._table.query(pk, attributes=("SK",)):
                self._table.write(delete(Key(pk, item["SK"])))
        prefix = columns_prefix(space_id, connector_id)
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                self._s3.delete_object(Bucket=self._bucket, Key=found["Key"])

    def _record(
        self, space_id: str, connector_id: str, file: str, write: Write, sequencer: str, *, is_pending: bool
    ) -> EventOutcome:
        marker = _pending_key(space_id, connector_id, file)
        mark = update(marker, {"sequencer": sequencer}) if is_pending else delete(marker)
        try:
            self._table.transact([write, mark])
        except TransactionFailedError as failed:
            is_repeated = failed.item is not None and failed.item.get("sequencer") == sequencer
            is_waiting = is_repeated and failed.item is not None and failed.item["status"] == CatalogStatus.PENDING
            return EventOutcome.TO_SCAN if is_waiting else EventOutcome.UP_TO_DATE
        return EventOutcome.TO_SCAN if is_pending else EventOutcome.UP_TO_DATE

    def _write_result(
        self,
        space_id: str,
        connector_id: str,
        file: str,
        values: Item,
        seen: Seen,
        kept: ConditionBase | None = None,
    ) -> bool:
        """Stores a result, except over an item that meets the condition ``kept``; false if an event came between."""
        unchanged = _is("sequencer", seen.sequencer)
        condition = unchanged if kept is None else unchanged & ~kept
        try:
            self._table.write(put(_key(space_id, connector_id, file), values, condition))
        except ConditionFailedError as failed:
            if kept is None or (failed.item or {}).get("sequencer") != seen.sequencer:
                return False
            with suppress(ConditionFailedError):
                scanned = {"status": CatalogStatus.SCANNED}
                self._table.write(update(_key(space_id, connector_id, file), scanned, condition=unchanged & kept))
        # A mark that the scan did not know of stays for the next one.
        is_known: ConditionBase = Attr("sequencer").not_exists()
        if seen.sequencer is not None:
            is_known |= Attr("sequencer").lte(seen.sequencer)
        is_known &= Attr("request").not_exists() | _is("request", seen.request)
        with suppress(ConditionFailedError):
            self._table.write(delete(_pending_key(space_id, connector_id, file), is_known))
        return not self._purges.is_gone(space_id, connector_id)

    def _outcome(self, space_id: str, connector_id: str, outcome: EventOutcome) -> EventOutcome:
        """Returns the outcome of an event."""
        return EventOutcome.NO_CONNECTOR if self._is_gone(space_id, connector_id) else outcome

    def _is_gone(self, space_id: str, connector_id: str) -> bool:
        """Returns whether a connector does not exist; then it is put on the cleanup list again."""
        is_gone = self._purges.is_gone(space_id, connector_id)
        if is_gone:
            self._purges.write(self._purges.note(space_id, connector_id))
        return is_gone

    def _items(self, space_id: str, connector_id: str, attributes: Iterable[str] = ()) -> Iterator[Item]:
        items = self._table.query(_key(space_id, connector_id, "").pk, newest_first=False, attributes=attributes)
        return (item for item in items if item["status"] != DELETED)

    def _load(self, item: Item, options: ReadOptions | None) -> CatalogEntry:
        values = {**item, "file": item["SK"], "columns": self.load_columns(item), "read_options": options}
        return CatalogEntry.model_validate(values)

    def _expiry(self) -> int:
        return int((self._clock() + TOMBSTONE_KEPT).timestamp())


def columns_prefix(space_id: str, connector_id: str) -> str:
    """Returns the prefix of long column lists of a connector's files in the data bucket."""
    return f"spaces/{space_id}/scans/columns/{connector_id}/"


def _key(space_id: str, connector_id: str, file: str) -> Key:
    return Key(f"catalog#{space_id}#{connector_id}", file)


def _pending_key(space_id: str, connector_id: str, file: str) -> Key:
    return Key(f"catalog#{space_id}#{connector_id}#pending", file)


def _options_key(space_id: str, connector_id: str, file: str) -> Key:
    return Key(f"catalog#{space_id}#{connector_id}#options", file)


def _problem_key(space_id: str, connector_id: str, file: str) -> Key:
    return Key(f"catalog#{space_id}#{connector_id}#problems", file)


def _options_write(space_id: str, connector_id: str, file: str, options: ReadOptions | None) -> Write:
    # An item without options stays, because the audit log reads who removed them.
    return put(_options_key(space_id, connector_id, file), {"read_options": options, WRITE_MARKER: write_marker()})


def _exists(space_id: str, connector_id: str) -> Write:
    """Returns the check that a connector exists."""
    missing = NotFoundError("There is no connector with this id in the space.")
    return check(Key(f"connector#{space_id}", connector_id), Attr("PK").exists(), missing)


def _first_warnings(warnings: Sequence[ReadWarning]) -> list[ReadWarning]:
    size, shown = 0, []
    for warning in warnings:
        size += len(warning.model_dump_json().encode())
        if size > WARNINGS_BYTES:
            break
        shown.append(warning)
    return shown


def _first_date_formats(columns: Sequence[CatalogColumn]) -> str | None:
    """Returns the formats of columns with dates as JSON text, because names of columns may be any text."""
    formats: dict[str, list[str]] = {}
    size = 0
    for column in columns:
        if found := [each for each in column.formats if is_date_format(each)]:
            size += len(json.dumps({column.name: found}))
            if size > DATE_FORMATS_BYTES:
                break
            formats[column.name] = found
    return json.dumps(formats) if formats else None


def _good_profile(failure: CatalogEntry) -> ConditionBase:
    """Returns the condition of a profile that outlasts this failure, which may not know the content."""
    good: ConditionBase = Attr("status").eq(CatalogStatus.SCANNED.value)
    # One that waits for another scan.
    is_pending = Attr("status").eq(CatalogStatus.PENDING.value)
    good |= is_pending & Attr("scanned_at").exists() & Attr("error").not_exists()
    good &= _is("options_digest", failure.options_digest)
    return good if failure.etag is None else good & Attr("etag").eq(failure.etag)


def _later_than(sequencer: str) -> ConditionBase:
    return Attr("sequencer").not_exists() | Attr("sequencer").lt(sequencer)


def _is(attribute: str, value: str | None) -> ConditionBase:
    return Attr(attribute).not_exists() if value is None else Attr(attribute).eq(value)
