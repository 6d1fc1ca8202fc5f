"""Finds the values of a table that a model can't use: it can't read them, or it has never seen them."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from shared.errors import JobFailedError
from shared.propensity.features import EXPECTED, Feature, FeatureSchema, Matrix
from shared.propensity.holdouts import Mask
from shared.propensity.tables import clean_text, numbers_of

# More values than this that can't be read make a measurement worthless.
MAX_UNREAD_SHARE = 0.05
# From this share of rows on, unseen categories are worth a warning.
UNSEEN_SHARE = 0.2
_EXAMPLE_CHARACTERS = 100
_NAMED_COLUMNS = 5


@dataclass(frozen=True)
class _Unread:
    """Values of a column that were given but can't be read."""

    feature: Feature
    share: float
    example: str

    @property
    def sentence(self) -> str:
        return (
            f"{_percent(self.share)} of the known values of the column '{self.feature.name}' are not "
            f"{self.feature.expected}, for example '{self.example}'"
        )


def check_values(schema: FeatureSchema, frame: pl.DataFrame, matrix: Matrix) -> list[str]:
    """Returns warnings about the values of a table that a model can't use. ``matrix`` is the encoded table.

    Raises:
        JobFailedError: of a column, more than 5 % of the known values can't be read.
    """
    unread: list[_Unread] = []
    warnings: list[str] = []
    start = 0
    for feature in schema.features:
        series, missing = frame[feature.name], np.isnan(matrix[:, start])
        start += len(feature.columns)
        unusable = _known(series) & missing
        if feature.kind == "numeric":
            # A number beyond single precision is missing, as it was in the training.
            unusable &= np.isnan(numbers_of(series))
        if not unusable.any():
            continue
        example = str(series.filter(pl.Series(unusable))[0])[:_EXAMPLE_CHARACTERS]
        if feature.kind in EXPECTED:
            unread.append(_Unread(feature, unusable.sum() / _known(series).sum(), example))
        elif (share := float(unusable.mean())) > UNSEEN_SHARE:
            warnings.append(
                f"{_percent(share)} of the rows have a category in the column '{feature.name}' that the model was "
                f"not trained on, for example '{example}'."
            )
    _require_readable(unread)
    return [f"{each.sentence}. They count as missing." for each in unread] + warnings


def _require_readable(unread: list[_Unread]) -> None:
    failed = sorted((each for each in unread if each.share > MAX_UNREAD_SHARE), key=lambda each: -each.share)
    if failed:
        found = "; ".join(each.sentence for each in failed[:_NAMED_COLUMNS])
        more = f"; and {len(failed) - _NAMED_COLUMNS} more columns" if len(failed) > _NAMED_COLUMNS else ""
        raise JobFailedError(
            f"The benchmark does not fit the model: {found}{more}. Write the values as in the training's files."
        )


def _known(series: pl.Series) -> Mask:
    """Returns the mask of the values that are not missing."""
    if isinstance(series.dtype, (pl.Categorical, pl.Enum)):
        series = series.cast(pl.String)
    if series.dtype == pl.String:
        series = clean_text(series)
    known = series.is_not_null() & series.is_not_nan() if series.dtype.is_float() else series.is_not_null()
    return np.asarray(known.fill_null(value=False).to_numpy(), dtype=np.bool_)


def _percent(share: float) -> str:
    return "Less than 0.1 %" if share < 0.001 else f"{share * 100:.3g} %"
