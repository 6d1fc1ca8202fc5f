"""Finds dates and times of day in a text, and compares them with facts.

A date matches a fact if all its stated parts are equal: *March 2024* matches 2024-03-05. An ambiguous date, such as
3/5/2024, matches if one of its readings matches.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from shared.grounding import cldr
from shared.grounding.holders import HolderIndex

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "January Jan Januar", "February Feb Februar", "March Mar März", "April Apr", "May Mai", "June Jun Juni",
            "July Jul Juli", "August Aug", "September Sept Sep", "October Oct Oktober Okt", "November Nov",
            "December Dec Dezember Dez",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_MONTHS |= {
    name: number for months in cldr.MONTHS.values() for number, names in enumerate(months, start=1) for name in names
}
_MONTH = rf"(?P<name>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})(?![^\W\d_])\.?"
_BEFORE_MONTH = (
    "in|since|until|by|of|before|after|from|during|next|last|this|im|seit|bis|en|depuis|desde|hasta|dal|w|od|do"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th|er|\.|\u00ba|\u00aa)?"
_YEAR = r"(?P<year>\d{4})"
_TIME_OF_DAY = r"(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?Z|[-+]\d{2}:?\d{2})?)?"
# If two patterns overlap, the earlier pattern wins.
_DATES = tuple(
    re.compile(rf"(?<!\w)(?<!\d[./-]){pattern}(?!\w|[./-]\d)")
    for pattern in (
        rf"(?P<year>\d{{4}})(?P<mark>[-/.])(?P<month>\d{{1,2}})(?P=mark)(?P<day>\d{{1,2}}){_TIME_OF_DAY}",
        r"(?P<first>\d{1,2})(?P<mark>[./-])(?P<second>\d{1,2})(?P=mark)(?P<year>\d{4}|\d{2})",
        rf"{_DAY}(?: of| de)? {_MONTH}(?:(?:,| de| del)? {_YEAR}(?: r\.)?)?",
        rf"{_MONTH} {_DAY}(?:,? {_YEAR})?",
        rf"{_MONTH}(?:,| de| del)? {_YEAR}",
        r"(?P<year>(?:19|20)\d{2})-(?P<month>0[1-9]|1[0-2])",
        rf"(?i:{_BEFORE_MONTH}) {_MONTH}",
    )
)
_TIME = re.compile(
    r"(?<![\w:.])(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::\d{2})?)?"
    r"(?: ?(?P<half>a\.m\.|p\.m\.|am|pm)(?!\w))?(?![\w:])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Date:
    """A date in a text. Each reading has the year, month and day, with ``None`` for parts that are not stated."""

    text: str
    start: int
    end: int
    readings: tuple[tuple[int | None, int | None, int | None], ...]

    @property
    def years(self) -> set[int]:
        return {year for year, _, _ in self.readings if year is not None}


class DateIndex:
    """The fields that hold each date, by every choice of its parts that a text may state."""

    def __init__(self) -> None:
        self._paths = HolderIndex[tuple[int | None, ...]]()

    def add(self, date: Date, path: str) -> None:
        """Adds a field that holds the date."""
        for reading in date.readings:
            for stated in product(*((None, part) for part in reading)):
                self._paths.add(stated, path)

    def holders(self, stated: Date) -> set[str]:
        """Returns the fields that hold a date with all stated parts."""
        return set().union(*(self._paths.get(reading, ()) for reading in stated.readings))


@dataclass(frozen=True)
class Time:
    """A time of day, in minutes from midnight."""

    text: str
    start: int
    end: int
    minutes: int


def find_dates(text: str) -> list[Date]:
    found: list[Date] = []
    taken = bytearray(len(text))
    for pattern in _DATES:
        for match in pattern.finditer(text):
            readings = tuple(reading for reading in _readings(match.groupdict()) if _is_possible(reading))
            start = match.start("name") if match.re is _DATES[-1] else match.start()
            if readings and not any(taken[start : match.end()]):
                taken[start : match.end()] = b"1" * (match.end() - start)
                found.append(Date(text[start : match.end()].rstrip("."), start, match.end(), readings))
    return found


def find_times(text: str) -> Iterator[Time]:
    for match in _TIME.finditer(text):
        hour, minute = int(match["hour"]), int(match["minute"] or 0)
        half = (match["half"] or "").lower()[:1]
        if (match["minute"] or half) and hour < (13 if half else 24) and minute < 60:
            hour = hour % 12 + (12 if half == "p" else 0) if half else hour
            yield Time(match[0], match.start(), match.end(), hour * 60 + minute)


def _readings(parts: dict[str, str | None]) -> Iterator[tuple[int | None, int | None, int | None]]:
    numbers = {part: int(text) for part, text in parts.items() if text and text.isdecimal()}
    year = numbers.get("year")
    if "first" in numbers:
        century = 0 if numbers["year"] > 99 else 2000 if numbers["year"] < 50 else 1900
        yield century + numbers["year"], numbers["second"], numbers["first"]
        if parts["mark"] != ".":
            yield century + numbers["year"], numbers["first"], numbers["second"]
        return
    name = parts.get("name")
    yield year, _MONTHS[name] if name else numbers["month"], numbers.get("day")


def _is_possible(reading: tuple[int | None, int | None, int | None]) -> bool:
    _, month, day = reading
    return (month is None or 1 <= month <= 12) and (day is None or 1 <= day <= 31)
