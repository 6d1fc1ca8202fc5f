"""Turns the files of a host into Parquet of the basic types, from which rows are read in batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from functions.jobs.file_warnings import FileNotes, warnings_of
from functions.jobs.modelling.splits import draws_in_turn
from functions.jobs.modelling.targets import label_texts
from functions.jobs.sources import LocalFile, formats_of, label_column, opened_file
from shared.files.parquet_files import ParquetSource
from shared.files.sources import Source
from shared.models.job import JobFile, JobModel
from shared.propensity.holdouts import Draws

# Of one batch while it is read and encoded.
BATCH_CELLS = 2_000_000
_MANIFEST = "files.json"


class PreparedFile(JobModel):
    """A file of a host in Parquet, with its label column under the training's name."""

    pinned: JobFile
    parts: list[tuple[str, int]]
    columns: list[str]
    formats: dict[str, list[str]]
    nested: list[str]
    warnings: list[str]

    @property
    def rows(self) -> int:
        """Returns how many rows it has."""
        return sum(rows for _, rows in self.parts)


class PreparedFiles(JobModel):
    """All files of a host."""

    files: list[PreparedFile]

    def write(self, folder: Path) -> None:
        """Keeps the list for the other workers of the host."""
        (folder / _MANIFEST).write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "PreparedFiles":
        """Returns what ``write`` kept."""
        return cls.model_validate_json((folder / _MANIFEST).read_bytes())


@dataclass(frozen=True)
class RowBatch:
    """Some rows of a file, and two draws for each: the first decides whether it is held out."""

    file: PreparedFile
    frame: pl.DataFrame
    draws: Draws
    fold_draws: Draws

    def labels(self, target: str, spellings: Sequence[str] = ()) -> pl.Series:
        """Returns the text of each row's label."""
        return label_texts(self.frame[target], spellings)


def prepare(local: Iterable[LocalFile], target: str, folder: Path) -> PreparedFiles:
    """Converts files into ``folder``, and removes them. Raises JobFailedError for one that can't be read."""
    files = []
    for number, file in enumerate(local):
        with opened_file(file) as source:
            parts = _convert(source, file, target, folder, f"file-{number:05}")
            notes = source.notes
        file.path.unlink()
        files.append(
            PreparedFile(
                pinned=file.pinned,
                parts=[(str(path), rows) for path, rows in parts if rows],
                columns=list(pl.read_parquet_schema(parts[0][0])),
                formats=formats_of(notes, file.target),
                nested=sorted(notes.nested),
                warnings=warnings_of([FileNotes(file.pinned.label, notes)]),
            )
        )
    return PreparedFiles(files=files)


def _convert(source: Source, file: LocalFile, target: str, folder: Path, stem: str) -> list[tuple[Path, int]]:
    """Returns the Parquet files with the rows of one file, and their numbers of rows.

    Of Parquet, slices are converted one after the other, because a scan of all reads ahead. Text has no slices.
    """
    width = len(source.collect(lambda frame: frame.head(0)).columns)
    size = max(1, BATCH_CELLS // width)
    if not isinstance(source, ParquetSource):
        path = folder / f"{stem}.parquet"

        def write(frame: pl.LazyFrame) -> pl.LazyFrame:
            named = label_column(frame, file.target, target)
            return named.sink_parquet(path, compression="lz4", row_group_size=size, maintain_order=True, lazy=True)

        source.collect(write)
        return [(path, _count(pl.scan_parquet(path, glob=False)))]
    found = []
    for start in range(0, max(_count(source.frame()), 1), size):
        path = folder / f"{stem}-{start:012}.parquet"
        frame = source.collect(partial(_slice, start=start, size=size, column=file.target, target=target))
        frame.write_parquet(path, compression="lz4")
        found.append((path, frame.height))
    return found


def _slice(frame: pl.LazyFrame, *, start: int, size: int, column: str, target: str) -> pl.LazyFrame:
    return label_column(frame.slice(start, size), column, target)


def _count(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect(engine="streaming").item())


def batches(
    prepared: PreparedFiles, seed: int, share: int = 0, shares: int = 1, check: Callable[[], None] = lambda: None
) -> Iterator[RowBatch]:
    """Yields the rows of one of several workers of a host. ``check`` may raise between batches."""
    for file in prepared.files:
        draws = draws_in_turn(seed, file.pinned)
        # Other draws, or no held-out row would be in the first folds.
        fold_draws = draws_in_turn(seed + 1, file.pinned)
        for path, rows in file.parts:
            size = max(1, BATCH_CELLS // len(file.columns))
            for start in range(0, rows, size):
                check()
                frame = pl.scan_parquet(path, glob=False).slice(start, size).collect(engine="streaming")
                drawn, drawn_again = draws(frame.height), fold_draws(frame.height)
                mine = slice(share, None, shares)
                yield RowBatch(file, frame.gather_every(shares, share), drawn[mine], drawn_again[mine])
