"""Reads the target column: its two labels, and which of them is the positive one."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from shared.errors import JobFailedError
from shared.propensity.architectures.base import Labels
from shared.propensity.features import text_of, value_key

# The positive answer first.
KNOWN_PAIRS = (
    ("1", "0"),
    ("1", "-1"),
    ("true", "false"),
    ("t", "f"),
    ("yes", "no"),
    ("y", "n"),
    ("positive", "negative"),
    ("bad", "good"),
)


def answers(column: pl.Series, labels: Iterable[str] = ()) -> pl.Series:
    """Returns the canonical text of every cell of the target: one for all spellings of a label, if given that one.

    Raises:
        JobFailedError: the cells are lists or structures.
    """
    if isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String)
    dtype = column.dtype
    if not (dtype.is_numeric() or dtype.is_temporal() or dtype in (pl.String, pl.Boolean, pl.Null)):
        raise JobFailedError(f"The target column '{column.name}' holds {dtype}: a target is text or a number.")
    distinct = column.unique()
    texts = [text_of(value) for value in distinct.to_list()]
    spellings: dict[str, str] = {}
    for text in (*labels, *sorted({text for text in texts if text is not None})):
        spellings.setdefault(value_key(text), text)
    texts = [None if text is None else spellings[value_key(text)] for text in texts]
    return column.replace_strict(distinct, texts, default=None, return_dtype=pl.String)


def two_labels(name: str, counts: dict[str, int], positive: str | None) -> tuple[str, str]:
    """Returns the positive and the negative label, from their numbers of rows.

    Given, it is the one asked for; else the positive one of a known pair (yes/no, 1/0, …, in any case); else the rarer
    one, and of two equally frequent ones the later in the alphabet.

    Raises:
        JobFailedError: there aren't exactly two answers, or the one asked for isn't among them.
    """
    labels = sorted(counts)
    if not labels:
        raise JobFailedError(f"The target column '{name}' is empty: a propensity model needs rows with known answers.")
    if len(labels) == 1:
        raise JobFailedError(
            f"The target column '{name}' has one class only ('{labels[0]}'): a propensity model needs two."
        )
    if len(labels) > 2:
        some = ", ".join(f"'{label[:50]}'" for label in labels[:5]) + (", …" if len(labels) > 5 else "")
        raise JobFailedError(
            f"The target column '{name}' has {len(labels)} classes ({some}): a propensity model needs exactly two. "
            "Choose another target, or give one with two answers."
        )
    chosen = _spelled_as(labels, positive) if positive is not None else _usual(labels)
    if chosen is not None and chosen not in labels:
        raise JobFailedError(
            f"The positive label '{chosen}' does not occur in the target column '{name}': it holds "
            f"'{labels[0]}' and '{labels[1]}'."
        )
    chosen = chosen or min(reversed(labels), key=lambda label: counts[label])
    return chosen, next(label for label in labels if label != chosen)


def to_labels(texts: pl.Series, positive: str) -> Labels:
    """1 where the answer is the positive one, 0 elsewhere."""
    return np.asarray((texts == positive).to_numpy(), dtype=np.float32)


def _spelled_as(labels: Iterable[str], wanted: str) -> str | None:
    """Returns the label that a text means, in the spelling of the labels if it is among them."""
    text = text_of(wanted)
    return next((label for label in labels if text and value_key(label) == value_key(text)), text)


def _usual(labels: Iterable[str]) -> str | None:
    folded = {label.casefold(): label for label in labels}
    return next((folded[good] for good, other in KNOWN_PAIRS if set(folded) == {good, other}), None)
