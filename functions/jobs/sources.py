"""Reads the pinned files of a job as one table."""

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from botocore.exceptions import BotoCoreError, ClientError

from functions.jobs.concatenation import FileRows, concatenate
from functions.jobs.file_warnings import FileNotes
from functions.jobs.modelling.frames import NOTHING, DateFormats
from functions.jobs.modelling.splits import row_draws
from shared.errors import JobFailedError
from shared.files.errors import UnreadableFileError
from shared.files.formats import FileFormat
from shared.files.notes import ReadNotes
from shared.files.readers import opened
from shared.models.job import JobAccess, JobDataset, JobFile
from shared.models.reading import COLUMNS_LIMIT, ReadOptions
from shared.network.address_guard import AddressGuard
from shared.propensity.holdouts import Draws, Mask

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 1 << 20
DOWNLOADS_AT_ONCE = 8
ClientFactory = Callable[..., Any]


@dataclass(frozen=True)
class DatasetTable:
    """The rows of all files, in the order of the data sets and their files."""

    frame: pl.DataFrame
    draws: Draws
    file_of_row: np.typing.NDArray[np.intp]
    files: list[JobFile]
    # In which the dates of columns are written.
    formats: DateFormats
    notes: list[str]
    file_notes: list[FileNotes]

    @property
    def nested(self) -> set[str]:
        """Returns the columns that hold lists or objects in a file."""
        return set().union(*(file.notes.nested for file in self.file_notes))

    def of_files(self, wanted: Callable[[JobFile], bool]) -> Mask:
        """Returns the mask of the rows from the files for which ``wanted`` is true."""
        return np.array([wanted(file) for file in self.files], dtype=bool)[self.file_of_row]

    def filter(self, mask: Mask) -> "DatasetTable":
        """Returns the rows of the mask."""
        return replace(self, frame=self.frame.filter(mask), draws=self.draws[mask], file_of_row=self.file_of_row[mask])


def read_datasets(
    datasets: Sequence[JobDataset],
    seed: int,
    target: str,
    client: ClientFactory,
    model_formats: Mapping[str, Sequence[str]] = NOTHING,
) -> DatasetTable:
    """Reads the pinned version of every file.

    ``client`` makes an AWS client, as ``boto3.client`` does. ``seed`` decides the draws of the rows. ``model_formats``
    are the formats of dates of a trained model.

    Raises:
        JobFailedError: a file has changed, cannot be read, or has no column ``target``.
    """
    files: list[JobFile] = []
    contents: list[FileRows] = []
    file_notes: list[FileNotes] = []
    with TemporaryDirectory(prefix="job-") as scratch:
        for dataset in datasets:
            s3 = s3_client(dataset.access, client)
            column = dataset.target or target
            for file, path in _downloads(s3, dataset.files, Path(scratch)):
                rows, notes = _read(file, path, column, target)
                # A label is a text, even if it looks like a date in one of the files.
                formats = {name: found for name, found in notes.formats.items() if name != column}
                contents.append(FileRows(rows, formats))
                file_notes.append(FileNotes(file.label, notes))
                files.append(file)
                path.unlink()
    heights = [content.rows.height for content in contents]
    _require_columns({name for content in contents for name in content.rows.columns})
    together = concatenate(contents, model_formats)
    if not together.rows.height:
        raise JobFailedError("The files have no rows. Upload files with rows, or choose other files.")
    draws = np.concatenate([row_draws(seed, file, height) for file, height in zip(files, heights, strict=True)])
    file_of_row = np.repeat(np.arange(len(files)), heights)
    return DatasetTable(together.rows, draws, file_of_row, files, together.formats, together.notes, file_notes)


def _require_columns(names: set[str]) -> None:
    """Raises JobFailedError for more columns than a row to score may have."""
    if len(names) > COLUMNS_LIMIT:
        raise JobFailedError(
            f"The files have {len(names):,} different columns together; at most {COLUMNS_LIMIT:,} can be used. Leave "
            "columns or files out."
        )


def s3_client(access: JobAccess, client: ClientFactory) -> "S3Client":
    """Returns an S3 client with the connector's credentials, or with the job's own if the connector has none.

    Raises:
        JobFailedError: the role or the stored keys cannot be used.
        ForbiddenAddressError: the endpoint of the connector is in a private network.
    """
    options: dict[str, Any] = {"region_name": access.region, "endpoint_url": access.endpoint_url}
    try:
        if access.role_arn:
            role: dict[str, Any] = {"RoleArn": access.role_arn, "RoleSessionName": "propensity-job"}
            if access.external_id:
                role["ExternalId"] = access.external_id
            credentials = client("sts").assume_role(**role)["Credentials"]
            options |= {
                "aws_access_key_id": credentials["AccessKeyId"],
                "aws_secret_access_key": credentials["SecretAccessKey"],
                "aws_session_token": credentials["SessionToken"],
            }
        elif secret := read_secret(access.credentials_parameter, access.credentials_secret_arn, client):
            keys = json.loads(secret)
            options |= {
                "aws_access_key_id": keys["access_key_id"],
                "aws_secret_access_key": keys["secret_access_key"],
            }
    except (ClientError, BotoCoreError) as error:
        hint = f" Its role must require the sts:ExternalId {access.external_id}." if access.external_id else ""
        raise JobFailedError(f"The credentials of the connector cannot be used: {reason_of(error)}.{hint}") from error
    except (ValueError, KeyError) as error:
        raise JobFailedError("The stored credentials of the connector are damaged. Enter them again.") from error
    # A customer chose the address, so it may lead into our network, and its name may change between check and call.
    guard = AddressGuard(allow_loopback=os.environ.get("ALLOW_LOOPBACK") == "true")
    if access.endpoint_url:
        guard.check_url(access.endpoint_url, "endpoint_url")
    s3: S3Client = client("s3", **{name: value for name, value in options.items() if value})
    if access.endpoint_url:
        guard.guard_client(s3)
    return s3


def read_secret(parameter: str | None, secret_arn: str | None, client: ClientFactory) -> str | None:
    """Returns the text of the secret in Parameter Store or Secrets Manager, or ``None`` without either name."""
    if parameter:
        return str(client("ssm").get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"])
    if secret_arn:
        return str(client("secretsmanager").get_secret_value(SecretId=secret_arn)["SecretString"])
    return None


def reason_of(error: ClientError | BotoCoreError) -> str:
    """Returns AWS's error code and message, or botocore's message."""
    if isinstance(error, ClientError):
        problem = error.response.get("Error", {})
        return f"{problem.get('Code', 'unknown')} ({problem.get('Message', '').rstrip('.')})"
    return str(error).rstrip(".")


def _downloads(s3: "S3Client", files: Sequence[JobFile], scratch: Path) -> Iterator[tuple[JobFile, Path]]:
    """Yields the files in their order, and downloads several files at the same time."""
    paths = [scratch / f"{index}-{Path(file.key).name[-100:]}" for index, file in enumerate(files)]
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        for start in range(0, len(files), DOWNLOADS_AT_ONCE):
            some = slice(start, start + DOWNLOADS_AT_ONCE)
            list(pool.map(partial(_download, s3), files[some], paths[some]))
            yield from zip(files[some], paths[some], strict=True)


def _download(s3: "S3Client", file: JobFile, path: Path) -> None:
    pinned = {"Bucket": file.bucket, "Key": file.key, "IfMatch": f'"{file.etag.strip(chr(34))}"'}
    if file.version_id:
        pinned["VersionId"] = file.version_id
    try:
        body = s3.get_object(**pinned)["Body"]  # type: ignore[arg-type]
        with path.open("wb") as target:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                target.write(chunk)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412:
            raise JobFailedError(
                f"The file '{file.label}' has changed since the job started. Start it again to use the new content."
            ) from error
        raise JobFailedError(f"The file '{file.label}' cannot be read: {reason_of(error)}.") from error
    except BotoCoreError as error:
        raise JobFailedError(f"The file '{file.label}' cannot be read: {reason_of(error)}.") from error


def _read(file: JobFile, path: Path, column: str, target: str) -> tuple[pl.DataFrame, ReadNotes]:
    """Returns the rows of one file, with its label column renamed to ``target``, and the reader's notes."""
    stated = FileFormat(file.format) if file.format else None
    options = file.read_options or ReadOptions()
    try:
        with opened(path, stated, name=Path(file.key).name, options=options) as source:
            frame = source.collect(lambda rows: rows)
            notes = source.notes
    except UnreadableFileError as error:
        raise JobFailedError(f"The file '{file.label}' cannot be read: {error}") from error
    if column not in frame.columns:
        near = difflib.get_close_matches(column, frame.columns, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its columns are {', '.join(frame.columns[:20])}"
        raise JobFailedError(f"The target column '{column}' is not in the file '{file.label}': {hint}")
    if column != target:
        # Beside the label, a column with the target's name is another one, and no model learns from it.
        frame = frame.drop(target, strict=False).rename({column: target})
    return frame, notes
