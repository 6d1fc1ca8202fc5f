"""Reads the pinned files of a job as one table."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from functions.jobs.concatenation import FileRows, concatenate
from functions.jobs.file_warnings import FileNotes
from functions.jobs.modelling.frames import NOTHING, DateFormats
from functions.jobs.modelling.splits import row_draws
from shared.connectors.downloads import ClientFactory, Downloads
from shared.errors import JobFailedError
from shared.files.column_types import col
from shared.files.errors import UnreadableFileError
from shared.files.formats import FileFormat
from shared.files.notes import ReadNotes
from shared.files.readers import opened
from shared.files.sources import Source
from shared.models.job import JobDataset, JobFile
from shared.models.reading import COLUMNS_LIMIT, ReadOptions
from shared.propensity.holdouts import Draws, Mask


@dataclass(frozen=True)
class LocalFile:
    """A downloaded file, and the name of its label column."""

    pinned: JobFile
    path: Path
    target: str


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
    # Columns that hold lists or objects in a file.
    nested: set[str]
    file_notes: list[FileNotes] = field(default_factory=list)

    def of_files(self, wanted: Callable[[JobFile], bool]) -> Mask:
        """Returns the mask of the rows from the files for which ``wanted`` is true."""
        return np.array([wanted(file) for file in self.files], dtype=bool)[self.file_of_row]

    def filter(self, mask: Mask) -> "DatasetTable":
        """Returns the rows of the mask, without a copy if they are all."""
        if mask.all():
            return self
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
    with TemporaryDirectory(prefix="job-") as scratch:
        return read_files(download(datasets, target, client, Path(scratch)), seed, target, model_formats)


def download(datasets: Sequence[JobDataset], target: str, client: ClientFactory, scratch: Path) -> Iterator[LocalFile]:
    """Yields the pinned version of every file, some files ahead. Raises JobFailedError for a file that has changed."""
    for number, dataset in enumerate(datasets):
        folder = scratch / str(number)
        folder.mkdir()
        for file, path in Downloads(dataset.access, client).files(dataset.files, folder):
            yield LocalFile(file, path, dataset.target or target)


def read_files(
    local: Iterable[LocalFile], seed: int, target: str, model_formats: Mapping[str, Sequence[str]] = NOTHING
) -> DatasetTable:
    """Reads files and removes them. See ``read_datasets``."""
    files: list[JobFile] = []
    contents: list[FileRows] = []
    file_notes: list[FileNotes] = []
    for file in local:
        with opened_file(file) as source:
            rows = source.collect(partial(_columns, file=file, target=target, types=source.smaller_types))
            notes = source.notes
        contents.append(FileRows(rows, formats_of(notes, file.target)))
        file_notes.append(FileNotes(file.pinned.label, notes))
        files.append(file.pinned)
        file.path.unlink()
    heights = [content.rows.height for content in contents]
    require_columns({name for content in contents for name in content.rows.columns})
    together = concatenate(contents, model_formats)
    if not together.rows.height:
        raise JobFailedError("The files have no rows. Upload files with rows, or choose other files.")
    draws = np.concatenate([row_draws(seed, file, height) for file, height in zip(files, heights, strict=True)])
    file_of_row = np.repeat(np.arange(len(files)), heights)
    nested = {name for file in file_notes for name in file.notes.nested}
    return DatasetTable(together.rows, draws, file_of_row, files, together.formats, together.notes, nested, file_notes)


def require_columns(names: set[str]) -> None:
    """Raises JobFailedError for more columns than a row to score may have."""
    if len(names) > COLUMNS_LIMIT:
        raise JobFailedError(
            f"The files have {len(names):,} different columns together; at most {COLUMNS_LIMIT:,} can be used. Leave "
            "columns or files out."
        )


@contextmanager
def opened_file(file: LocalFile) -> Iterator[Source]:
    """Yields the reader of a file. Raises JobFailedError for one that can't be read or lacks the label column."""
    pinned = file.pinned
    stated = FileFormat(pinned.format) if pinned.format else None
    options = pinned.read_options or ReadOptions()
    try:
        with opened(file.path, stated, name=Path(pinned.key).name, options=options) as source:
            _require_label(pinned, source, file.target)
            yield source
    except UnreadableFileError as error:
        raise JobFailedError(f"The file '{pinned.label}' cannot be read: {error}") from error


def _require_label(file: JobFile, source: Source, column: str) -> None:
    columns = source.collect(lambda frame: frame.head(0)).columns
    if column not in columns:
        near = difflib.get_close_matches(column, columns, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its columns are {', '.join(columns[:20])}"
        raise JobFailedError(f"The target column '{column}' is not in the file '{file.label}': {hint}")


def label_column(frame: pl.LazyFrame, column: str, target: str) -> pl.LazyFrame:
    """Returns the rows of a file with its label column renamed to ``target``."""
    # Beside the label, a column with the target's name is another one, and no model learns from it.
    return frame if column == target else frame.drop(target, strict=False).rename({column: target})


def _columns(frame: pl.LazyFrame, file: LocalFile, target: str, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Returns the rows of a file with its label column, and other columns in ``types`` of less memory."""
    smaller = [col(name).cast(dtype) for name, dtype in types.items() if name != file.target]
    return label_column(frame.with_columns(smaller), file.target, target)


def formats_of(notes: ReadNotes, column: str) -> dict[str, list[str]]:
    """Returns the formats of dates. A label is a text, even if it looks like a date in one of the files."""
    return {name: found for name, found in notes.formats.items() if name != column}
