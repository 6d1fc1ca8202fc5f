"""Whatever JSON a client sends comes back from the table as it was, or is refused with a reason."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dynamodb.codec import decode_item, encode_item
from shared.errors import PayloadTooLargeError, ValidationFailedError
from shared.models.base import format_timestamp, parse_timestamp

numbers = st.integers(-(10**37), 10**37) | st.floats(
    min_value=-1e120, max_value=1e120, allow_nan=False, allow_subnormal=False
).filter(lambda x: x == 0 or 1e-110 < abs(x) < 2**53)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(min_size=1), children, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_survives_the_table(value: object) -> None:
    assert decode_item(encode_item({"value": {"inner": value}})) == {"value": {"inner": value}}


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 1e300, 1e-300, 10**60, "\ud800", {"": 1}, {"a\ud800": 1}],
    ids=["nan", "infinity", "large", "small", "long", "surrogate", "empty key", "surrogate key"],
)
def test_what_the_table_cannot_hold_is_refused_with_a_reason(value: object) -> None:
    with pytest.raises(ValidationFailedError):
        encode_item({"value": value})


def test_deep_nesting_is_refused_before_dynamodb_does() -> None:
    value: list[object] = []
    for _ in range(40):
        value = [value]
    with pytest.raises(ValidationFailedError, match="nested too deeply"):
        encode_item({"value": value})


def test_an_item_near_dynamodbs_limit_is_refused() -> None:
    with pytest.raises(PayloadTooLargeError, match="350 KB"):
        encode_item({"value": "ä" * 200_000})


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 28)), st.integers(-23, 23))  # noqa: DTZ001
def test_a_time_with_any_offset_is_the_same_moment_in_utc(naive: datetime, hours: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert parse_timestamp(moment.isoformat()) == moment
    assert parse_timestamp(format_timestamp(moment)) == moment
    assert format_timestamp(moment).endswith("Z")


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2))
def test_times_sort_as_text_as_they_do_in_time(moments: list[datetime]) -> None:
    assert sorted(map(format_timestamp, moments)) == [format_timestamp(moment) for moment in sorted(moments)]


@pytest.mark.row("C-10")
@pytest.mark.parametrize(
    "text",
    ["2026-03-01T10:00:00+02:00", "2026-03-01T10:00:00 02:00", "2026-03-01T08:00:00Z", "2026-03-01T08:00:00.000Z"],
)
def test_offsets_are_accepted_also_when_the_plus_arrived_as_a_space(text: str) -> None:
    assert format_timestamp(parse_timestamp(text)) == "2026-03-01T08:00:00.000000Z"
