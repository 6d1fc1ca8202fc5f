"""Encoded rows on disk: what a model is fitted on, batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from functions.jobs.fitting.base import Examples
from shared.propensity.features import Matrix
from shared.propensity.holdouts import Draws, Labels, Mask

# What is known of a row beside its features.
_FACTS = np.dtype([("label", "f4"), ("held_out", "?"), ("draw", "f8")])
RowFacts = npt.NDArray[np.void]


@dataclass(frozen=True)
class Folds:
    """Each row's draw says for which of ``count`` models it is validation, or for a single one by ``fraction``."""

    count: int
    fraction: float

    def has(self, index: int, draws: Draws) -> Mask:
        """Returns the mask of the rows that validate the model."""
        if self.count == 1:
            return draws < self.fraction
        return np.asarray((draws * self.count).astype(np.int64) == index)


@dataclass
class EncodedRows:
    """The rows of one worker. Whoever gives the folder removes it."""

    folder: Path
    parts: list[Path] = field(default_factory=list)

    def add(self, matrix: Matrix, labels: Labels, held_out: Mask, draws: Draws) -> None:
        """Keeps the rows of a batch."""
        if not len(labels):
            return
        facts = np.empty(len(labels), dtype=_FACTS)
        facts["label"], facts["held_out"], facts["draw"] = labels, held_out, draws
        path = self.folder / f"rows-{len(self.parts):06}"
        np.save(path.with_suffix(".matrix.npy"), matrix, allow_pickle=False)
        np.save(path.with_suffix(".facts.npy"), facts, allow_pickle=False)
        self.parts.append(path)

    def held_out(self) -> Iterator[Examples]:
        """Yields the rows that no model is fitted on."""
        for path, facts in self._facts():
            yield from _taken(path, facts, facts["held_out"])

    def fitted(self) -> Iterator[Examples]:
        """Yields all other rows."""
        for path, facts in self._facts():
            yield from _taken(path, facts, ~facts["held_out"])

    def fold(self, folds: Folds, index: int, *, validates: bool) -> Iterator[Examples]:
        """Yields the fitted rows that validate the model of a fold, or those that it is fitted on."""
        for path, facts in self._facts():
            yield from _taken(path, facts, ~facts["held_out"] & (folds.has(index, facts["draw"]) == validates))

    def counts(self) -> npt.NDArray[np.int64]:
        """Returns how many rows are fitted, how many of them are positive, and the same of the held-out ones."""
        found = np.zeros(4, dtype=np.int64)
        for _, facts in self._facts():
            for place, rows in ((0, facts[~facts["held_out"]]), (2, facts[facts["held_out"]])):
                found[place : place + 2] += (len(rows), int(rows["label"].sum()))
        return found

    def fold_counts(self, folds: Folds) -> npt.NDArray[np.int64]:
        """Returns the rows of each label on both sides of each fold: (folds, validates, label)."""
        found = np.zeros((folds.count, 2, 2), dtype=np.int64)
        for _, facts in self._facts():
            rows = facts[~facts["held_out"]]
            for index in range(folds.count):
                validates = folds.has(index, rows["draw"]).astype(np.int64)
                np.add.at(found[index], (validates, rows["label"].astype(np.int64)), 1)
        return found

    def _facts(self) -> Iterator[tuple[Path, RowFacts]]:
        for path in self.parts:
            yield path, np.load(path.with_suffix(".facts.npy"), allow_pickle=False)


def joined_rows(parts: Iterator[Examples], columns: int) -> Examples:
    """Returns the rows of all parts, of which there may be none."""
    found = [Examples(np.empty((0, columns), dtype=np.float32), np.empty(0, dtype=np.float32)), *parts]
    return Examples(np.concatenate([each.matrix for each in found]), np.concatenate([each.labels for each in found]))


def _taken(path: Path, facts: RowFacts, rows: Mask) -> Iterator[Examples]:
    if rows.any():
        matrix = np.load(path.with_suffix(".matrix.npy"), mmap_mode="r", allow_pickle=False)
        yield Examples(matrix[rows], np.ascontiguousarray(facts["label"][rows]))
