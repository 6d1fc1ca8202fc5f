"""Dates and times in texts: the formats they are written in, and the moments that they mean.

Needs numpy only. A pattern must mean the same in Python's and in Rust's regular expressions, because tables are read
with it too.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

# Since 1970, in UTC; NaN is missing.
Seconds = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64]
Column = npt.NDArray[np.float32]

# Two digits of a year below it are of this century, as the readers of files take them.
PIVOT = 70
# Character classes are spelled out: \d and \s mean different things in Python and in Rust.
_TIME = (
    r"(?:(?:[T ]|, )([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,][0-9]{1,9})?)?(?: ?([AaPp][Mm]))?"
    r" ?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_TIME_PARTS = ("H", "M", "S", "p", "z")
_PARTS = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "b": "[A-Za-z]{3,9}",
    "p": "[AaPp][Mm]",
    "z": "Z|[+-][0-9]{2}(?::?[0-9]{2})?",
    **dict.fromkeys("mdHMS", "[0-9]{1,2}"),
}
_SHORT_FORMS = {"%F": "%Y-%m-%d", "%D": "%m/%d/%y", "%T": "%H:%M:%S", "%R": "%H:%M", "%I": "%H", "%B": "%b"}
_TOKEN = re.compile(r"%(?P<part>[YymdbHMSp])|%[#:]?(?P<offset>z)|%(?P<fraction>\.?[369]?f)|(?P<other>.)", re.DOTALL)
_ADJACENT = re.compile(r"%[mdHMS](?=%)|(?<=%[YymdHMS])%[mdHMS]")
_MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_MONTHS = {name[:length]: float(number) for number, name in enumerate(_MONTH_NAMES, 1) for length in (3, len(name))}
_HALVES = {"am": 0.0, "pm": 12.0}
# Parts that are texts, not digits.
TEXT_PARTS = frozenset({"b", "p", "z"})


class DateOrder(StrEnum):
    """Order of a date's three numbers, in checkpoints from before formats were kept. ISO dates are always read."""

    ISO = "iso"
    DAY_FIRST = "day_first"
    MONTH_FIRST = "month_first"


@dataclass(frozen=True)
class DateReading:
    """A way to read texts as moments: an expression without anchors, and what each of its groups holds."""

    expression: str
    parts: tuple[str, ...]

    @property
    def pattern(self) -> str:
        """Returns the expression of whole texts, for a table."""
        return f"^{self.expression}$"

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """Returns the expression of whole texts, for a single row."""
        return re.compile(rf"^{self.expression}\Z")

    def seconds(self, values: Sequence[Numbers]) -> Seconds:
        """Returns moments from the values of each part; NaN where they form none."""
        found = dict(zip(self.parts, values, strict=True))
        year = found["Y"] if "Y" in found else found["y"] + np.where(found["y"] < PIVOT, 2000, 1900)
        month = found["m"] if "m" in found else found["b"]
        day = found["d"] if "d" in found else np.ones(len(year))
        nothing = np.zeros(len(year))
        hour, minute, second, offset = (
            np.where(np.isnan(found[part]), 0.0, found[part]) if part in found else nothing for part in "HMSz"
        )
        if "p" in found:
            hour = np.where(np.isnan(found["p"]), hour, hour % 12 + found["p"])
        return seconds_from_parts((year, month, day, hour, minute, second), offset)


# Months without a day mean their first day.
MONTH_FORMATS = {
    "%Y-%m": DateReading("((?:19|20)[0-9]{2})-(0[1-9]|1[0-2])", ("Y", "m")),
    "%Y/%m": DateReading("((?:19|20)[0-9]{2})/(0[1-9]|1[0-2])", ("Y", "m")),
    "%m/%Y": DateReading("(0[1-9]|1[0-2])/((?:19|20)[0-9]{2})", ("m", "Y")),
    "%b-%Y": DateReading("([A-Za-z]{3,9})[- ]((?:19|20)[0-9]{2})", ("b", "Y")),
    "%b-%y": DateReading("([A-Za-z]{3})-([0-9]{2})", ("b", "y")),
}
ISO = DateReading(f"([0-9]{{4}})[-/.]([0-9]{{1,2}})[-/.]([0-9]{{1,2}}){_TIME}", ("Y", "m", "d", *_TIME_PARTS))
_NUMBERS_OF_ORDERS = f"([0-9]{{1,2}})[-/.]([0-9]{{1,2}})[-/.]([0-9]{{4}}){_TIME}"
_ORDERS = {
    DateOrder.ISO: (),
    DateOrder.DAY_FIRST: (DateReading(_NUMBERS_OF_ORDERS, ("d", "m", "Y", *_TIME_PARTS)),),
    DateOrder.MONTH_FIRST: (DateReading(_NUMBERS_OF_ORDERS, ("m", "d", "Y", *_TIME_PARTS)),),
}


@lru_cache(maxsize=1000)
def date_readings(formats: tuple[str, ...] = (), order: DateOrder = DateOrder.ISO) -> tuple[DateReading, ...]:
    """Returns the ways to read a column: the formats it was written in, then ISO. The first that fits counts."""
    found = [reading for each in formats for reading in _readings_of(each)]
    return tuple(dict.fromkeys((*found, *_ORDERS[order], ISO)))


def date_part(form: str) -> str | None:
    """Returns the part of a format such as ``%d.%m.%Y %H:%M`` before its time, ``None`` if it is not of dates."""
    part = _spelled_out(form).split("%H", maxsplit=1)[0].rstrip(" T,")
    return part if _reading(part, "") else None


def date_order(form: str) -> str:
    """Returns the order of a date's parts in a format, such as ``dmy``."""
    return "".join(re.findall("%([ymd])", (date_part(form) or "").replace("%Y", "%y").replace("%b", "%m")))


def has_time(form: str) -> bool:
    """Returns whether a format has hours."""
    return "%H" in _spelled_out(form)


def is_iso(form: str) -> bool:
    """Returns whether everything written in a format is read as ISO."""
    return re.fullmatch(r"%Y[-/.]%m[-/.]%d", date_part(form) or "") is not None


def may_contradict(one: str, other: str) -> bool:
    """Returns whether a text can be a date in both formats, and another date in each."""
    first, second = date_part(one), date_part(other)
    return first != second and first is not None and second is not None and _shape(first) == _shape(second)


def seconds_of_texts(texts: Sequence[str], readings: Sequence[DateReading]) -> Seconds:
    """Returns the moments that trimmed texts mean, by the first reading that fits each; NaN where none fits."""
    seconds = np.full(len(texts), np.nan)
    for reading in readings:
        left = np.isnan(seconds).nonzero()[0]
        matches = [(index, match) for index in left.tolist() if (match := reading.compiled.match(texts[index]))]
        if not matches:
            continue
        groups = zip(*(match.groups() for _, match in matches), strict=True)
        values = [
            np.array([value_of_part(part, text) for text in group])
            for part, group in zip(reading.parts, groups, strict=True)
        ]
        seconds[[index for index, _ in matches]] = reading.seconds(values)
    return seconds


def value_of_part(part: str, text: str | None) -> float:
    """Returns the number that a part of a date means, NaN if it is missing or means none."""
    if text is None:
        return np.nan
    match part:
        case "b":
            return _MONTHS.get(text.lower(), np.nan)
        case "p":
            return _HALVES[text.lower()]
        case "z":
            return _offset_seconds(text)
        case _:
            return float(text)


def seconds_from_parts(parts: Iterable[Numbers], offsets: Numbers) -> Seconds:
    """Seconds since 1970 in UTC from year, month, day, hour, minute, second; NaN where they form no time.

    Days from a civil date: https://howardhinnant.github.io/date_algorithms.html
    """
    year, month, day, hour, minute, second = parts
    with np.errstate(invalid="ignore"):
        leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        long_months = np.isin(month, (1, 3, 5, 7, 8, 10, 12))
        last_day = np.where(month == 2, 28.0 + leap, np.where(long_months, 31.0, 30.0))
        valid = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= last_day)
        valid &= (hour <= 23) & (minute <= 59) & (second <= 59) & (np.abs(offsets) < 86_400)
        shifted = year - (month <= 2)
        era = np.floor(shifted / 400)
        year_of_era = shifted - era * 400
        day_of_year = np.floor((153 * (month + np.where(month > 2, -3, 9)) + 2) / 5) + day - 1
        day_of_era = year_of_era * 365 + np.floor(year_of_era / 4) - np.floor(year_of_era / 100) + day_of_year
        days = era * 146_097 + day_of_era - 719_468
        seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offsets
    return np.where(valid, seconds, np.nan)


def expand_time(seconds: Seconds, *, has_time: bool) -> list[Column]:
    """Days since 1970, month, weekday (Monday 0) and day of month, and the hour where times are given."""
    known = np.isfinite(seconds)
    whole = np.where(known, seconds, 0.0).astype(np.int64)
    days = whole // 86_400
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    parts: list[npt.NDArray[Any]] = [
        whole / 86_400,
        months.astype(np.int64) % 12 + 1,
        (days + 3) % 7,
        (dates - months).astype(np.int64) + 1,
    ]
    if has_time:
        parts.append(whole % 86_400 // 3600)
    return [np.where(known, part, np.nan).astype(np.float32) for part in parts]


def _readings_of(form: str) -> list[DateReading]:
    if form in MONTH_FORMATS:
        return [MONTH_FORMATS[form]]
    part = date_part(form)
    found = _reading(part, _TIME) if part else None
    # A time such as 1030 has a form of its own.
    whole = _reading(_spelled_out(form), "") if has_time(form) else None
    return [reading for reading in (found, whole) if reading]


def _reading(form: str, suffix: str) -> DateReading | None:
    """Returns the reading of a format in chrono's notation, ``None`` if it is no date or has unknown parts."""
    narrow = {match.start() for match in _ADJACENT.finditer(form)}
    expression, parts = "", []
    for token in _TOKEN.finditer(form):
        if part := token["part"] or token["offset"]:
            pattern = _PARTS[part].replace("{1,2}", "{2}") if token.start() in narrow else _PARTS[part]
            expression += f"({pattern})"
            parts.append(part)
        elif token["fraction"]:
            expression += "(?:[.][0-9]+)?" if "." in token["fraction"] else "[0-9]+"
        elif token["other"] == "%":
            return None
        else:
            expression += " *" if token["other"].isspace() else _literal(token["other"])
    has_date = "d" in parts and {"Y", "y"} & set(parts) and {"m", "b"} & set(parts)
    if not has_date or len(set(parts)) < len(parts):
        return None
    return DateReading(expression + suffix, (*parts, *(_TIME_PARTS if suffix else ())))


def _spelled_out(form: str) -> str:
    for short, long in _SHORT_FORMS.items():
        form = form.replace(short, long)
    return form


def _literal(character: str) -> str:
    return f"\\{character}" if character in r".+*?()|[]{}^$\-" else character


def _shape(form: str) -> str:
    return re.sub("%[mdy]", "%2", form)


def _offset_seconds(text: str) -> float:
    """Returns the offset of ``Z``, ``+02``, ``+02:00`` or ``-0330``."""
    if text == "Z":
        return 0.0
    digits = text[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0
    return -seconds if text[0] == "-" else seconds
