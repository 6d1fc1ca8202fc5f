"""Runs: work on all rows of a connector's files, with its output in another connector's folder."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from shared.models.base import ColumnName, Entity, Identifier, Model, Timestamp
from shared.models.client_key import ClientKeyRule
from shared.models.connector import CONTROL_CHARACTER
from shared.models.connector_training import SelectedFile
from shared.models.job import JobAccess, JobFile, JobModel
from shared.models.job_status import JobStatus

MAX_RUN_FILES = 1000
# Folders within each other, in the name of an output's folder.
MAX_DEPTH = 20
SHOWN_REFUSED_ROWS = 100
MANIFEST_FILE = "_manifest.json"
# The folder of parts that the engine has finished.
PARTS = "parts"
# Of the rows, how many may be refused before the run ends, if the request states no share.
REFUSED_SHARE = 0.05


def is_manifest(file: str) -> bool:
    """Returns whether a file lists the output of a run, and so holds no rows."""
    return file.rpartition("/")[2] == MANIFEST_FILE


class RunEngine(StrEnum):
    """``lambda``: functions work on the parts, many at the same time. ``processing``: machines of a SageMaker job."""

    LAMBDA = "lambda"
    PROCESSING = "processing"


FolderName = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^/]")]
RefusedShare = Annotated[
    float,
    Field(
        ge=0,
        strict=True,
        le=1,
        allow_inf_nan=False,
        description="share of the rows that may be refused before the run fails",
    ),
]


class RunOutputCreate(Model):
    connector_id: Identifier = Field(description="a managed connector")
    folder: FolderName | None = Field(
        default=None, description="an empty folder in the connector; one named by the run when left out"
    )

    @field_validator("folder")
    @classmethod
    def _plain(cls, folder: str | None) -> str | None:
        if folder is None:
            return None
        folder = folder.removesuffix("/")
        names = folder.split("/")
        if CONTROL_CHARACTER.search(folder) or any(name in ("", ".", "..") for name in names):
            raise ValueError("must be names with / between them, without control characters")
        if len(names) > MAX_DEPTH:
            raise ValueError(f"has more than {MAX_DEPTH} names with / between them")
        return folder


class RunCreate(Model):
    """What every kind of run takes."""

    connector_id: Identifier
    files: Annotated[list[SelectedFile], Field(min_length=1, max_length=MAX_RUN_FILES)] | None = Field(
        default=None, description="names as in the list of files; all files when left out"
    )
    output: RunOutputCreate | None = None
    max_refused_share: RefusedShare = REFUSED_SHARE

    @field_validator("files")
    @classmethod
    def _each_once(cls, files: list[str] | None) -> list[str] | None:
        return list(dict.fromkeys(files)) if files else None


class RunOutput(Model):
    connector_id: str
    folder: str


class RowRefusal(Model):
    """A row without a result. ``line`` is that of the file, from 1; of a Parquet file it is the row's number."""

    file: str
    line: int | None = None
    column: str | None = None
    reason: str


class DuplicateCustomer(Model):
    """A row about a customer of an earlier row, which counts. Rows count from 1, without the header."""

    file: str
    row: int
    first_file: str
    first_row: int


class RunProgress(Model):
    """How far a run is. All numbers are of parts that are finished."""

    parts: int = Field(default=0, description="finished parts, of the run's `parts`")
    rows_read: int = 0
    rows_written: int = 0
    rows_refused: int = 0
    refused: dict[str, int] = Field(default_factory=dict, description="refused rows by reason")
    refused_rows: list[RowRefusal] = Field(
        default_factory=list, description=f"the first refused rows, {SHOWN_REFUSED_ROWS} at most"
    )
    rows_per_second: float | None = Field(default=None, description="since the run began to read")
    seconds_left: int | None = Field(default=None, description="an estimate from the rate so far; null when it is over")
    cost_usd: float = Field(default=0, description="an estimate of what AWS charges for the work so far")


class Run(Entity):
    """What every kind of run shows."""

    connector_id: str
    files: list[str] | None = Field(default=None, description="the names in the request; null: all files")
    output: RunOutput | None = None
    max_refused_share: float
    created_by: str
    status: JobStatus = JobStatus.PENDING
    error: str | None = Field(default=None, description="why the run failed or stopped, and what to do about it")
    engine: RunEngine
    engine_reason: str
    instance_count: int | None = Field(default=None, description="machines of a SageMaker job")
    file_count: int
    size_bytes: int
    parts: int
    rows: int = Field(description="rows of the files, as scans counted them")
    progress: RunProgress = Field(default_factory=RunProgress)
    restarted_from: str | None = Field(default=None, description="the run whose finished parts this one took over")
    restarted_as: str | None = Field(default=None, description="the run that went on with these parts")
    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    # The first run of a row of restarts. Its id names the plan and the finished parts.
    work_id: str = Field(exclude=True, repr=False)
    work_began_at: Timestamp = Field(exclude=True, repr=False)
    # Whether files of the output may be in its folder. From then on, nobody stops the run.
    is_publishing: bool = Field(default=False, exclude=True, repr=False)
    # Whether a restart finds what this run has finished.
    has_parts: bool = Field(default=True, exclude=True, repr=False)


class RunPart(JobModel):
    """Records of a file from ``first`` on; without ``records``, up to the file's end."""

    number: int = Field(ge=0)
    first: int = Field(ge=0)
    records: int | None = Field(default=None, ge=1)


class RunTask(JobModel):
    """Parts of one file that follow each other. One function works on them, one after the other."""

    file: JobFile
    parts: list[RunPart] = Field(min_length=1)


class RunPlan(JobModel):
    """What all tasks of a run share. ``settings`` belong to the kind of run."""

    kind: str
    space_id: str
    work_id: str
    access: JobAccess = Field(default_factory=JobAccess)
    settings: dict[str, Any]
    max_refused_rows: int = Field(ge=0, description="from one more on, the run ends")


class PartResult(JobModel):
    """What the work on a part came to."""

    number: int
    rows_read: int
    rows_written: int
    seconds: float
    refused: dict[str, int] = Field(default_factory=dict)
    refused_rows: list[RowRefusal] = Field(default_factory=list, max_length=SHOWN_REFUSED_ROWS)
    counts: dict[str, float] = Field(default_factory=dict)
    size_bytes: int = 0
    # The folder that has the part: that of the engine, or of a step that worked on the part once more.
    folder: str = PARTS


class ManifestFile(JobModel):
    file: str
    rows: int
    size_bytes: int


class Manifest(JobModel):
    """``_manifest.json``, which is written last: a folder without it has no output."""

    kind: str
    run_id: str
    format: Literal["parquet"] = "parquet"
    columns: dict[str, str] = Field(description="type of each column")
    rows: int
    rows_refused: int
    duplicates: int | None = Field(description="rows about a customer of an earlier row, which are left out")
    files: list[ManifestFile]


class PredictionSettings(JobModel):
    """Settings of a prediction run in its plan."""

    artifact: JobFile
    contributions: bool
    key_columns: list[ColumnName]
    # By which keys of customers are compared.
    client_key: ClientKeyRule = Field(default_factory=ClientKeyRule)
