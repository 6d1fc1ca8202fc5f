"""The scores of a benchmark's single rows, which an evaluation keeps beside its result: ``scores.npy``.

A row's key comes from its file's content and its place there, so it is the same in the evaluations of all checkpoints.
"""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.propensity.errors import CheckpointError
from shared.propensity.influences import Array, Flags, ScoredRows

SCORES_FILE = "scores.npy"
# 7 MB. Of larger benchmarks, all evaluations keep the same rows: those whose mixed keys are the smallest.
MAX_ROWS = 500_000
MAX_BYTES = 8 * 2**20
ScoreKeys = npt.NDArray[np.uint64]
_ROW = np.dtype([("key", "<u8"), ("probability", "<f4"), ("positive", "?"), ("called", "?")])


def mixed(keys: ScoreKeys) -> ScoreKeys:
    """Returns random-looking numbers, the same for equal keys (the last steps of SplitMix64)."""
    state = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


def write_scores(folder: Path, keys: ScoreKeys, rows: ScoredRows) -> None:
    """Writes the rows, in the order of their keys."""
    kept = np.arange(len(keys))
    if len(keys) > MAX_ROWS:
        kept = np.argpartition(mixed(keys), MAX_ROWS)[:MAX_ROWS]
    kept = kept[np.argsort(keys[kept])]
    stored = np.empty(len(kept), dtype=_ROW)
    stored["key"], stored["probability"] = keys[kept], rows.probabilities[kept]
    stored["positive"], stored["called"] = rows.positive[kept], rows.called[kept]
    np.save(folder / SCORES_FILE, stored, allow_pickle=False)


def read_scores(content: bytes) -> tuple[ScoreKeys, ScoredRows]:
    """Returns what ``write_scores`` wrote. Raises CheckpointError if it is something else."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except (ValueError, OSError, EOFError) as error:
        raise CheckpointError(f"{SCORES_FILE} of the evaluation's artifact is damaged: {error}") from error
    rows = file.read()
    # The header is checked before numpy makes room for what it promises.
    if version != (1, 0) or dtype != _ROW or len(rows) > MAX_BYTES or shape != (len(rows) // _ROW.itemsize,):
        raise CheckpointError(f"{SCORES_FILE} of the evaluation's artifact is damaged: it has other rows or columns")
    stored = np.frombuffer(rows, dtype=_ROW, count=shape[0])
    probabilities: Array = stored["probability"].astype(np.float64)
    positive, called = np.asarray(stored["positive"]), np.asarray(stored["called"])
    return np.asarray(stored["key"]), ScoredRows(positive, probabilities, called)


def common_rows(
    one: tuple[ScoreKeys, ScoredRows], other: tuple[ScoreKeys, ScoredRows]
) -> tuple[ScoredRows, ScoredRows]:
    """Returns the rows that both evaluations scored and labelled alike, in the same order."""
    _, mine, theirs = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    alike: Flags = one[1].positive[mine] == other[1].positive[theirs]
    return _taken(one[1], mine[alike]), _taken(other[1], theirs[alike])


def _taken(rows: ScoredRows, chosen: npt.NDArray[np.intp]) -> ScoredRows:
    return ScoredRows(rows.positive[chosen], rows.probabilities[chosen], rows.called[chosen])
