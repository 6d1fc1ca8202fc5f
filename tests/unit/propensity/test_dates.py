"""Dates in texts: the format that a training found is the one that predictions and benchmarks are read in."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.jobs.modelling.frames import date_formats_of, infer_schema
from shared.files.column_types import DATES as FORMATS_OF_FILES
from shared.propensity.dates import date_part, date_readings, may_contradict, seconds_of_texts
from shared.propensity.features import Feature, FeatureSchema
from shared.propensity.tables import encode_frame

pytestmark = pytest.mark.row("FL-6")

DATES = [
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y%m%d",
    "%d %b %Y",
    "%B %d, %Y",
    "%Y/%m/%d",
    "%D",
]
SHORT = ["%d.%m.%y", "%m/%d/%y", "%y-%m-%d", "%d-%b-%y"]
TIMES = ["%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %T", "%Y%m%d%H%M%S", "%d.%m.%YT%H:%M%z"]


def encoded(schema: FeatureSchema, cells: list[Any]) -> np.ndarray[Any, Any]:
    """Returns the matrix of the only column, the same for a table and for rows."""
    (name,) = [feature.name for feature in schema.features]
    from_rows = schema.encode_rows([{name: cell} for cell in cells])
    np.testing.assert_array_equal(encode_frame(schema, pl.DataFrame({name: cells})), from_rows)
    return from_rows


@given(
    st.sampled_from([*DATES, *SHORT, *TIMES]),
    st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2069, 12, 31)), min_size=1, max_size=9),  # noqa: DTZ001
)
def test_every_moment_is_read_in_the_format_it_was_written_in(form: str, moments: list[datetime]) -> None:
    zone = timezone(timedelta(hours=2) if "%z" in form else timedelta(0))
    feature = Feature(name="at", kind="datetime", date_formats=[form], has_time=True)
    written = [moment.replace(tzinfo=zone).strftime(form) for moment in moments]
    seconds = {} if "%S" in form or "%T" in form else {"second": 0}
    kept = seconds if form in TIMES else {"hour": 0, "minute": 0, "second": 0}
    meant = [moment.replace(microsecond=0, tzinfo=zone, **kept).astimezone(UTC) for moment in moments]

    found = encoded(FeatureSchema(features=[feature]), written)

    np.testing.assert_array_equal(
        found, FeatureSchema(features=[feature]).encode_rows([{"at": each} for each in meant])
    )
    assert (found[:, -1] == [moment.hour for moment in meant]).all()


def test_files_and_predictions_read_every_format_alike() -> None:
    moment = datetime(2023, 11, 25, 13, 5, 7, 250_000, tzinfo=UTC)
    for reading in FORMATS_OF_FILES:
        form = reading.format or ""
        text = f"{moment:{form.replace('%.f', '.250').replace('%#z', '+00:00')}}"
        found = pl.DataFrame({"at": [text]}).select(reading.parse(pl.col("at")).cast(pl.Datetime("us"))).item()
        seconds = seconds_of_texts([text], date_readings((form,)))
        assert [found.replace(tzinfo=UTC, microsecond=0).timestamp()] == seconds.tolist(), form


def test_short_years_are_of_the_century_that_the_readers_take() -> None:
    seconds = seconds_of_texts(["01.01.00", "01.01.69", "01.01.70", "01.01.99"], date_readings(("%d.%m.%y",)))

    years = [datetime.fromtimestamp(each, UTC).year for each in seconds]
    assert years == [2000, 2069, 1970, 1999]


@pytest.mark.parametrize("form", [*DATES, *SHORT, *TIMES])
@pytest.mark.parametrize(
    "text", ["2026-05-17", "2026-05-17T00:00", "2026-05-17 02:00+02", "2026/5/17", "2026-05-17 00:00Z"]
)
def test_iso_dates_are_read_beside_every_format(form: str, text: str) -> None:
    schema = FeatureSchema(features=[Feature(name="at", kind="datetime", date_formats=[form])])

    assert encoded(schema, [text])[0].tolist() == [20590, 5, 6, 17]


@pytest.mark.parametrize("text", ["17/05/1990", "1990", "17.05.90", "32.01.1990", "17.13.1990", "17.05.1990x", "soon"])
def test_other_texts_are_not_read_and_reported_with_the_form_to_use(text: str) -> None:
    schema = FeatureSchema(features=[Feature(name="at", kind="datetime", date_formats=["%d.%m.%Y"])])
    rows = [{"at": text}]

    assert [(index, each.expected) for index, each in schema.unread(rows, schema.encode_rows(rows))] == [
        (0, "a date or time such as 2026-01-31 or 31.01.2026")
    ]


@pytest.mark.parametrize("time", ["", " 10:30", " 10:30:15.5", "T10:30Z", " 10:30+02", ", 10:30 AM"])
def test_a_time_may_follow_a_date_whether_the_training_had_times_or_not(time: str) -> None:
    for form in ("%d.%m.%Y", "%d.%m.%Y %H:%M:%S"):
        schema = FeatureSchema(features=[Feature(name="at", kind="datetime", date_formats=[form])])
        assert encoded(schema, [f"17.05.1990{time}"])[0, 1:].tolist() == [5, 3, 17]


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        (["2024-01-31", "2024-02-01"], []),
        (["31.01.2024", "1.2.2024"], ["%d.%m.%Y"]),
        (["31.01.24", "01.02.24"], ["%d.%m.%y"]),
        (["31/12/2023", "01/02/2024"], ["%d/%m/%Y"]),
        (["12/31/2023 10:30", "01/02/2024"], ["%m/%d/%Y"]),
        (["31-12-2023", "01.02.2024"], ["%d-%m-%Y", "%d.%m.%Y"]),
        (["01/02/2024", "03/04/2024"], ["%m/%d/%Y"]),
        (["01.02.2024", "03.04.2024"], ["%d.%m.%Y"]),
        (["1.2.30", "10.4.11"], None),
        (["10.0.0.1", "10.0.0.2"], None),
        (["soon", "31.01.2024"], None),
    ],
)
def test_formats_are_found_in_texts_that_no_reader_has_looked_at(texts: list[str], formats: list[str] | None) -> None:
    assert date_formats_of(pl.Series(texts)) == formats


def test_a_column_of_texts_is_learned_in_the_formats_that_are_known_already() -> None:
    frame = pl.DataFrame({"at": ["01/02/2024", "03/04/2024"], "open": ["01/02/2024", "03/04/2024"], "n": [1, 2]})

    schema = infer_schema(frame, formats={"at": ["%d/%m/%Y"], "open": None})

    by_name = {feature.name: feature for feature in schema.features}
    assert (by_name["at"].kind, by_name["at"].date_formats) == ("datetime", ["%d/%m/%Y"])
    assert by_name["open"].kind == "categorical"


@pytest.mark.parametrize(
    ("text", "iso", "day_first", "month_first"),
    [
        ("1990-06-05", "06-05", "06-05", "06-05"),
        ("05/06/1990", None, "06-05", "05-06"),
        ("5.6.1990 10:30", None, "06-05", "05-06"),
        ("13-06-1990", None, "06-13", None),
        ("06-13-1990", None, None, "06-13"),
        ("05.06.90", None, None, None),
    ],
)
@pytest.mark.parametrize("order", ["iso", "day_first", "month_first"])
def test_a_checkpoint_without_formats_reads_texts_in_its_order_as_before(
    text: str, iso: str | None, day_first: str | None, month_first: str | None, order: str
) -> None:
    old = json.dumps({"name": "at", "kind": "datetime", "date_order": order, "has_time": False})
    schema = FeatureSchema(features=[Feature.model_validate_json(old)])

    expected = {"iso": iso, "day_first": day_first, "month_first": month_first}[order]

    np.testing.assert_array_equal(
        np.floor(encoded(schema, [text])), encoded(schema, [f"1990-{expected}" if expected else None])
    )


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        ("%d/%m/%Y", "%m/%d/%Y", True),
        ("%d/%m/%Y %H:%M", "%m/%d/%Y", True),
        ("%d.%m.%y", "%y.%m.%d", True),
        ("%d/%m/%Y", "%d/%m/%Y %H:%M", False),
        ("%d.%m.%Y", "%m/%d/%Y", False),
        ("%d/%m/%Y", "%d/%m/%y", False),
        ("%d/%m/%Y", "%H:%M", False),
    ],
)
def test_formats_contradict_only_if_a_text_can_be_a_date_in_both(one: str, other: str, contradict: bool) -> None:
    assert may_contradict(one, other) is may_contradict(other, one) is contradict


@pytest.mark.parametrize("form", ["", "%H:%M", "%d.%m", "%Q%d%m%Y", "1.234,5", "%d%d%m%Y"])
def test_what_is_no_format_of_dates_reads_nothing(form: str) -> None:
    assert date_part(form) is None
    assert len(date_readings((form,))) == 1
