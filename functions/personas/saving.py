"""Saves the rows of an upload in small transactions. Each transaction also moves the upload's position.

A later or concurrent request continues at the position of the last transaction, so no row is saved twice.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from functions.personas.upload_store import PersonaUploads, RowsGoneError, UploadRow, row_id
from shared.dynamodb.table import Table, TransactionFailedError, Write, repeat_on_conflict
from shared.errors import GoneError
from shared.models.persona import SAME_PERSON_LIMIT, ConflictResolution, Persona, PersonaCreate
from shared.models.persona_upload import StoredUpload, UploadStatus
from shared.personas.store import KeyChangedError, Known, Personas, person_key

# DynamoDB allows 100 writes and 4 MB in a transaction. A row needs two writes, the upload and the counter one each.
BATCH_ROWS = 48
BATCH_BYTES = 1_500_000


class OvertakenError(Exception):
    """Error raised when another request has saved the same rows."""


class Saver:
    def __init__(self, table: Table, personas: Personas, uploads: PersonaUploads) -> None:
        self._table = table
        self._personas = personas
        self._uploads = uploads

    def save(self, space_id: str, token: str, upload: StoredUpload, has_time: Callable[[], bool]) -> StoredUpload:
        """Saves rows until all rows are saved or the time is up. A later call can save the rest."""
        while upload.status is UploadStatus.IN_PROGRESS and has_time():
            try:
                for batch in batches(self._uploads.rows(upload), upload.position):
                    upload = self._save_batch(space_id, token, upload, batch)
                    if not has_time():
                        break
            except OvertakenError:
                upload = self._uploads.get(space_id, token)
            except RowsGoneError:
                upload = self._uploads.get(space_id, token)
                if upload.status is UploadStatus.IN_PROGRESS:
                    raise GoneError(
                        f"Only {upload.done:,} of {upload.total:,} rows were saved in time. Upload the files again."
                    ) from None
        if upload.status is UploadStatus.COMPLETED:
            self._uploads.delete_rows(upload)
        return upload

    def _save_batch(self, space_id: str, token: str, upload: StoredUpload, batch: list[UploadRow]) -> StoredUpload:
        keys = {row.number: person_key(row.persona.name, row.persona.birthdate) for row in batch}

        def step() -> StoredUpload:
            plan = _Plan(upload, self._personas.known(space_id, keys.values()))
            for row in batch:
                plan.take(row, keys[row.number])
            after = plan.outcome(batch[-1].end)
            mark = self._uploads.advance(space_id, token, upload, after)
            try:
                self._table.transact([mark, *plan.actions(space_id, self._personas)])
            except TransactionFailedError as failed:
                if failed.index == 0:
                    raise OvertakenError from None
                raise
            return after

        return repeat_on_conflict(
            step,
            "Other requests change the same personas now. Confirm the upload again to continue.",
            (
                TransactionFailedError,
                KeyChangedError,
            ),
        )


class _Plan:
    """The writes for the rows of one batch."""

    def __init__(self, upload: StoredUpload, known: dict[str, Known]) -> None:
        self._upload = upload
        self._known = known
        self._ids = {key: list(each.ids) for key, each in known.items()}
        self._created: dict[str, Persona] = {}
        self._changed: dict[str, dict[str, Any]] = {}
        self._relied_on: set[str] = set()
        self._counts = dict.fromkeys(("done", "created", "overwritten", "skipped", "crowded", "conflicts_resolved"), 0)

    def take(self, row: UploadRow, key: str) -> None:
        """Plans the writes of one row. Its persona may be known from the space or from an earlier row."""
        ids = self._ids[key]
        self._counts["done"] += 1
        self._counts["conflicts_resolved"] += bool(ids)
        if ids and self._upload.resolution is ConflictResolution.OVERWRITE:
            self._overwrite(max(ids), row.persona)
            self._relied_on.add(key)
        elif ids and self._upload.resolution is not ConflictResolution.CREATE:
            self._counts["skipped"] += 1
        elif len(ids) >= SAME_PERSON_LIMIT:
            self._counts["crowded"] += 1
        else:
            persona = self._persona(row)
            self._created[persona.id] = persona
            ids.append(persona.id)
            self._counts["created"] += 1

    def _overwrite(self, persona_id: str, given: PersonaCreate) -> None:
        # A file without other columns must not delete the known data.
        values = given.model_dump(exclude_none=True)
        self._counts["overwritten"] += 1
        if persona_id in self._created:
            self._created[persona_id] = self._created[persona_id].model_copy(update=values)
        else:
            self._changed[persona_id] = {**self._changed.get(persona_id, {}), **values}

    def _persona(self, row: UploadRow) -> Persona:
        now, user_id = self._confirmation
        return Persona(
            id=row_id(self._upload, row.number),
            created_at=now,
            updated_at=now,
            created_by=user_id,
            updated_by=user_id,
            **row.persona.model_dump(),
        )

    @property
    def _confirmation(self) -> tuple[datetime, str]:
        if self._upload.confirmed_at is None or self._upload.confirmed_by is None:
            raise ValueError("an upload must be confirmed before it is saved")
        return self._upload.confirmed_at, self._upload.confirmed_by

    def outcome(self, end: int) -> StoredUpload:
        """Returns the upload after the planned writes."""
        values: dict[str, Any] = {name: getattr(self._upload, name) + amount for name, amount in self._counts.items()}
        is_last = end >= self._upload.rows_bytes
        status = UploadStatus.COMPLETED if is_last else UploadStatus.IN_PROGRESS
        return self._upload.model_copy(update={**values, "position": end, "status": status})

    def actions(self, space_id: str, personas: Personas) -> Iterator[Write]:
        yield from personas.create_writes(space_id, list(self._created.values()))
        user_id = self._confirmation[1]
        for persona_id, values in self._changed.items():
            yield personas.repository.update_write(space_id, persona_id, {**values, "updated_by": user_id})
        for key, known in self._known.items():
            ids = self._ids[key]
            if len(ids) > len(known.ids):
                yield known.write(ids)
            elif key in self._relied_on:
                yield known.unchanged()


def batches(rows: Iterable[UploadRow], position: int) -> Iterator[list[UploadRow]]:
    """Yields batches of rows; each batch fits into one transaction."""
    batch: list[UploadRow] = []
    start = end = position
    for row in rows:
        if batch and (len(batch) == BATCH_ROWS or row.end - start > BATCH_BYTES):
            yield batch
            batch, start = [], end
        batch.append(row)
        end = row.end
    if batch:
        yield batch
