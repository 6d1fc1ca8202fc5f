"""Chooses the holdout of a training without a split: rows that are similar to the rows that the model will score."""

import re

import polars as pl

from functions.jobs.modelling.frames import NOTHING, DateFormats, clean_text, date_formats_of
from functions.jobs.modelling.splits import choose_holdout, held_out_rows
from shared.errors import JobFailedError
from shared.files.column_names import snake_case
from shared.models.job import JobSplit
from shared.propensity.architectures.base import Labels
from shared.propensity.holdouts import Draws, Holdout, Mask

# Names of columns with the time of an observation. Start dates of customers and birth dates must not match.
_OBSERVED = re.compile(
    r"(date|datetime|time|timestamp|ts|day|week|month|quarter|period|as_?of(_?date)?)|"
    r"(observed|observation|snapshot|event|recorded|record|reference|reporting|report|transaction|order|contact|campaign"
    r"|call|visit|application|decision|created|inserted)_?(date|datetime|time|timestamp|at|on|day|month)"
)
_ENTITY = re.compile(
    r"(customer|client|person|user|member|subscriber|household|account|policyholder|patient|borrower|lead|contact|entity)"
    r"_?(id|no|nr|number|key|uuid|guid|code)"
)
_LEAST_KNOWN = 0.9
_LEAST_GROUPS = 10
_LEAST_OF_A_CLASS = 2


def automatic_holdout(
    test_fraction: float, seed: int, frame: pl.DataFrame, draws: Draws, labels: Labels, formats: DateFormats = NOTHING
) -> tuple[Holdout, str]:
    """Returns the rule and its reason: split by time, or else by entity, or else at random.

    A random split would give too good metrics if rows belong together or if the future differs from the past.
    """
    columns = [("time", name) for name in _time_columns(frame, formats)]
    columns += [("group", name) for name in _grouping_columns(frame)]
    candidates = [
        JobSplit.model_validate({"kind": kind, "column": name, "test_fraction": test_fraction})
        for kind, name in columns
    ]
    for split in candidates:
        try:
            holdout = choose_holdout(split, seed, frame, draws, labels, formats)
        except JobFailedError:  # the column has only one time
            continue
        if _has_both(labels, held_out_rows(holdout, frame, draws, labels)):
            rows = "The latest rows" if split.kind == "time" else "Whole groups of rows"
            return holdout, f"{rows} by '{split.column}' were held out. Set split to change this."
    reason = ""
    if candidates:
        names = ", ".join(f"'{split.column}'" for split in candidates[:5])
        reason = f"Rows were held out at random, because a split by {names} leaves too few rows of a label on one side."
    at_random = JobSplit(kind="random", test_fraction=test_fraction)
    return choose_holdout(at_random, seed, frame, draws, labels), reason


def entity_columns(frame: pl.DataFrame) -> list[str]:
    """Returns the columns that name a client, by their names."""
    return [name for name in frame.columns if _ENTITY.fullmatch(snake_case(name))]


def _time_columns(frame: pl.DataFrame, formats: DateFormats) -> list[str]:
    named = [column for column in frame if _OBSERVED.fullmatch(snake_case(column.name))]
    return [column.name for column in named if _holds_times(column, formats)]


def _holds_times(column: pl.Series, formats: DateFormats) -> bool:
    if column.dtype == pl.String:
        column = clean_text(column)
        known = column.drop_nulls()
        written = formats[column.name] if column.name in formats else date_formats_of(known)
        return len(known) >= _LEAST_KNOWN * len(column) and written is not None
    is_time = column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime)
    return is_time and column.null_count() <= (1 - _LEAST_KNOWN) * len(column)


def _grouping_columns(frame: pl.DataFrame) -> list[str]:
    """Returns the columns with values that several rows share."""
    named = [frame[name] for name in entity_columns(frame)]
    return [column.name for column in named if _LEAST_GROUPS <= column.n_unique() < len(column) - column.null_count()]


def _has_both(labels: Labels, held_out: Mask) -> bool:
    """Returns whether both sides have enough rows of both labels."""
    sides = (labels[held_out], labels[~held_out])
    return all(min(side.sum(), len(side) - side.sum()) >= _LEAST_OF_A_CLASS for side in sides)
