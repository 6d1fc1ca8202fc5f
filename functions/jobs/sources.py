"""Reads the pinned files of a job as one table."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from shared.files.errors import UnreadableFileError
from shared.files.formats import FileFormat
from shared.files.notes import ReadNotes
from shared.files.readers import opened
from shared.models.job import JobDataset, JobFile
from shared.models.reading import COLUMNS_LIMIT, ReadOptions
from shared.propensity.holdouts import Draws, Mask


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
            column = dataset.target or target
            for file, path in Downloads(dataset.access, client).files(dataset.files, Path(scratch)):
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
