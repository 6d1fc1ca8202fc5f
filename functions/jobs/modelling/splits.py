"""Chooses the holdout of a training, and finds the same rows again in an evaluation."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from functions.jobs.modelling.frames import NOTHING, DateFormats, date_formats_of
from functions.jobs.modelling.repeated_rows import content_draws
from shared.errors import JobFailedError
from shared.models.job import JobFile, JobSplit
from shared.propensity.dates import DateReading, date_readings
from shared.propensity.features import text_of
from shared.propensity.holdouts import Draws, GroupHoldout, Holdout, Labels, Mask, RandomHoldout, TimeHoldout
from shared.propensity.tables import clean_text, times_of


def row_draws(seed: int, file: JobFile, rows: int) -> Draws:
    """Returns one number in [0, 1) for each row of a file. The same content always gets the same numbers."""
    return draws_in_turn(seed, file)(rows)


def draws_in_turn(seed: int, file: JobFile) -> Callable[[int], Draws]:
    """Returns a function that returns the numbers of ``row_draws`` for the next rows of a file."""
    digest = hashlib.sha256(f"{seed}:{file.etag}:{file.size_bytes}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32)).random


def group_draws(column: pl.Series, seed: int) -> Draws:
    """Returns one number in [0, 1) for each row, equal within a group. Rows without a group form one group."""
    distinct = column.unique()
    draws = []
    for value in distinct.to_list():
        digest = hashlib.sha256(f"{seed}:{text_of(value)}".encode()).digest()
        draws.append(int.from_bytes(digest[:6], "big") / 2**48)
    return column.replace_strict(distinct, draws, return_dtype=pl.Float64).to_numpy()


def choose_holdout(
    split: JobSplit,
    seed: int,
    frame: pl.DataFrame,
    draws: Draws,
    labels: Labels,
    formats: DateFormats = NOTHING,
    alike: Sequence[str] | None = None,
) -> Holdout:
    """Returns the rule that holds out about ``test_fraction`` of these rows. ``formats`` are those of their dates.

    A random split keeps rows together that are equal in the columns ``alike``.

    Raises:
        JobFailedError: the split's column is missing, has no times, or leaves one side without rows.
    """
    if split.kind == "random":
        draws = draws if alike is None else content_draws(frame, alike, seed)
        limits = tuple(_limit(draws[labels == label], split.test_fraction) for label in (0, 1))
        return RandomHoldout(seed=seed, limits=(limits[0], limits[1]), columns=None if alike is None else list(alike))
    if split.column is None or split.column not in frame.columns:
        raise JobFailedError(f"The column '{split.column}' of the {split.kind} split is not in the files.")
    column = frame[split.column]
    return _by_time(column, split, formats) if split.kind == "time" else _by_group(column, split, seed)


def held_out_rows(rule: Holdout, frame: pl.DataFrame, draws: Draws, labels: Labels) -> Mask:
    """Returns the mask of the rows that the rule holds out."""
    if isinstance(rule, RandomHoldout):
        return rule.held_out(draws if rule.columns is None else content_draws(frame, rule.columns, rule.seed), labels)
    if rule.column not in frame.columns:
        raise JobFailedError(f"The column '{rule.column}' of the {rule.kind} split is not in the files.")
    column = frame[rule.column]
    if isinstance(rule, TimeHoldout):
        return rule.held_out(_moments(column, rule.readings))
    return rule.held_out(group_draws(column, rule.seed))


def validation_folds(
    count: int, fraction: float, labels: Labels, groups: npt.NDArray[Any] | None, seed: int
) -> list[Mask]:
    """Returns the validation rows of each of ``count`` models. The folds do not overlap.

    The folds have similar shares of both labels, and consist of whole ``groups`` (rows with equal values).
    """
    random = np.random.default_rng([seed, count])
    groups = np.arange(len(labels)) if groups is None else groups
    _, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    positive = np.bincount(group_of_row, weights=labels) > 0
    place = np.empty(len(sizes))
    for stratum in (~positive, positive):
        drawn = random.permutation(np.nonzero(stratum)[0])
        ends = np.cumsum(sizes[drawn])
        place[drawn] = (ends - sizes[drawn] / 2) / sizes[drawn].sum() if len(drawn) else 0.0
    if count == 1:
        held = place < fraction
        for stratum in (~positive, positive):
            # A small share of few rows is still one of each label, if that leaves another one.
            if stratum.sum() > 1 and not held[stratum].any():
                held[np.argmin(np.where(stratum, place, np.inf))] = True
        return [held[group_of_row]]
    return [((place * count).astype(int) == fold)[group_of_row] for fold in range(count)]


def _limit(draws: Draws, fraction: float) -> float:
    """Returns the number below which the share of the draws is: at least one draw, but not all of them."""
    if len(draws) < 2:
        return 0.0
    count = min(max(round(len(draws) * fraction), 1), len(draws) - 1)
    return float(np.partition(draws, count)[count])


def _by_time(column: pl.Series, split: JobSplit, formats: DateFormats) -> TimeHoldout:
    written = formats.get(column.name)
    if column.name not in formats and column.dtype == pl.String:
        written = date_formats_of(clean_text(column).drop_nulls())
    written = tuple(written or ())
    moments = _moments(column, date_readings(written))
    known = np.sort(moments[np.isfinite(moments)])
    if len(known) < 2 or known[0] == known[-1]:
        raise JobFailedError(
            f"The column '{column.name}' cannot split by time, because it has fewer than two different times. "
            "Choose a column of dates, times or whole numbers such as years."
        )
    # Keeps rows on both sides: the limit is at least the earliest and at most the second latest time.
    place = known[max(round(len(known) * (1 - split.test_fraction)), 1) - 1]
    after = place if place < known[-1] else known[known < known[-1]][-1]
    return TimeHoldout(column=column.name, date_formats=list(written), after=float(after))


def _by_group(column: pl.Series, split: JobSplit, seed: int) -> GroupHoldout:
    draws = group_draws(column, seed)
    distinct, sizes = np.unique(draws, return_counts=True)
    if len(distinct) < 2:
        raise JobFailedError(f"The column '{column.name}' cannot split by group, because it has only one group.")
    wanted = split.test_fraction * len(draws)
    # The number of groups closest to the share: at least one group, but not all groups.
    count = int(np.argmin(np.abs(np.cumsum(sizes)[:-1] - wanted))) + 1
    return GroupHoldout(column=column.name, seed=seed, limit=float(distinct[count]))


def _moments(column: pl.Series, readings: Sequence[DateReading]) -> npt.NDArray[np.float64]:
    """Returns times as seconds. The numbers of a numeric column (years, epochs) stay unchanged."""
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).to_numpy()
    return times_of(column, readings)


def same_content(files: Sequence[JobFile]) -> set[tuple[str, int]]:
    """Returns keys that identify the content of files independently of their names."""
    return {(file.etag, file.size_bytes) for file in files}
