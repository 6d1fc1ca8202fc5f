"""Types of text columns: written numbers, identifiers, dates, and what the values leave open."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.files.column_types import (
    ALL_READINGS,
    NUMBER_FORMATS,
    Choice,
    ColumnType,
    TypeReading,
    choose,
    cleaned,
    examine,
    first_values,
    narrow,
)

GROUPS = {"1,234.5": ",", "1.234,5": ".", "1 234,5": "\u202f", "1 234.5": " ", "1'234.5": "'", "1'234,5": "\u2019"}


def choice_of(*values: str, decimal: str | None = None, date_format: str | None = None) -> Choice:
    text = pl.DataFrame({"^a$": values}).lazy()
    possible = narrow(first_values(text, ["^a$"], None), ALL_READINGS)
    return choose(examine(text, possible, None, is_sample=True)["^a$"], decimal, date_format)


def typed(reading: TypeReading, *values: str) -> list[object]:
    return pl.DataFrame({"a": values}).select(reading.parse(cleaned(pl.col("a")))).to_series().to_list()


@pytest.mark.row("FL-4")
@given(
    cents=st.lists(st.integers(-(10**13), 10**13).filter(lambda cents: cents % 100), min_size=1, max_size=5),
    name=st.sampled_from(sorted(NUMBER_FORMATS)),
    before=st.sampled_from(["", "€ ", "USD", "$"]),
    after=st.sampled_from(["", " €", "%", " CHF"]),
    negative=st.sampled_from(["-{}", "{}-", "({})"]),
)
def test_a_written_number_is_read_in_its_format(
    cents: list[int], name: str, before: str, after: str, negative: str
) -> None:
    written = NUMBER_FORMATS[name]
    texts = []
    for number in cents:
        digits = f"{abs(number) / 100:,.2f}".translate({ord(","): GROUPS[name], ord("."): written.decimal})
        text = f"{before}{digits}{after}"
        texts.append(negative.format(text) if number < 0 else text)
    assert typed(TypeReading(ColumnType.FLOAT, name), *texts) == pytest.approx([number / 100 for number in cents])


@pytest.mark.row("FL-4")
@pytest.mark.parametrize(
    ("values", "decimal", "expected"),
    [
        (["1.234,50", "7"], None, "1.234,5"),
        (["1,234.50", "12,34,567"], None, "1,234.5"),
        (["1,234"], None, "open: 1,234.5 1.234,5"),
        (["1,234"], ",", "1.234,5"),
        (["1,234"], ".", "1,234.5"),
        (["1.234"], None, "float, open: None 1.234,5"),
        (["0.234"], None, "float"),
        (["1,234", "12,5"], None, "1.234,5"),
        (["10.0.0.1", "192.168.1.1"], None, "string"),
        (["44 years"], None, "string"),
        (["12 ABC"], None, "string"),
    ],
)
def test_all_values_decide_about_the_marks_of_numbers(values: list[str], decimal: str | None, expected: str) -> None:
    found = choice_of(*values, decimal=decimal)
    kind = found.reading.format or found.reading.type.value
    named = f"open: {' '.join(str(reading.format) for reading in found.open)}" if found.open else ""
    shown = named if kind == "string" and named else f"{kind}, {named}" if named else kind
    assert shown == expected


@pytest.mark.row("FL-5")
@pytest.mark.parametrize(
    "value", ["007", "1234567890123456", "12345678901234567890", "12E5", "+4915112345678", "0044301234567", "-0123"]
)
def test_one_identifier_makes_a_column_of_numbers_text(value: str) -> None:
    found = choice_of("1", "20", value)
    assert (found.reading.type, found.is_identifier) == (ColumnType.STRING, True)


@pytest.mark.row("FL-6")
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["17.05.1990", "01.02.1991"], date(1990, 5, 17)),
        (["17.05.90", "01.02.45"], date(1990, 5, 17)),
        (["05/17/1990", "01/02/1991"], date(1990, 5, 17)),
        (["17-MAY-90", "01-JUN-03"], date(1990, 5, 17)),
        (["May 17, 1990", "May 18, 1990"], date(1990, 5, 17)),
    ],
)
def test_dates_are_read_in_the_one_format_that_all_values_have(values: list[str], expected: date) -> None:
    assert typed(choice_of(*values).reading, values[0]) == [expected]


@pytest.mark.row("FL-6")
def test_dates_with_two_orders_stay_text_until_a_format_is_stated() -> None:
    found = choice_of("05/06/2023", "07/08/2023")
    assert (found.reading.type, [reading.format for reading in found.open]) == ("string", ["%d/%m/%Y", "%m/%d/%Y"])
    stated = choice_of("05/06/2023", "07/08/2023", date_format="%m/%d/%Y")
    assert typed(stated.reading, "05/06/2023") == [date(2023, 5, 6)]


def test_a_year_of_two_digits_is_never_one_of_the_first_century() -> None:
    assert typed(TypeReading(ColumnType.DATE, "%d.%m.%Y"), "17.05.90", "17.05.1990") == [None, date(1990, 5, 17)]
    years = typed(TypeReading(ColumnType.DATE, "%d.%m.%y"), "01.01.00", "01.01.69", "01.01.70", "01.01.99")
    assert [year.year for year in years if isinstance(year, date)] == [2000, 2069, 1970, 1999]
