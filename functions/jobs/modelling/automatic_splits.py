"""Chooses the holdout of a training without a split: rows that are similar to the rows that the model will score."""

import re
from collections.abc import Sequence

import polars as pl

from functions.jobs.modelling.frames import NOTHING, DateFormats, date_formats_of
from functions.jobs.modelling.splits import choose_holdout, held_out_rows
from shared.errors import JobFailedError
from shared.files.column_names import snake_case
from shared.models.job import JobSplit
from shared.propensity.holdouts import Draws, Holdout, Labels, Mask
from shared.propensity.tables import clean_text

# Names of columns with the time of an observation. Start dates of customers and birth dates must not match.
_OBSERVED = re.compile(
    r"(date|datetime|time|timestamp|ts|dt|day|week|month|quarter|period|ym|yyyymm|year_?month|as_?of(_?(date|dt|month))?)|"
    r"(observed|observation|obs|snapshot|event|recorded|record|reference|ref|reporting|report|transaction|trans|txn|order"
    r"|contact|campaign|call|visit|application|decision|created|inserted|loan|issued?|invoice|payment|statement|score)"
    r"_?(date|datetime|time|timestamp|ts|dt|d|at|on|day|month|mth|period|ym)"
)
_ENTITY = re.compile(
    r"(customer|cust|client|person|user|member|subscriber|subscription|household|account|acct|policyholder|policy|patient"
    r"|borrower|loan|contract|card|employee|lead|contact|entity)_?(id|no|nr|num|number|key|uuid|guid|code)|msisdn|imsi"
)
# A holdout of less than half or more than twice the share that was asked for is another split than that.
_SHARE_FACTOR = 2
_LARGEST_SHARE = 0.9
# Giant groups fall on either side by the seed, so some seeds are tried.
_SEEDS = 10
_LEAST_KNOWN = 0.9
_LEAST_GROUPS = 10
_LEAST_OF_A_CLASS = 2


def automatic_holdout(
    test_fraction: float,
    seed: int,
    frame: pl.DataFrame,
    draws: Draws,
    labels: Labels,
    formats: DateFormats = NOTHING,
    alike: Sequence[str] | None = None,
) -> tuple[Holdout, str]:
    """Returns the rule and its reason: split by time, or else by entity, or else at random.

    A random split would give too good metrics if rows belong together or if the future differs from the past.
    """
    columns = [("time", name) for name in _time_columns(frame, formats)]
    columns += [("group", name) for name in repeated_entities(frame)]
    candidates = [
        JobSplit.model_validate({"kind": kind, "column": name, "test_fraction": test_fraction})
        for kind, name in columns
    ]
    for split in candidates:
        for attempt in range(_SEEDS if split.kind == "group" else 1):
            try:
                holdout = choose_holdout(split, seed + attempt, frame, draws, labels, formats)
            except JobFailedError:  # the column has only one time
                break
            held_out = held_out_rows(holdout, frame, draws, labels)
            if _has_both(labels, held_out) and _as_asked(held_out, test_fraction):
                rows = "The latest rows" if split.kind == "time" else "Whole groups of rows"
                return holdout, f"{rows} by '{split.column}' were held out. Set split to change this."
    reason = ""
    if candidates:
        names = ", ".join(f"'{split.column}'" for split in candidates[:5])
        reason = (
            f"Rows were held out at random, because a split by {names} leaves too few rows of a label on one side, or "
            f"less than half or more than twice of the {test_fraction:.0%} of the rows that test_fraction asks for."
        )
    at_random = JobSplit(kind="random", test_fraction=test_fraction)
    return choose_holdout(at_random, seed, frame, draws, labels, alike=alike), reason


def entity_columns(frame: pl.DataFrame) -> list[str]:
    """Returns the columns that name a client, by their names."""
    return [name for name in frame.columns if _ENTITY.fullmatch(snake_case(name))]


def repeated_entities(frame: pl.DataFrame) -> list[str]:
    """Returns the columns that name a client, and in which several rows have the same one."""
    named = [frame[name] for name in entity_columns(frame)]
    return [column.name for column in named if _LEAST_GROUPS <= column.n_unique() < len(column) - column.null_count()]


def _time_columns(frame: pl.DataFrame, formats: DateFormats) -> list[str]:
    named = [column for column in frame if _OBSERVED.fullmatch(snake_case(column.name))]
    return [column.name for column in named if _holds_times(column, formats)]


def _holds_times(column: pl.Series, formats: DateFormats) -> bool:
    if column.dtype == pl.String:
        column = clean_text(column)
        known = column.drop_nulls()
        written = formats[column.name] if column.name in formats else date_formats_of(known)
        return len(known) >= _LEAST_KNOWN * len(column) and written is not None
    if column.dtype.is_integer():
        return _holds_periods(column)
    is_time = column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime)
    return is_time and column.null_count() <= (1 - _LEAST_KNOWN) * len(column)


def _holds_periods(column: pl.Series) -> bool:
    """Returns whether whole numbers are months such as 202401, or days such as 20240131."""
    known = column.drop_nulls().cast(pl.Int64)
    days = known * 100 + 1 if (known.max() or 0) < 10**6 else known  # type: ignore[operator]
    year, month, day = days // 10_000, days // 100 % 100, days % 100
    valid = year.is_between(1900, 2100) & month.is_between(1, 12) & day.is_between(1, 31)
    return len(known) >= _LEAST_KNOWN * max(len(column), 1) and bool(valid.all())


def _as_asked(held_out: Mask, fraction: float) -> bool:
    """Returns whether about the share that was asked for is held out."""
    return bool(fraction / _SHARE_FACTOR <= held_out.mean() <= min(fraction * _SHARE_FACTOR, _LARGEST_SHARE))


def _has_both(labels: Labels, held_out: Mask) -> bool:
    """Returns whether both sides have enough rows of both labels."""
    sides = (labels[held_out], labels[~held_out])
    return all(min(side.sum(), len(side) - side.sum()) >= _LEAST_OF_A_CLASS for side in sides)
