"""Finds figures in a text, and compares them with facts.

A figure matches a fact if the fact, rounded to the last digit of the figure, is equal: 81% matches 0.8123. After
*about* and similar words, the figure may also be rounded to its last digit that is not zero. After *over* the fact must
not be smaller; after *nearly* it must not be larger. With these words, or with a scale word such as *million*, the
difference must be at most 5%. If both have units, the units must agree. Years and months, or days and hours, are
converted and must then be exact. A fact without a unit supports amounts of money, but percentages and durations only if
its key names such a thing, or if it is a share of at most 1.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

from shared.grounding import cldr
from shared.grounding.holders import HOLDERS_LIMIT
from shared.grounding.words import words_of

LEEWAY = Decimal("0.05")


@dataclass(frozen=True)
class Unit:
    """A unit of a figure. ``size`` is in months for calendar units and in minutes for time units."""

    kind: str
    name: str = ""
    size: Decimal = Decimal(1)


PLAIN = Unit("plain")
PERCENT = Unit("percent")
# What a key may state about a number without a unit: that it is a rate or a duration.
RATE = Unit("rate")
DURATION = Unit("duration")

CURRENCIES = {
    word: name
    for name, words in {
        "eur": "€ eur euro euros",
        "usd": "$ us$ usd dollar dollars",
        "gbp": "£ gbp pound pounds",
        "chf": "chf franc francs franken",
        "jpy": "¥ jpy yen",
        "inr": "₹ inr rupee rupees",
        "cad": "cad",
        "aud": "aud",
        "pln": "zł pln zloty złoty złote złotych",
        "sek": "sek kr",
        "czk": "czk kč",
        "dkk": "dkk",
        "nok": "nok",
        "huf": "huf ft",
    }.items()
    for word in words.split()
}
CURRENCIES |= {name: code.lower() for code, names in cldr.CURRENCIES.items() for name in names}
_YEAR = Unit("calendar", "year", Decimal(12))
UNITS = {
    **dict.fromkeys(("%", "percent", "per cent", "pct", "prozent", "percentage points", "percentage point"), PERCENT),
    **dict.fromkeys(("out of 100", "/100", "/ 100"), PERCENT),
    **{word: Unit("money", name) for word, name in CURRENCIES.items()},
    **dict.fromkeys(("per cento", "procentach", "v. h."), PERCENT),
    **dict.fromkeys((*cldr.UNITS["month"], "monaten", "miesiącach"), Unit("calendar", "month")),
    **dict.fromkeys(cldr.UNITS["quarter"], Unit("calendar", "quarter", Decimal(3))),
    **dict.fromkeys((*cldr.UNITS["year"], "yr", "yrs", "jahren", "roku", "latach", "année", "années"), _YEAR),
    **dict.fromkeys((*cldr.UNITS["minute"], "min", "mins"), Unit("time", "minute")),
    **dict.fromkeys((*cldr.UNITS["hour"], "h", "hrs"), Unit("time", "hour", Decimal(60))),
    **dict.fromkeys((*cldr.UNITS["day"], "tagen", "dniach"), Unit("time", "day", Decimal(1440))),
    **dict.fromkeys((*cldr.UNITS["week"],), Unit("time", "week", Decimal(10080))),
    **dict.fromkeys(cldr.UNITS["percent"], PERCENT),
}
_SCALES = {
    "k": 3, "m": 6, "mn": 6, "bn": 9, "hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12,
    "tsd": 3, "mio": 6, "lakh": 5, "crore": 7, "millionen": 6, "tausend": 3, "milliarden": 9, "millions": 6, "mille": 3,
    "milliards": 9, "millones": 6, "mil": 3, "milioni": 6, "milione": 6, "mila": 3, "miliardi": 9, "mln": 6, "tys": 3,
    "miliony": 6, "milionów": 6, "tysiące": 3, "tysięcy": 3,
}  # fmt: skip
_SMALL = words_of(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = words_of("twenty thirty forty fifty sixty seventy eighty ninety")
_WORDS = {word: value for value, word in enumerate(_SMALL)}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_MULTIPLES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_ABOUT = words_of(
    "about around roughly approximately approx. circa ca. some ~ ≈ rund etwa ungefähr environ unos unas "
    "aproximadamente około"
)
_OVER = (
    "over",
    "more than",
    "above",
    "exceeding",
    "at least",
    "über",
    "mehr als",
    "mindestens",
    "plus de",
    "au moins",
    "más de",
    "al menos",
    "più di",
    "oltre",
    "almeno",
    "ponad",
    "co najmniej",
    "więcej niż",
)
_UNDER = (
    "nearly",
    "almost",
    "under",
    "less than",
    "below",
    "close to",
    "fast",
    "knapp",
    "weniger als",
    "moins de",
    "presque",
    "près de",
    "menos de",
    "casi",
    "meno di",
    "quasi",
    "prawie",
    "mniej niż",
    "poniżej",
)
_HEDGES = dict.fromkeys(_ABOUT, 0) | dict.fromkeys(_OVER, 1) | dict.fromkeys(_UNDER, -1)


def _any(words: Iterable[str]) -> str:
    """Returns a pattern that matches any of the words as a whole word. Longer words come first."""
    whole_left, whole_right = r"(?<![^\W_])", r"(?![^\W_])"
    return "|".join(
        f"{whole_left * word[0].isalpha()}{re.escape(word)}{whole_right * word[-1].isalnum()}"
        for word in sorted(words, key=len, reverse=True)
    )


# No line break, because a figure does not continue in the next line.
_GAP = r"[ \u00a0\u2009\u202f]"
_NUMERAL = f"(?:{_any([*_WORDS, *_MULTIPLES])})"
_NUMBER = re.compile(
    r"(?:(?<!\w)|(?<=\bEUR)|(?<=\bUSD)|(?<=\bGBP)|(?<=\bCHF))(?<!\d[.,])(?P<digits>"
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?:\.\d{3})+(?:,\d+)?"
    r"|\d{1,3}(?:['\u2019 \u00a0\u2009\u202f_]\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d+)?)(?![.,]?\d)"
    rf"|(?P<words>{_NUMERAL}(?:(?:[ -]| and ){_NUMERAL})*)",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    rf"(?:(?P<hedge>{_any(_HEDGES)}){_GAP}*(?:an?{_GAP}|the{_GAP})?)?(?:(?P<currency>{_any(CURRENCIES)}){_GAP}?)?"
    r"(?P<sign>(?<!\w)[-\u2212+])?$",
    re.IGNORECASE,
)
_BEFORE_CHARACTERS = 24
_SCALE = re.compile(
    r"(?P<letter>k|mn|m|bn)(?!\w)|" + _GAP + r"?(?P<word>" + _any(w for w in _SCALES if len(w) > 2) + r")", re.I
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th|s)(?!\w)", re.I)
_UNIT = re.compile(
    rf"(?:{_GAP}|-)?(?P<unit>{'|'.join(re.escape(w) for w in sorted(UNITS, key=len, reverse=True))})(?!\w)", re.I
)
# A case-insensitive pattern matches these letters as ASCII letters, but lower-casing does not convert them.
_LIKE_ASCII = str.maketrans("\u0130\u0131\u017f\u212a", "IisK")
# The units that a word in the key of a field can state.
_KEY_UNITS = {
    word: unit
    for word, unit in UNITS.items()
    if word.isalpha() and (unit.kind == "money" or word.endswith("s")) and len(word) > 2
}
_KEY_UNITS |= {
    word: UNITS[word] for word in words_of("monate tage jahre stunden wochen mesi anni giorni settimane lata")
}
_KEY_UNITS |= dict.fromkeys(words_of("age alter edad eta wiek"), _YEAR)
_DURATION_WORDS = words_of(
    "duration term tenure period runtime maturity seniority lifetime laufzeit dauer duree plazo duracion durata okres"
)
_RATE_WORDS = words_of(
    "percent procent prozent percento rate ratio share interest apr apy discount probability propensity percentage pct "
    "score risk margin growth yield cashback utilization zinssatz zins rabatt quote anteil taux remise tasa descuento "
    "tasso sconto stopa rabat"
)
_KEY_UNITS |= dict.fromkeys(_DURATION_WORDS, DURATION) | dict.fromkeys(_RATE_WORDS, RATE)


@dataclass(frozen=True)
class FigureValue:
    """A value with the size of its last digit, ``step``."""

    value: Decimal
    step: Decimal


@dataclass(frozen=True)
class Figure:
    """A figure. ``hedge`` is ``None`` for an exact figure, 0 after *about*, 1 after *over*, and -1 after *nearly*."""

    text: str
    start: int
    end: int
    readings: tuple[FigureValue, ...]
    unit: Unit
    hedge: int | None = None
    is_scaled: bool = False

    def bounds(self) -> Iterator[tuple[Decimal, Decimal]]:
        """Yields the lowest and highest fact that matches the figure, for each reading of the figure."""
        for value, step in ((reading.value, reading.step) for reading in self.readings):
            most = abs(value) * LEEWAY
            half = min(step / 2, most) if self.is_scaled else step / 2
            if self.hedge is None:
                yield value - half, value + half
                continue
            last_place = Decimal(1).scaleb(int(value.normalize().as_tuple().exponent)) if value else step
            loose = max(half, min(last_place / 2, most))
            yield value - (half if self.hedge > 0 else loose), value + (half if self.hedge < 0 else loose)


def find_figures(text: str, language: str | None = None) -> Iterator[Figure]:
    """Yields every figure of a text. Digits in a name, such as A380, are not figures.

    Digits have the signs of the language. Without one, digits that may be read in two ways have two readings.
    """
    text, end = text.translate(_LIKE_ASCII), 0
    for match in _NUMBER.finditer(text):
        figure = _figure(text, match, language) if match.start() >= end else None
        if figure is not None:
            yield figure
            end = figure.end


def number(value: int | float, key_words: Iterable[str]) -> Figure:
    """Returns the figure of a numeric field. The words of its key may state the unit."""
    units = [_KEY_UNITS[word] for word in key_words if word in _KEY_UNITS]
    # A word such as "months" says more than one such as "tenure".
    unit = next((unit for unit in units if unit not in (RATE, DURATION)), next(iter(units), PLAIN))
    return Figure(str(value), 0, 0, (FigureValue(Decimal(str(value)), Decimal(0)),), unit)


def _figure(text: str, match: re.Match[str], language: str | None) -> Figure | None:
    words, digits = match["words"], match["digits"]
    before = _BEFORE.search(text[max(0, match.start() - _BEFORE_CHARACTERS) : match.start()])
    assert before is not None  # noqa: S101 - every part of the pattern is optional
    end, power = match.end(), 0
    if scale := _SCALE.match(text, end):
        end, power = scale.end(), _SCALES[(scale["letter"] or scale["word"]).lower()]
    elif ordinal := _ORDINAL.match(text, end):
        end = ordinal.end()
    unit = _UNIT.match(text, end)
    if unit and unit["unit"].lower() == "an" and language != "fr":
        unit = None  # an article in English
    end = unit.end() if unit else end
    if end < len(text) and text[end].isalnum():
        return None
    kind = PLAIN
    if unit or before["currency"]:
        kind = UNITS[(unit["unit"] if unit else before["currency"]).lower()]
    if words and words.lower() in ("one", "zero") and not power and kind is PLAIN:
        return None  # "the one that suits you"
    values = _read_words(words) if words else _read_digits(digits, language)
    sign = -1 if before["sign"] in ("-", "\u2212") else 1
    scaled = tuple(FigureValue(sign * each.value.scaleb(power), each.step.scaleb(power)) for each in values)
    start = match.start() - (len(before[0]) - (before.start("currency") - before.start()) if before["currency"] else 0)
    hedge = _HEDGES[before["hedge"].lower()] if before["hedge"] else None
    return Figure(text[start:end].strip(), start, end, scaled, kind, hedge, is_scaled=power > 0)


def _read_digits(digits: str, language: str | None) -> Iterator[FigureValue]:
    """Yields the possible values of the digits. Without a language, 1,234 and 1.234 are ambiguous and yield two."""
    plain = re.sub(r"['\u2019 \u00a0\u2009\u202f_]", "", digits)
    separators = [each for each in plain if each in ",."]
    whole, _, decimals = plain.rpartition(separators[-1]) if separators else (plain, "", "")
    as_integer = FigureValue(Decimal(re.sub("[,.]", "", plain)), Decimal(1))
    if not separators or (len(separators) > 1 and len(set(separators)) == 1):
        yield as_integer
        return
    is_group = len(separators) == 1 and plain == digits and len(decimals) == 3 and 0 < len(whole) <= 3 and whole != "0"
    decimal_sign = cldr.SIGNS[language][0] if language else None
    if is_group and (separators[0] != decimal_sign or decimals == "000"):
        yield as_integer
    if not is_group or (decimals != "000" and decimal_sign in (None, separators[0])):
        whole = re.sub("[,.]", "", whole)
        yield FigureValue(Decimal(f"{whole}.{decimals}"), Decimal(1).scaleb(-len(decimals)))


def _read_words(words: str) -> Iterator[FigureValue]:
    total = current = 0
    for word in re.split(r"[ -]+", words.lower()):
        if word in _WORDS:
            current += _WORDS[word]
        elif word in ("hundred", "dozen"):
            current = max(current, 1) * _MULTIPLES[word]
        elif word in _MULTIPLES:
            total, current = total + max(current, 1) * _MULTIPLES[word], 0
    yield FigureValue(Decimal(total + current), Decimal(1))


class FigureIndex:
    """An index of the figures of all facts with the paths of their fields."""

    def __init__(self, figures: Iterable[tuple[str, Figure]], words: Set[str]) -> None:
        self._values: dict[Unit, list[tuple[Decimal, str]]] = defaultdict(list)
        for path, figure in figures:
            for reading in figure.readings:
                self._values[figure.unit] += {(reading.value, path), (abs(reading.value), path)}
        for values in self._values.values():
            values.sort()
        self._found: dict[tuple[object, ...], set[str]] = {}
        named = {unit.name for unit in self._values if unit.kind == "money"}
        self._currencies = named | {CURRENCIES[word] for word in words if word in CURRENCIES}

    def holders(self, stated: Figure) -> set[str]:
        """Returns the paths of the first fields with a matching figure."""
        key = (stated.readings, stated.unit, stated.hedge, stated.is_scaled)
        if key not in self._found:
            self._found[key] = set(islice(self._matches(stated), HOLDERS_LIMIT))
        return self._found[key]

    def _matches(self, stated: Figure) -> Iterator[str]:
        for low, high in stated.bounds():
            for unit, values in self._values.items():
                for factor in self._factors(stated.unit, unit):
                    for value, path in _between(values, *_scaled(low, high, factor)):
                        if unit not in (PLAIN, RATE) or stated.unit != PERCENT or _is_said_in_percent(value, factor):
                            yield path

    def _factors(self, stated: Unit, unit: Unit) -> tuple[Decimal, ...]:
        """Returns the possible factors from a fact's value to the figure's value: none if the units do not agree."""
        if stated == PLAIN:
            return (_ONE, 1 / _HUNDRED) if unit == PERCENT else (_ONE,)
        if stated == PERCENT:
            return {PERCENT: (_ONE,), RATE: (_ONE, _HUNDRED), PLAIN: (_HUNDRED,)}.get(unit, ())
        if unit == DURATION:
            return (_ONE,) if stated.kind in ("calendar", "time") else ()
        if unit == PLAIN:
            if stated.kind != "money":
                return ()
            contradicts = stated.kind == "money" and self._currencies and stated.name not in self._currencies
            return () if contradicts else (_ONE,)
        if unit.kind != stated.kind or (unit.kind == "money" and unit.name != stated.name):
            return ()
        return (unit.size / stated.size,)


_ONE = Decimal(1)
_HUNDRED = Decimal(100)


def _is_said_in_percent(value: Decimal, factor: Decimal) -> bool:
    """Returns whether the factor fits a number without a unit: up to 1 it is a share, above 1 a percentage."""
    return abs(value) <= 1 if factor == _HUNDRED else abs(value) >= 1


def _scaled(low: Decimal, high: Decimal, factor: Decimal) -> tuple[Decimal, Decimal]:
    """Returns the bounds in the unit of the fact. A converted figure, such as months in years, must be exact."""
    middle = (low + high) / 2
    bounds = (low, high) if factor in (_ONE, _HUNDRED, 1 / _HUNDRED) else (middle, middle)
    return bounds[0] / factor, bounds[1] / factor


def _between(values: list[tuple[Decimal, str]], low: Decimal, high: Decimal) -> Iterator[tuple[Decimal, str]]:
    for position in range(bisect_left(values, (low, "")), len(values)):
        if values[position][0] > high:
            return
        yield values[position]
