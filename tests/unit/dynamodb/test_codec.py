"""The table returns a client's JSON unchanged, or the codec refuses it with a reason."""

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
def test_decoding_returns_the_encoded_json(value: object) -> None:
    assert decode_item(encode_item({"value": {"inner": value}})) == {"value": {"inner": value}}


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 1e300, 1e-300, 10**60, "\ud800", {"": 1}, {"a\ud800": 1}],
    ids=["nan", "infinity", "large", "small", "long", "surrogate", "empty key", "surrogate key"],
)
def test_a_value_that_the_table_cannot_store_is_refused(value: object) -> None:
    with pytest.raises(ValidationFailedError):
        encode_item({"value": value})


def test_a_deeply_nested_value_is_refused() -> None:
    value: list[object] = []
    for _ in range(40):
        value = [value]
    with pytest.raises(ValidationFailedError, match="nested too deeply"):
        encode_item({"value": value})


def test_an_item_over_350_kb_is_refused() -> None:
    with pytest.raises(PayloadTooLargeError, match="350 KB"):
        encode_item({"value": "ä" * 200_000})


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 28)), st.integers(-23, 23))  # noqa: DTZ001
def test_a_time_with_any_offset_is_the_same_moment_in_utc(naive: datetime, hours: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert parse_timestamp(moment.isoformat()) == moment
    assert parse_timestamp(format_timestamp(moment)) == moment
    assert format_timestamp(moment).endswith("Z")


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2))
def test_formatted_times_sort_like_their_moments(moments: list[datetime]) -> None:
    assert sorted(map(format_timestamp, moments)) == [format_timestamp(moment) for moment in sorted(moments)]


@pytest.mark.row("C-10")
@pytest.mark.parametrize(
    "text",
    ["2026-03-01T10:00:00+02:00", "2026-03-01T10:00:00 02:00", "2026-03-01T08:00:00Z", "2026-03-01T08:00:00.000Z"],
)
def test_an_offset_is_accepted_with_a_space_instead_of_a_plus(text: str) -> None:
    """In a query string a plus means a space."""
    assert format_timestamp(parse_timestamp(text)) == "2026-03-01T08:00:00.000000Z"
