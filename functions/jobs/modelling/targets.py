"""Reads the target column: its two labels, and the positive label."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from shared.errors import JobFailedError
from shared.propensity.features import text_of, value_key
from shared.propensity.holdouts import Labels

# The positive label comes first. True and 1.0 are spellings of 1.
KNOWN_PAIRS = (
    ("1", "0"),
    ("1", "-1"),
    ("t", "f"),
    ("yes", "no"),
    ("y", "n"),
    ("positive", "negative"),
    ("bad", "good"),
)


def label_texts(column: pl.Series, labels: Iterable[str] = ()) -> pl.Series:
    """Returns the canonical text of every cell of the target: one of ``labels`` for all of its spellings.

    Raises:
        JobFailedError: the cells are lists or structures.
    """
    if isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String)
    dtype = column.dtype
    if not (dtype.is_numeric() or dtype.is_temporal() or dtype in (pl.String, pl.Boolean, pl.Null)):
        raise JobFailedError(f"The target column '{column.name}' has the type {dtype}, but must be text or a number.")
    distinct = column.unique()
    texts = [text_of(value) for value in distinct.to_list()]
    spellings: dict[str, str] = {}
    for text in (*labels, *sorted({text for text in texts if text is not None})):
        spellings.setdefault(value_key(text), text)
    texts = [None if text is None else spellings[value_key(text)] for text in texts]
    return column.replace_strict(distinct, texts, default=None, return_dtype=pl.String)


def two_labels(name: str, counts: dict[str, int], positive: str | None) -> tuple[str, str]:
    """Returns the positive and the negative label. ``counts`` has the number of rows of each label.

    The positive label is ``positive`` if it is set, or else the positive label of a known pair (such as yes/no, in
    upper or lower case), or else the rarer label, or else the later label in the alphabet.

    Raises:
        JobFailedError: there are not exactly two labels, or ``positive`` is not one of them.
    """
    labels = sorted(counts)
    if not labels:
        raise JobFailedError(f"The target column '{name}' is empty. A propensity model needs rows with labels.")
    if len(labels) == 1:
        raise JobFailedError(
            f"The target column '{name}' has only one label ('{labels[0]}'). A propensity model needs two labels."
        )
    if len(labels) > 2:
        some = ", ".join(f"'{label[:50]}'" for label in labels[:5]) + (", …" if len(labels) > 5 else "")
        raise JobFailedError(
            f"The target column '{name}' has {len(labels)} labels ({some}). A propensity model needs exactly two "
            "labels. Choose another target."
        )
    chosen = _spelled_as(labels, positive) if positive is not None else _usual(labels)
    if chosen is not None and chosen not in labels:
        raise JobFailedError(
            f"The positive label '{chosen}' does not occur in the target column '{name}'. The column has the labels "
            f"'{labels[0]}' and '{labels[1]}'."
        )
    chosen = chosen or min(reversed(labels), key=lambda label: counts[label])
    return chosen, next(label for label in labels if label != chosen)


def to_labels(texts: pl.Series, positive: str) -> Labels:
    """Returns 1 for each positive label and 0 for each other text."""
    return np.asarray((texts == positive).to_numpy(), dtype=np.float32)


def _spelled_as(labels: Iterable[str], wanted: str) -> str | None:
    """Returns the label that a text means, in the spelling of the labels if it is among them."""
    text = text_of(wanted)
    return next((label for label in labels if text and value_key(label) == value_key(text)), text)


def _usual(labels: Iterable[str]) -> str | None:
    folded = {value_key(label.casefold()): label for label in labels}
    return next((folded[good] for good, other in KNOWN_PAIRS if set(folded) == {good, other}), None)
