"""A table and its rows one by one are the same to a model, also where it can't read a value."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.propensity.features import Feature, FeatureSchema
from shared.propensity.tables import encode_frame, unread_rows

FEATURES = [
    Feature(name="number", kind="numeric"),
    Feature(name="flag", kind="boolean"),
    Feature(name="date", kind="datetime", date_formats=["%d/%m/%Y"]),
    Feature(name="word", kind="categorical", categories=["a", "1"], others=True),
]
SCHEMA = FeatureSchema(features=FEATURES)
TEXTS = ["", " ", "-", "n/a", "NaN", "7", " 7 ", "1e400", "forty", "true", "0", "2026-01-31", "31/12/2025", "soon", "a"]
CELLS = st.one_of(st.none(), st.sampled_from(TEXTS), st.text(max_size=5))


@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=20))
def test_a_table_refuses_exactly_the_rows_that_a_request_refuses(cells: list[tuple[Any, ...]]) -> None:
    names = [feature.name for feature in FEATURES]
    frame = pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String()), orient="row")
    matrix = encode_frame(SCHEMA, frame)
    found = unread_rows(SCHEMA, frame, matrix)
    for index, row in enumerate(frame.to_dicts()):
        alone = SCHEMA.encode_rows([row])
        assert np.array_equal(alone[0], matrix[index], equal_nan=True)
        wanted = next((feature for _, feature in SCHEMA.unread([row], alone)), None)
        assert found.get(index) == wanted, json.dumps(row)


@pytest.mark.parametrize(
    ("column", "unread"),
    [
        (pl.Series("number", [1.5, None, 1e300]), []),
        (pl.Series("number", ["2026-01-31", None, "2026-01-31"]).str.to_date(), [0, 2]),
        (pl.Series("number", [True, None, False]), []),
    ],
)
def test_columns_of_any_type_are_judged_by_their_values(column: pl.Series, unread: list[int]) -> None:
    schema = FeatureSchema(features=[FEATURES[0]])
    frame = pl.DataFrame([column])
    assert sorted(unread_rows(schema, frame, encode_frame(schema, frame))) == unread
