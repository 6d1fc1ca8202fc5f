"""The one list of missing values in features and targets: what a table and single rows make of it."""

import numpy as np
import polars as pl
import pytest

from functions.jobs.modelling.frames import infer_schema
from functions.jobs.modelling.targets import label_texts
from shared.models.missing_values import MISSING, MISSING_WORDS
from shared.propensity.features import Feature, FeatureSchema
from shared.propensity.tables import encode_frame

pytestmark = pytest.mark.row("FL-7")

VALUES = {"numeric": ["1", "2.5"], "boolean": ["true", "false"], "datetime": ["2024-01-31", "2024-02-01"]}


def encoded(schema: FeatureSchema, texts: list[str | None]) -> list[float]:
    """Returns the first column of the texts' matrix, the same for a table and for rows."""
    (name,) = [feature.name for feature in schema.features]
    from_table = encode_frame(schema, pl.DataFrame({name: texts}))
    from_rows = schema.encode_rows([{name: text} for text in texts])
    np.testing.assert_array_equal(from_table, from_rows)
    return [float(value) for value in from_rows[:, 0]]


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("missing", sorted(MISSING | MISSING_WORDS))
def test_every_spelling_is_missing_in_numbers_booleans_and_dates(kind: str, missing: str) -> None:
    schema = infer_schema(pl.DataFrame({"a": [*VALUES[kind], f" {missing} "]}))

    assert [feature.kind for feature in schema.features] == [kind]
    assert np.isnan(encoded(schema, [missing])).all()
    rows = [{"a": missing}]
    assert not list(schema.unread(rows, schema.encode_rows(rows)))


@pytest.mark.parametrize("word", sorted(MISSING_WORDS))
def test_a_word_is_a_category_like_any_other(word: str) -> None:
    schema = infer_schema(pl.DataFrame({"coupon": ["gold", word, word]}))

    assert schema.features[0].categories == [word, "gold"]
    assert encoded(schema, [word, f" {word} ", "gold"]) == [0, 0, 1]


@pytest.mark.parametrize("missing", sorted(MISSING))
def test_other_spellings_are_no_categories(missing: str) -> None:
    schema = infer_schema(pl.DataFrame({"coupon": ["gold", "silver", missing]}))

    assert sorted(schema.features[0].categories) == ["gold", "silver"]
    assert np.isnan(encoded(schema, [missing])).all()


def test_a_category_that_the_model_knows_comes_before_every_list() -> None:
    namibia = FeatureSchema(features=[Feature(name="country", kind="categorical", categories=["FR", "NA"])])
    many = FeatureSchema(features=[Feature(name="country", kind="categorical", categories=["FR"], others=True)])

    np.testing.assert_array_equal(encoded(namibia, ["NA", "null", "FR"]), [1, np.nan, 0])
    # Checkpoints from before the one list took the words for missing values, and still do.
    np.testing.assert_array_equal(encoded(many, ["FR", "-", "DE", "NA"]), [0, np.nan, 1, np.nan])


def test_a_word_can_be_a_class_of_the_target() -> None:
    texts = label_texts(pl.Series("fraud", ["none", "confirmed", "NA", "null", " None ", "-", ""]))

    assert texts.to_list() == ["none", "confirmed", None, None, "None", "-", None]
