"""A sample of all workers' rows, by which the first one decides for all. Up to some size, it is every row."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from functions.jobs.concatenation import FileRows, concatenate
from functions.jobs.modelling.targets import label_texts
from functions.jobs.sharded.prepared import PreparedFile, RowBatch
from functions.jobs.sources import DatasetTable, require_columns
from shared.errors import JobFailedError
from shared.propensity.features import value_key

# Of all workers together.
SAMPLE_CELLS = 8_000_000
# A cell takes 8 to 30 bytes, several times while the sample is examined.
BYTES_A_SAMPLED_CELL = 80
FEWEST_ROWS = 2_000
_DRAW, _HASH = "\ndraw", "\nhash"


@dataclass
class Sample:
    """The rows of one worker whose hash is below a limit: copies of a row are all in it, or none.

    It also counts the labels of all rows.
    """

    target: str
    most_rows: int
    limit: float = 1.0
    counts: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    # By the file as JSON.
    files: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    rows: int = 0

    def add(self, batch: RowBatch) -> None:
        """Takes the rows of a batch that have a label, and fewer of all when they become too many."""
        texts = batch.labels(self.target)
        for text, count in texts.value_counts().iter_rows():
            if text is None:
                self.unlabelled += count
            else:
                self.counts[text] = self.counts.get(text, 0) + count
        features = batch.frame.drop(self.target)
        hashes = pl.Series(_HASH, features.hash_rows().to_numpy() / 2.0**64)
        frame = features.with_columns(texts.alias(self.target), pl.Series(_DRAW, batch.draws), hashes)
        frame = frame.filter(pl.col(self.target).is_not_null() & (pl.col(_HASH) < self.limit))
        self.files.setdefault(batch.file.model_dump_json(), []).append(frame)
        self.rows += frame.height
        while self.rows > self.most_rows and self.limit > 2.0**-40:
            self.keep_below(self.limit / 2)

    def keep_below(self, limit: float) -> None:
        """Drops the rows with other hashes."""
        if limit < self.limit:
            self.limit = limit
            self.files = {
                file: [pl.concat(frames).filter(pl.col(_HASH) < limit)] for file, frames in self.files.items()
            }
            self.rows = sum(frame.height for frames in self.files.values() for frame in frames)

    def to_bytes(self) -> bytes:
        """Returns it for the first worker."""
        parts, contents = [], []
        for name, frames in self.files.items():
            content = io.BytesIO()
            pl.concat(frames).drop(_HASH).write_ipc(content, compression="lz4")
            contents.append(content.getvalue())
            parts.append({"file": name, "bytes": len(contents[-1])})
        header = json.dumps(
            {"counts": self.counts, "unlabelled": self.unlabelled, "limit": self.limit, "parts": parts}
        ).encode()
        return b"".join((len(header).to_bytes(8, "little"), header, *contents))


@dataclass(frozen=True)
class SampledTable:
    """The samples of all workers in one table, and the texts and counts of the labels."""

    table: DatasetTable
    texts: pl.Series
    counts: dict[str, int]
    unlabelled: int
    is_whole: bool


def together(samples: Sequence[bytes], target: str) -> SampledTable:
    """Returns one table of the samples that the workers gave. Raises JobFailedError if there are no rows."""
    rows: list[FileRows] = []
    counts: dict[str, int] = {}
    unlabelled, is_whole, nested = 0, True, set[str]()
    for sample in samples:
        start = 8 + int.from_bytes(sample[:8], "little")
        header = json.loads(sample[8:start])
        unlabelled += header["unlabelled"]
        is_whole &= header["limit"] == 1
        for text, count in header["counts"].items():
            counts[text] = counts.get(text, 0) + count
        for part in header["parts"]:
            file = PreparedFile.model_validate_json(part["file"])
            frame = pl.read_ipc(io.BytesIO(sample[start : start + part["bytes"]]))
            start += part["bytes"]
            nested.update(file.nested)
            rows.append(FileRows(frame, file.formats))
    require_columns({name for each in rows for name in each.rows.columns} - {_DRAW})
    if not sum(counts.values()) + unlabelled:
        raise JobFailedError("The files have no rows. Upload files with rows, or choose other files.")
    spelled: dict[str, str] = {}
    for text in sorted(counts):
        spelled.setdefault(value_key(text), text)
    joined = concatenate(rows)
    draws = joined.rows[_DRAW].to_numpy()
    frame = joined.rows.drop(_DRAW)
    table = DatasetTable(frame, draws, np.zeros(len(draws), dtype=np.intp), [], joined.formats, joined.notes, nested)
    by_spelling: dict[str, int] = {}
    for text, count in counts.items():
        by_spelling[spelled[value_key(text)]] = by_spelling.get(spelled[value_key(text)], 0) + count
    return SampledTable(table, label_texts(frame[target], spelled.values()), by_spelling, unlabelled, is_whole)
