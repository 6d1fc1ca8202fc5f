"""Uploads of personas: what was read, what is in conflict with known personas, and what became of it."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.models.base import Model, Timestamp
from shared.models.connector import FileName, Uploads
from shared.models.persona import ConflictResolution

UPLOAD_FILES_LIMIT = 20
# How many rows a response lists; their number counts all.
LISTED_ROWS = 100


class UploadStatus(StrEnum):
    """``waiting`` for its files, ``pending`` for a decision about conflicts, being saved, or all saved."""

    WAITING = "waiting"
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class UploadedFile(Model):
    """How a file was read; ``rows`` counts the refused ones too."""

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
    """``total`` counts the personas read, ``conflict_personas`` those of them that are known already.

    ``refused`` and ``conflicts`` list the first rows of each sort.
    """

    conflict_personas: int
    message: str
    status: UploadStatus
    total: int
    upload_token: str | None = Field(default=None, description="what to confirm with; absent when all is saved")
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
    """The forms to send the files with, and the token to process them by."""

    upload_token: str


class StoredUpload(Model):
    """An upload as it is kept; ``position`` and ``done`` say how far its rows have been saved."""

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
        """Returns whether nobody may go on with it: once saving has begun, it may always be brought to its end."""
        return self.status in (UploadStatus.WAITING, UploadStatus.PENDING) and now >= self.valid_until
