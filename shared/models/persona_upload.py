"""Uploads of personas: their files, conflicts with known personas, and results."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.models.base import Model, Timestamp
from shared.models.connector import FileName, Uploads
from shared.models.persona import ConflictResolution

UPLOAD_FILES_LIMIT = 20
# Most rows that a response lists; its counts include all rows.
LISTED_ROWS = 100


class UploadStatus(StrEnum):
    """``waiting`` for files, ``pending`` for a decision about conflicts, ``in_progress`` while personas are saved."""

    WAITING = "waiting"
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class UploadedFile(Model):
    """A file that was read. ``rows`` includes the refused rows."""

    file: str
    format: str
    encoding: str | None = None
    rows: int


class UploadRefusedRow(Model):
    file: str
    row: int
    reason: str


class UploadConflict(Model):
    """A row whose person is known already, from the space or from an earlier row."""

    file: str
    row: int
    name: str
    birthdate: str


class PersonaUpload(Model):
    """``total`` counts the personas that were read, ``conflict_personas`` the known ones among them.

    ``refused`` and ``conflicts`` list only the first rows.
    """

    conflict_personas: int
    message: str
    status: UploadStatus
    total: int
    upload_token: str | None = Field(default=None, description="confirms the upload; absent when all is saved")
    total_uploaded: int = 0
    conflicts: list[UploadConflict] = Field(default_factory=list)
    refused_rows: int = 0
    refused: list[UploadRefusedRow] = Field(default_factory=list)
    files: list[UploadedFile] = Field(default_factory=list)
    expires_at: Timestamp | None = None


class PersonaUploadConfirm(Model):
    conflict_resolution: ConflictResolution = ConflictResolution.SKIP


class PersonaUploadResult(Model):
    """``refused_rows`` were left out because too many personas share their name and birthdate."""

    conflicts_resolved: int
    message: str
    status: UploadStatus
    total_uploaded: int
    created: int
    overwritten: int
    skipped: int
    refused_rows: int


class PersonaUploadRequest(Model):
    files: list[FileName] = Field(min_length=1, max_length=UPLOAD_FILES_LIMIT)


class PersonaUploadForms(Uploads):
    """Forms to send the files with, and the token to process them."""

    upload_token: str


class StoredUpload(Model):
    """A stored upload; ``position`` and ``done`` say how far its rows have been saved."""

    status: UploadStatus
    created_by: str
    valid_until: Timestamp
    source_files: list[str] = Field(default_factory=list)
    rows_key: str = ""
    rows_bytes: int = 0
    files: list[UploadedFile] = Field(default_factory=list)
    total: int = 0
    conflict_personas: int = 0
    conflicts: list[UploadConflict] = Field(default_factory=list)
    refused_rows: int = 0
    refused: list[UploadRefusedRow] = Field(default_factory=list)
    resolution: ConflictResolution | None = None
    confirmed_at: Timestamp | None = None
    confirmed_by: str | None = None
    position: int = 0
    done: int = 0
    created: int = 0
    overwritten: int = 0
    skipped: int = 0
    crowded: int = 0
    conflicts_resolved: int = 0

    def is_expired(self, now: datetime) -> bool:
        """Returns whether the upload can't be continued. It does not expire after its saving has begun."""
        return self.status in (UploadStatus.WAITING, UploadStatus.PENDING) and now >= self.valid_until
