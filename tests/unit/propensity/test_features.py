import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.jobs.modelling.frames import infer_schema
from shared.errors import JobFailedError, ValidationFailedError
from shared.propensity.dates import DateOrder
from shared.propensity.features import Feature, FeatureSchema, text_of
from shared.propensity.tables import encode_frame

pytestmark = pytest.mark.row("X-1")

FEATURES = [
    Feature(name="number", kind="numeric"),
    Feature(name="flag", kind="boolean"),
    Feature(name="colour", kind="categorical", categories=["red", "3", "true", "2024-01-01"]),
    Feature(name="city", kind="categorical", categories=["Lyon"], others=True),
    Feature(name="day", kind="datetime", date_order=DateOrder.DAY_FIRST),
    Feature(name="moment", kind="datetime", date_order=DateOrder.ISO, has_time=True),
    Feature(name="written", kind="datetime", date_formats=["%d/%m/%Y", "%d.%m.%y", "%d %b %Y %I%M %p"], has_time=True),
]
ODD_TEXTS = [
    *("", " ", "NA", "n/a", "None", "-", "?", "nan", "inf", "1_000", "0x1", "\u0661", "1e5", "1e400", "5.", ".5", "+5"),
    *(
        "1,5",
        "red",
        " red ",
        "3",
        "3.0",
        "true",
        "TRUE",
        "1",
        "0",
        "2024-01-01",
        "2024-02-30",
        "31/12/2023",
        "1/1/0000",
    ),
    *("31.12.2023 23:59", "2024-06-01T10:00:00Z", "2024-06-01 10:00:00.123+02:00", "2024-06-01T25:00", "Lyon"),
    *(
        "17.05.90",
        "17.05.69",
        "31/12/2023, 11:59 PM",
        "5 May 2024 1130 am",
        "5 Mai 2024 1130 AM",
        "2024-06-01T10:00+02",
    ),
    *("2024-06-01T10:00+99:00", "\u00a01\ufeff", "1\n", "2024-06-01\n"),
]
odd_text = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.floats(allow_nan=False).map(repr),
    st.integers().map(str),
    st.text(max_size=12),
)
moments = st.datetimes(datetime(1, 1, 2), datetime(9998, 1, 1))  # noqa: DTZ001 - naive on purpose
CELLS: dict[Any, st.SearchStrategy[Any]] = {
    pl.String: odd_text,
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.Float64: st.floats(),
    pl.Boolean: st.booleans(),
    pl.Date: st.dates(date(1, 1, 2), date(9998, 1, 1)),
    pl.Datetime("us"): moments,
    pl.Datetime("us", "UTC"): moments.map(lambda moment: moment.replace(tzinfo=UTC)),
}


@given(st.data(), st.sampled_from(FEATURES), st.sampled_from(list(CELLS)))
def test_rows_and_tables_of_the_same_cells_become_the_same_matrix(
    data: st.DataObject, feature: Feature, dtype: Any
) -> None:
    cells = data.draw(st.lists(st.none() | CELLS[dtype], min_size=1, max_size=8))
    schema = FeatureSchema(features=[feature])

    from_table = encode_frame(schema, pl.DataFrame({feature.name: pl.Series(cells, dtype=dtype)}))
    from_rows = schema.encode_rows([{feature.name: cell} for cell in cells])

    np.testing.assert_array_equal(from_table, from_rows)
    # A single row takes a shorter way.
    alone = [schema.encode_rows([{feature.name: cell}]) for cell in cells]
    np.testing.assert_array_equal(np.concatenate(alone), from_rows)
    assert from_rows.dtype == alone[0].dtype == np.float32
    assert not np.isinf(from_rows).any()


@given(st.data())
def test_a_learned_schema_survives_json_and_encodes_its_own_table_like_its_rows(data: st.DataObject) -> None:
    height = data.draw(st.integers(2, 30))
    columns = {
        f"c{index}": pl.Series(
            data.draw(st.lists(st.none() | CELLS[dtype], min_size=height, max_size=height)), dtype=dtype
        )
        for index, dtype in enumerate(CELLS)
    }
    frame = pl.DataFrame(columns).with_columns(always=pl.Series([0, 1] * (height // 2) + [0] * (height % 2)))

    schema = infer_schema(frame)
    reread = FeatureSchema.model_validate(json.loads(schema.model_dump_json()))

    np.testing.assert_array_equal(encode_frame(schema, frame), reread.encode_rows(frame.to_dicts()))
    assert {feature.name for feature in schema.features} | {column.name for column in schema.dropped} == set(
        frame.columns
    )


def learn(**columns: Any) -> FeatureSchema:
    return infer_schema(pl.DataFrame(columns))


def test_kinds_are_learned_from_types_and_from_texts() -> None:
    schema = learn(
        age=[31, None, 22],
        income=["1200", " 1300.5 ", "n/a"],
        active=["TRUE", "false", ""],
        city=["Lyon", "Paris", "Lyon"],
        joined=["2024-01-31", "2023-12-01", None],
        paid=["31.01.2024 10:30", "01.12.2023", "NA"],
        us_date=["01/31/2024", "12/01/2023", "2/3/2024"],
        stamp=[datetime(2024, 1, 1, 10, tzinfo=UTC), None, datetime(2024, 1, 2, tzinfo=UTC)],
    )

    assert {feature.name: feature.kind for feature in schema.features} == {
        "age": "numeric",
        "income": "numeric",
        "active": "boolean",
        "city": "categorical",
        "joined": "datetime",
        "paid": "datetime",
        "us_date": "datetime",
        "stamp": "datetime",
    }
    by_name = {feature.name: feature for feature in schema.features}
    assert by_name["city"].categories == ["Lyon", "Paris"]
    assert by_name["joined"].date_formats == by_name["stamp"].date_formats == []
    assert by_name["paid"].date_formats == ["%d.%m.%Y"]
    assert by_name["us_date"].date_formats == ["%m/%d/%Y"]
    assert [name for name, feature in by_name.items() if feature.has_time] == ["paid", "stamp"]


def test_columns_without_use_are_dropped_with_a_reason() -> None:
    rows = 40
    schema = learn(
        useful=list(range(rows)),
        constant=["x"] * rows,
        empty=[None] * rows,
        blank=[" ", "NA"] * (rows // 2),
        customer_id=list(range(1000, 1000 + rows)),
        reference=[f"R-{index}" for index in range(rows)],
        comment=[f"{index} " + "words " * 30 for index in range(rows)],
        nested=[[1]] * rows,
    )

    assert [feature.name for feature in schema.features] == ["useful"]
    reasons = {column.name: column.reason for column in schema.dropped}
    assert reasons["constant"] == "every value is the same"
    assert reasons["empty"] == reasons["blank"] == "every value is missing"
    assert "identifier" in reasons["customer_id"]
    assert "identifier" in reasons["reference"]
    assert reasons["comment"] == "it is free text"
    assert "List" in reasons["nested"]


def test_a_column_can_be_left_out_with_a_reason() -> None:
    schema = infer_schema(pl.DataFrame({"a": [1, 2], "leak": [0, 1]}), {"leak": "known later", "not there": ""})

    assert [feature.name for feature in schema.features] == ["a"]
    assert [(column.name, column.reason) for column in schema.dropped] == [("leak", "known later")]


def test_a_table_of_useless_columns_is_refused_with_the_reasons() -> None:
    with pytest.raises(JobFailedError, match="'a': every value is the same"):
        learn(a=[1, 1, 1])


def test_unseen_categories_are_missing_and_rare_ones_share_a_code() -> None:
    few = learn(city=["Lyon", "Paris"] * 5, x=list(range(10)))
    texts = [f"c{index % 400:03}" for index in range(4000)] + ["c000"] * 5
    many = learn(city=texts)

    encoded = few.encode_rows([{"city": "Rome", "x": 0}, {"city": "Paris", "x": 0}])
    np.testing.assert_array_equal(encoded[:, 0], [np.nan, 1])
    assert len(many.features[0].categories) == 254
    assert many.features[0].categories[0] == "c000"
    assert many.encode_rows([{"city": "c399"}, {"city": "new"}, {"city": None}])[:, 0].tolist()[:2] == [254, 254]


def test_dates_become_days_months_weekdays_and_hours_in_utc() -> None:
    feature = Feature(name="at", kind="datetime", has_time=True)
    schema = FeatureSchema(features=[feature])
    moment = datetime(2024, 2, 29, 1, 30, tzinfo=timezone(timedelta(hours=2)))

    for cell in (moment, "2024-02-29T01:30:00+02:00", "2024-02-28 23:30Z", moment.astimezone(UTC)):
        days, month, weekday, day, hour = schema.encode_rows([{"at": cell}])[0]
        assert days == pytest.approx((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86_400, abs=0.002)
        assert (month, weekday, day, hour) == (2, 2, 28, 23)
    assert schema.columns == ["at.days", "at.month", "at.weekday", "at.day", "at.hour"]


@given(st.dates())
def test_every_date_is_the_day_the_calendar_says(day: date) -> None:
    schema = FeatureSchema(features=[Feature(name="at", kind="datetime")])

    days, month, weekday, day_of_month = schema.encode_rows([{"at": day.isoformat()}])[0].tolist()

    assert (days, month, weekday, day_of_month) == (
        float((day - date(1970, 1, 1)).days),
        day.month,
        day.weekday(),
        day.day,
    )


def test_a_missing_column_is_named_with_its_row_and_unknown_ones_are_ignored() -> None:
    schema = learn(age=[1, 2], city=["a", "b"])

    with pytest.raises(ValidationFailedError, match="'city' is missing") as caught:
        schema.encode_rows([{"age": 1, "city": "a"}, {"age": 1}])
    assert caught.value.details[0].field == "rows[1].city"
    with pytest.raises(JobFailedError, match="'city'"):
        encode_frame(schema, pl.DataFrame({"age": [1]}))
    known = {"age": 1, "city": "b"}
    np.testing.assert_array_equal(schema.encode_rows([known | {"new": 1}]), schema.encode_rows([known]))


@pytest.mark.parametrize("cell", [[1], {"a": 1}])
def test_nested_values_are_refused(cell: Any) -> None:
    with pytest.raises(ValidationFailedError, match=r"rows\[0\]\.age"):
        learn(age=[1, 2]).encode_rows([{"age": cell}])


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (" 3 ", "3"),
        (True, "true"),
        (None, None),
        ("NULL", None),
        (float("nan"), None),
        (0.5, "0.5"),
    ],
)
def test_a_cell_has_one_canonical_text(cell: Any, text: str | None) -> None:
    assert text_of(cell) == text


@pytest.mark.row("FL-9")
def test_true_and_1_are_one_value_in_every_spelling() -> None:
    cells = [True, 1, 1.0, "True", "TRUE", "true", "1", "1.0", " 1 "]
    for feature in (
        Feature(name="a", kind="numeric"),
        Feature(name="a", kind="boolean"),
        *(Feature(name="a", kind="categorical", categories=["no", text]) for text in ("1", "1.0", "true", "True")),
    ):
        schema = FeatureSchema(features=[feature])
        from_rows = schema.encode_rows([{"a": cell} for cell in cells])
        assert (from_rows == 1).all(), feature
        for dtype in (pl.Boolean, pl.Int64, pl.Float64, pl.String):
            same = [cell for cell in cells if isinstance(cell, dtype.to_python())]
            assert (encode_frame(schema, pl.DataFrame({"a": pl.Series(same, dtype=dtype)})) == 1).all(), feature


def test_a_mixture_of_spellings_is_one_truth_value_or_one_category() -> None:
    schema = learn(flag=["True", "1", "false", "0"], text=["True", "true", "1.0", "maybe"])

    assert [feature.kind for feature in schema.features] == ["boolean", "categorical"]
    assert len(schema.features[1].categories) == 2
    exact = FeatureSchema(features=[Feature(name="a", kind="categorical", categories=["true", "True"])])
    assert exact.encode_rows([{"a": "True"}, {"a": "true"}, {"a": "TRUE"}])[:, 0].tolist() == [1, 0, 0]
