"""Uploads personas from files.

All files of an upload are read and checked before anything is saved. A row is a conflict if its persona is known from
the space or from an earlier row. Without conflicts, all rows are saved. With conflicts, the upload waits for a
decision. If one request has not enough time to save all rows, the next request continues.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from tempfile import TemporaryFile
from typing import IO, BinaryIO, cast

from functions.personas.files.columns import PersonaRow, RefusedRow
from functions.personas.files.limits import DEFAULT_LIMITS, UploadLimits
from functions.personas.files.reader import open_persona_file
from functions.personas.saving import Saver
from functions.personas.upload_store import FORM_LIFETIME, PersonaUploads, row_line
from shared.clock import Clock
from shared.dynamodb.table import Table
from shared.errors import ConflictError, Detail, GoneError, ValidationFailedError
from shared.files.errors import UnreadableFileError
from shared.models.persona import ConflictResolution
from shared.models.persona_upload import (
    LISTED_ROWS,
    UPLOAD_FILES_LIMIT,
    PersonaUpload,
    PersonaUploadForms,
    PersonaUploadRequest,
    PersonaUploadResult,
    StoredUpload,
    UploadConflict,
    UploadedFile,
    UploadRefusedRow,
    UploadStatus,
)
from shared.personas.store import Personas, person_key
from shared.space_binding import BoundThreads
from shared.space_usage.storage import StorageUsages
from shared.spaces.members import SpaceContext

CONFIRMABLE = timedelta(hours=24)
# A request may take 29 seconds. Reading must end earlier, because it cannot be resumed and its rows must be stored.
READING_SECONDS = 20.0
WORKING_SECONDS = 25.0
LOOKUP_KEYS = 100
LOOKUP_THREADS = 8
FILE_NAME_CHARACTERS = 200

NamedFile = tuple[str, BinaryIO]


@dataclass
class _Reading:
    """The counts and problems of the rows that have been read so far."""

    total: int = 0
    conflict_personas: int = 0
    refused_rows: int = 0
    conflicts: list[UploadConflict] = field(default_factory=list)
    refused: list[UploadRefusedRow] = field(default_factory=list)
    files: list[UploadedFile] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


class PersonaUploadService:
    def __init__(
        self,
        table: Table,
        uploads: PersonaUploads,
        storage_usages: StorageUsages,
        clock: Clock,
        *,
        limits: UploadLimits = DEFAULT_LIMITS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._personas = Personas(table, clock)
        self._uploads = uploads
        self._storage_usages = storage_usages
        self._saver = Saver(table, self._personas, uploads)
        self._clock = clock
        self._limits = limits
        self._timer = timer
        self._started = timer()

    def upload(self, context: SpaceContext, files: list[NamedFile]) -> PersonaUpload:
        """Reads the files of the request, and saves their personas if there are no conflicts.

        Raises ValidationFailedError with the name of a file that cannot be read, and then stores nothing.
        """
        if len(files) > UPLOAD_FILES_LIMIT:
            raise ValidationFailedError.of("body.files", f"are more than {UPLOAD_FILES_LIMIT}: use several uploads")
        token = secrets.token_urlsafe(32)
        upload = self._read(context, files)
        self._uploads.add(context.space_id, token, upload)
        return self._go_on(context, token, upload)

    def prepare(self, context: SpaceContext, request: PersonaUploadRequest) -> PersonaUploadForms:
        """Returns forms with which a client uploads files directly to S3. ``process`` reads these files later."""
        token = secrets.token_urlsafe(32)
        files = list(dict.fromkeys(request.files))
        self._storage_usages.reserve(context.space_id, len(files) * self._limits.file_bytes, FORM_LIFETIME)
        now = self._clock()
        upload = StoredUpload(
            status=UploadStatus.WAITING,
            created_by=context.user_id,
            valid_until=now + CONFIRMABLE,
            source_files=files,
        )
        self._uploads.add(context.space_id, token, upload)
        forms = [
            self._uploads.form(context.space_id, token, file, self._limits.file_bytes, now + FORM_LIFETIME)
            for file in files
        ]
        return PersonaUploadForms(uploads=forms, upload_token=token)

    def process(self, context: SpaceContext, token: str) -> PersonaUpload:
        """Reads the files in S3 as ``upload`` does, or continues to save their rows.

        Raises NotFoundError, GoneError, ConflictError if a file is missing, and the errors of ``upload``.
        """
        upload = self._current(context, token)
        if upload.status is UploadStatus.WAITING:
            upload = self._receive(context, token, upload)
        return self._go_on(context, token, upload)

    def confirm(self, context: SpaceContext, token: str, resolution: ConflictResolution) -> PersonaUploadResult:
        """Saves a pending upload, or continues to save it with the first resolution.

        Raises NotFoundError, GoneError, and ConflictError if the files have not been read.
        """
        upload = self._current(context, token)
        if upload.status is UploadStatus.WAITING:
            raise ConflictError(f"The files have not been read yet. Call POST /personas/uploads/{token}/process first.")
        if upload.status is UploadStatus.PENDING:
            upload = self._uploads.confirm(context.space_id, token, resolution, context.user_id, self._clock())
        return _result(self._saver.save(context.space_id, token, upload, self._has_time))

    def _current(self, context: SpaceContext, token: str) -> StoredUpload:
        upload = self._uploads.get(context.space_id, token)
        if upload.is_expired(self._clock()):
            raise GoneError("This upload was not confirmed in time, and nothing was saved. Upload the files again.")
        return upload

    def _go_on(self, context: SpaceContext, token: str, upload: StoredUpload) -> PersonaUpload:
        return _response(self._saver.save(context.space_id, token, upload, self._has_time), token)

    def _has_time(self) -> bool:
        return self._timer() - self._started < WORKING_SECONDS

    def _reading_seconds_left(self) -> float:
        return READING_SECONDS - (self._timer() - self._started)

    def _check_time(self) -> None:
        if self._reading_seconds_left() < 0:
            raise UnreadableFileError(f"takes more than {READING_SECONDS:.0f} seconds to read: split the file")

    def _receive(self, context: SpaceContext, token: str, waiting: StoredUpload) -> StoredUpload:
        sizes = self._uploads.source_sizes(context.space_id, token)
        missing = [file for file in waiting.source_files if file not in sizes]
        if missing:
            raise ConflictError(f"The file {missing[0]} is missing. Upload it with its form first.")
        if sum(sizes[file] for file in waiting.source_files) > self._limits.file_bytes:
            raise ValidationFailedError(
                f"The files together have more than {self._limits.file_bytes >> 20} MB. Use several uploads."
            )
        upload = self._read(context, self._downloaded(context, token, waiting.source_files))
        upload.source_files = waiting.source_files
        if not self._uploads.receive(context.space_id, token, upload):
            self._uploads.delete_rows(upload)
            return self._uploads.get(context.space_id, token)
        self._uploads.delete_sources(context.space_id, token, waiting.source_files)
        return upload

    def _downloaded(self, context: SpaceContext, token: str, names: Iterable[str]) -> Iterator[NamedFile]:
        for name in names:
            with TemporaryFile() as file:
                self._uploads.download(context.space_id, token, name, cast("IO[bytes]", file))
                yield name, cast("BinaryIO", file)

    def _read(self, context: SpaceContext, files: Iterable[NamedFile]) -> StoredUpload:
        """Reads all files and stores their rows. Raises ValidationFailedError."""
        reading = _Reading()
        with TemporaryFile() as rows, BoundThreads(LOOKUP_THREADS) as pool:
            batch: list[tuple[str, PersonaRow]] = []
            for name, file in files:
                for row in self._rows(name, file, reading):
                    rows.write(row_line(row.persona))
                    batch.append((name, row))
                    if len(batch) == LOOKUP_KEYS * LOOKUP_THREADS:
                        self._look_up(context, reading, batch, pool)
                        batch = []
            self._look_up(context, reading, batch, pool)
            if not reading.total:
                raise _nothing_to_save(reading)
            size = rows.tell()
            rows.seek(0)
            key = self._uploads.write_rows(context.space_id, rows)
        return self._stored(context, reading, key, size)

    def _rows(self, name: str, file: BinaryIO, reading: _Reading) -> Iterator[PersonaRow]:
        """Yields the rows of one file that can be saved, and records the refused rows."""
        name = name[:FILE_NAME_CHARACTERS]
        today = self._clock().date().isoformat()
        count = 0
        before = reading.total + reading.refused_rows
        try:
            limits = replace(self._limits, rows=self._limits.rows - before, seconds=self._reading_seconds_left())
            opened = open_persona_file(file, limits, self._check_time)
            for row in opened.rows:
                count += 1
                if isinstance(row, PersonaRow) and row.persona.birthdate > today:
                    row = RefusedRow(row.number, "birthdate: is in the future")
                if isinstance(row, PersonaRow):
                    reading.total += 1
                    yield row
                else:
                    reading.refused_rows += 1
                    if len(reading.refused) < LISTED_ROWS:
                        reading.refused.append(UploadRefusedRow(file=name, row=row.number, reason=row.reason))
        except UnreadableFileError as error:
            raise ValidationFailedError.of("body.files", f"{name} {error}") from error
        reading.files.append(UploadedFile(file=name, format=opened.format, encoding=opened.encoding, rows=count))

    def _look_up(
        self, context: SpaceContext, reading: _Reading, batch: list[tuple[str, PersonaRow]], pool: BoundThreads
    ) -> None:
        """Records the conflicts of the rows."""
        keys = [person_key(row.persona.name, row.persona.birthdate) for _, row in batch]
        wanted = list(dict.fromkeys(keys))
        parts = [wanted[start : start + LOOKUP_KEYS] for start in range(0, len(wanted), LOOKUP_KEYS)]
        for known in pool.map(lambda part: self._personas.known(context.space_id, part), parts):
            reading.seen.update(key for key, each in known.items() if each.ids)
        for key, (name, row) in zip(keys, batch, strict=True):
            if key in reading.seen:
                reading.conflict_personas += 1
                if len(reading.conflicts) < LISTED_ROWS:
                    person = {"name": row.persona.name, "birthdate": row.persona.birthdate}
                    reading.conflicts.append(UploadConflict(file=name, row=row.number, **person))
            reading.seen.add(key)

    def _stored(self, context: SpaceContext, reading: _Reading, rows_key: str, rows_bytes: int) -> StoredUpload:
        now = self._clock()
        upload = StoredUpload(
            status=UploadStatus.PENDING,
            created_by=context.user_id,
            valid_until=now + CONFIRMABLE,
            rows_key=rows_key,
            rows_bytes=rows_bytes,
            files=reading.files,
            total=reading.total,
            conflict_personas=reading.conflict_personas,
            conflicts=reading.conflicts,
            refused_rows=reading.refused_rows,
            refused=reading.refused,
        )
        if not reading.conflict_personas:
            # SKIP, because another request may create the same persona before this upload is saved.
            upload.status, upload.resolution = UploadStatus.IN_PROGRESS, ConflictResolution.SKIP
            upload.confirmed_at, upload.confirmed_by = now, context.user_id
        return upload


def _nothing_to_save(reading: _Reading) -> ValidationFailedError:
    if not reading.refused:
        return ValidationFailedError.of("body.files", "have no rows below the names of the columns")
    details = [Detail(f"body.files.{row.file}.{row.row}", row.reason) for row in reading.refused]
    first = reading.refused[0]
    return ValidationFailedError(f"No row can be used; {first.file}, row {first.row}: {first.reason}", details)


def _response(upload: StoredUpload, token: str) -> PersonaUpload:
    return PersonaUpload(
        status=upload.status,
        message=_message(upload),
        total=upload.total,
        total_uploaded=upload.created + upload.overwritten,
        conflict_personas=upload.conflict_personas,
        conflicts=upload.conflicts,
        refused_rows=upload.refused_rows,
        refused=upload.refused,
        files=upload.files,
        upload_token=None if upload.status is UploadStatus.COMPLETED else token,
        expires_at=upload.valid_until if upload.status is UploadStatus.PENDING else None,
    )


def _result(upload: StoredUpload) -> PersonaUploadResult:
    return PersonaUploadResult(
        status=upload.status,
        message=_message(upload),
        conflicts_resolved=upload.conflicts_resolved,
        total_uploaded=upload.created + upload.overwritten,
        created=upload.created,
        overwritten=upload.overwritten,
        skipped=upload.skipped,
        refused_rows=upload.crowded,
    )


def _message(upload: StoredUpload) -> str:
    """Returns the message for the client: the result so far, and the next step."""
    refused = f" {upload.refused_rows:,} rows were refused; `refused` has the reasons." if upload.refused_rows else ""
    match upload.status:
        case UploadStatus.PENDING:
            return (
                f"Nothing is saved yet: {upload.conflict_personas:,} of {upload.total:,} personas are already known. "
                f"Confirm the upload with overwrite, create or skip.{refused}"
            )
        case UploadStatus.IN_PROGRESS:
            return (
                f"{upload.done:,} of {upload.total:,} personas are processed so far. "
                f"Confirm the upload to continue.{refused}"
            )
    crowded = (
        f" {upload.crowded:,} were left out: 100 personas share the same name and birthdate." if upload.crowded else ""
    )
    return (
        f"{upload.created:,} personas were created, {upload.overwritten:,} overwritten and "
        f"{upload.skipped:,} skipped.{crowded}{refused}"
    )
