"""Tests of the times that clients send, compared with the arithmetic of the standard library."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.models.base import parse_timestamp

MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy wants naive bounds
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.mark.row("C-10")
@given(MOMENTS, OFFSETS, st.integers(0, 6), st.sampled_from("T "), st.sampled_from(["", "000"]))
def test_every_spelling_of_rfc_3339_gives_the_correct_moment(
    moment: datetime, offset: timezone, digits: int, separator: str, finer: str
) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
    local = moment.astimezone(offset)
    fraction = f".{local.microsecond:06d}"[: digits + 1] + finer if digits else ""
    text = f"{local:%m-%d}{separator}{local:%H:%M:%S}{fraction}"
    written = f"{local.year:04d}-{text}"
    spelled = f"{written}{local.isoformat()[-6:]}"
    for sent in (spelled, f" {spelled} ", spelled.replace("+", " ")):
        assert parse_timestamp(sent) == moment
        assert parse_timestamp(sent).tzinfo is UTC
    assert parse_timestamp(f"{written}Z") == local.replace(tzinfo=UTC)
    assert parse_timestamp(f"{written}z".replace("T", "t")) == local.replace(tzinfo=UTC)


@pytest.mark.row("C-10")
@given(
    st.text(max_size=40)
    | st.text("0123456789-+:.,TtZzW ", max_size=40)
    | st.from_regex(r"\A\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?([Zz]|[ +-]\d\d:?\d\d)?)?\Z")
    | st.integers()
    | st.none()
)
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
def test_any_other_value_is_a_moment_in_utc_or_is_refused_with_a_reason(value: Any) -> None:
    try:
        moment = parse_timestamp(value)
    except ValueError as refusal:
        assert str(refusal).startswith(("is not an RFC 3339 time", "is outside the years"))  # noqa: PT017
    else:
        assert moment.tzinfo is UTC
