"""Stores persona uploads: an item for each upload in the table, and its rows as JSON Lines in S3.

The sort key is a digest of the upload's token, so that the table contains no tokens. Old uploads are deleted
automatically: the item at its ``expires_at``, its objects by the bucket's rule for ``temporary/``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

from boto3.dynamodb.conditions import Attr

from shared.clock import new_id
from shared.dynamodb.table import ConditionFailedError, Key, Table, Write, put, update
from shared.dynamodb.write_markers import WRITE_MARKER, write_marker
from shared.errors import NotFoundError
from shared.models.base import Timestamp
from shared.models.connector import Upload
from shared.models.persona import ConflictResolution, PersonaCreate
from shared.models.persona_upload import StoredUpload, UploadStatus

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The time for which an upload's item is kept after it can no longer be confirmed. Its objects are kept as long.
REMEMBERED = timedelta(days=30)
FORM_LIFETIME = timedelta(hours=1)
CHUNK_BYTES = 1 << 20


class RowsGoneError(Exception):
    """Error raised when the file of rows no longer exists, because all rows are saved or the upload is too old."""


@dataclass(frozen=True)
class UploadRow:
    """A row to save. ``number`` is its position in the upload, from 0; ``end`` is its end in the file of rows."""

    number: int
    persona: PersonaCreate
    end: int


class PersonaUploads:
    def __init__(self, table: Table, s3: "S3Client", bucket: str) -> None:
        self._table = table
        self._s3 = s3
        self._bucket = bucket

    @staticmethod
    def _key(space_id: str, token: str) -> Key:
        return Key(f"persona_upload#{space_id}", _digest(token))

    def add(self, space_id: str, token: str, upload: StoredUpload) -> None:
        self._table.write(self._put(space_id, token, upload))

    def _put(self, space_id: str, token: str, upload: StoredUpload, condition: Any = None) -> Write:
        expires_at = int((upload.valid_until + REMEMBERED).timestamp())
        values = {name: getattr(upload, name) for name in type(upload).model_fields}
        return put(
            self._key(space_id, token), {**values, "expires_at": expires_at, WRITE_MARKER: write_marker()}, condition
        )

    def get(self, space_id: str, token: str) -> StoredUpload:
        """Returns an upload. Raises NotFoundError."""
        item = self._table.get(self._key(space_id, token))
        if item is None:
            raise NotFoundError("There is no upload with this token in the space. Upload the files again.")
        return StoredUpload.model_validate(item)

    def receive(self, space_id: str, token: str, upload: StoredUpload) -> bool:
        """Replaces a waiting upload. Returns false if another request has already replaced it."""
        try:
            self._table.write(self._put(space_id, token, upload, Attr("status").eq(UploadStatus.WAITING.value)))
        except ConditionFailedError:
            return False
        return True

    def confirm(
        self, space_id: str, token: str, resolution: ConflictResolution, user_id: str, now: datetime
    ) -> StoredUpload:
        """Records how to resolve the conflicts, unless an earlier request has recorded it. Returns the upload."""
        values = {
            "status": UploadStatus.IN_PROGRESS,
            "resolution": resolution,
            "confirmed_at": now,
            "confirmed_by": user_id,
            WRITE_MARKER: write_marker(),
        }
        is_pending = Attr("status").eq(UploadStatus.PENDING.value)
        with suppress(ConditionFailedError):
            self._table.write(update(self._key(space_id, token), values, condition=is_pending))
        return self.get(space_id, token)

    def advance(self, space_id: str, token: str, before: StoredUpload, after: StoredUpload) -> Write:
        """Returns the write that moves the upload's position, for the transaction that saves the rows."""
        names = (
            "status",
            "position",
            "done",
            "created",
            "overwritten",
            "skipped",
            "crowded",
            "conflicts_resolved",
        )
        return update(
            self._key(space_id, token),
            {name: getattr(after, name) for name in names},
            condition=Attr("position").eq(before.position) & Attr("status").eq(UploadStatus.IN_PROGRESS.value),
        )

    def write_rows(self, space_id: str, rows: IO[bytes]) -> str:
        """Stores a file of rows and returns its key."""
        key = f"temporary/spaces/{space_id}/persona_uploads/{new_id()}.jsonl"
        self._s3.upload_fileobj(rows, self._bucket, key)
        return key

    def rows(self, upload: StoredUpload) -> Iterator[UploadRow]:
        """Yields the rows that are not saved yet. Raises RowsGoneError if the file no longer exists."""
        try:
            found = self._s3.get_object(Bucket=self._bucket, Key=upload.rows_key, Range=f"bytes={upload.position}-")
        except self._s3.exceptions.NoSuchKey:
            raise RowsGoneError(upload.rows_key) from None
        end = upload.position
        lines = found["Body"].iter_lines(CHUNK_BYTES, keepends=True)
        for number, line in enumerate(lines, start=upload.done):
            end += len(line)
            yield UploadRow(number, PersonaCreate.model_validate_json(line), end)

    def delete_rows(self, upload: StoredUpload) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=upload.rows_key)

    def form(self, space_id: str, token: str, file: str, bytes_limit: int, expires_at: Timestamp) -> Upload:
        """Returns a form to upload one file directly to S3."""
        form = self._s3.generate_presigned_post(
            Bucket=self._bucket,
            Key=_source_key(space_id, token, file),
            Conditions=[["content-length-range", 1, bytes_limit]],
            ExpiresIn=int(FORM_LIFETIME.total_seconds()),
        )
        return Upload(file=file, url=form["url"], fields=form["fields"], expires_at=expires_at)

    def source_sizes(self, space_id: str, token: str) -> dict[str, int]:
        """Returns the uploaded files with their sizes in bytes."""
        prefix = _source_key(space_id, token, "")
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {each["Key"].removeprefix(prefix): each["Size"] for page in pages for each in page.get("Contents", [])}

    def download(self, space_id: str, token: str, file: str, target: IO[bytes]) -> None:
        self._s3.download_fileobj(self._bucket, _source_key(space_id, token, file), target)

    def delete_sources(self, space_id: str, token: str, files: Iterable[str]) -> None:
        for file in files:
            self._s3.delete_object(Bucket=self._bucket, Key=_source_key(space_id, token, file))


def row_line(persona: PersonaCreate) -> bytes:
    """Returns the line of a persona for the file of rows."""
    return json.dumps(persona.model_dump(exclude_none=True), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def row_id(upload: StoredUpload, number: int) -> str:
    """Returns the id of a row's persona. It is the same in every attempt, and later rows have greater ids.

    The id is a UUIDv7 of the time of the confirmation, the row's number, and a digest of the file and the number.
    """
    if upload.confirmed_at is None:
        raise ValueError("an upload must be confirmed before its personas have ids")
    milliseconds = int(upload.confirmed_at.timestamp() * 1000)
    digest = int.from_bytes(hashlib.sha256(f"{upload.rows_key}\n{number}".encode()).digest()[:7])
    high, low = number >> 6 & 0xFFF, number & 0x3F
    return str(UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low << 56 | digest))


def _source_key(space_id: str, token: str, file: str) -> str:
    return f"temporary/spaces/{space_id}/persona_files/{_digest(token)[:32]}/{file}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
