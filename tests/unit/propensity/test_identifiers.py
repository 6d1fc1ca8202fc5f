"""Codes that look like numbers: they are categories or identifiers, and match by their text."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.jobs.modelling.frames import infer_schema
from shared.propensity.tables import encode_frame

pytestmark = pytest.mark.row("FL-5")

CODES = ["007", "00", "+4915112345678", "1234567890123456", "-1234567890123456", "12E5", "1e10", "+5"]
NUMBERS = ["0", "-0.5", "0.1234567890123456789", "1e-05", "1.5E+10", "+1.5", "123456789012345", "00.5", "-7", ".5"]


@pytest.mark.parametrize("code", CODES)
def test_a_column_with_one_code_is_never_numeric(code: str) -> None:
    few = infer_schema(pl.DataFrame({"a": ["11", code, "12"] * 10}))
    many = infer_schema(pl.DataFrame({"a": [code, *map(str, range(11, 60))], "b": range(50)}))

    assert [(each.kind, sorted(each.categories)) for each in few.features] == [
        ("categorical", sorted(["11", "12", code]))
    ]
    assert [(each.name, each.reason.split(":")[0]) for each in many.dropped] == [("a", "it is an identifier")]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_are_no_codes_stay_numbers(number: str) -> None:
    schema = infer_schema(pl.DataFrame({"a": ["11", number, "12"] * 10}))

    assert [each.kind for each in schema.features] == ["numeric"]
    assert schema.encode_rows([{"a": number}])[0, 0] == np.float32(float(number))


@given(st.lists(st.integers(0, 99).map("{:03}".format), min_size=2, max_size=15, unique=True))
def test_codes_match_by_their_text_in_tables_and_in_rows(codes: list[str]) -> None:
    schema = infer_schema(pl.DataFrame({"a": codes}))
    categories = schema.features[0].categories
    assert sorted(categories) == sorted(codes)

    rows = [{"a": code} for code in codes]
    found = schema.encode_rows(rows)
    np.testing.assert_array_equal(found[:, 0], [categories.index(code) for code in codes])
    np.testing.assert_array_equal(found, encode_frame(schema, pl.DataFrame(rows)))


def test_a_number_is_no_code_with_leading_zeros() -> None:
    schema = infer_schema(pl.DataFrame({"a": ["007", "042", "42"]}))

    found = schema.encode_rows([{"a": cell} for cell in ("007", 7, 7.0, "7", 42, 42.0)])[:, 0]

    assert np.isnan(found[1:4]).all()
    assert found[0] == schema.features[0].categories.index("007")
    assert set(found[4:]) == {schema.features[0].categories.index("42")}
