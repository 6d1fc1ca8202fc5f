"""What the cells of a text column are: one type that every value of the whole file satisfies."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import itemgetter

import polars as pl
import polars.selectors as cs

from shared.models.missing_values import MISSING, MISSING_WORDS

# Whole numbers of more digits lose some of them in JSON and in models: they are identifiers.
NUMBER_DIGITS = 15
LARGEST_NUMBER = 10**NUMBER_DIGITS
BLANKS = " \t\u00a0\u2009\u202f\u200b\ufeff"
# Made once, because files have many columns.
_IN_ANY_COLUMN = pl.lit(pl.Series([sorted(MISSING)]))
_IN_TYPED_COLUMNS = pl.lit(pl.Series([sorted(MISSING | MISSING_WORDS)]))
_CURRENCIES = (
    "EUR|USD|GBP|CHF|JPY|CNY|INR|PLN|CZK|SEK|NOK|DKK|HUF|RON|BGN|RUB|UAH|TRY|ILS|AED|SAR|ZAR|BRL|MXN|CAD|AUD|NZD|KRW"
    "|SGD|HKD|THB"
)
_CURRENCY_PATTERN = rf"(?:[$€£¥₹₽₪₩₫₺₴₦₱฿₡₲₵₸₼₾]|{_CURRENCIES}|[Kk][rč]\.?|zł|Ft|R\$)"


class ColumnType(StrEnum):
    """The types a profile names; nested, binary and mixed values are `string`."""

    INTEGER = "int"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    STRING = "string"


@dataclass(frozen=True)
class NumberFormat:
    """Decimal mark and mark between groups of digits; several groups' marks may be alternatives."""

    name: str
    decimal: str
    groups: str

    @property
    def pattern(self) -> str:
        """Returns an expression with the groups: parenthesis, sign, parenthesis, sign, digits, sign."""
        group, decimal = f"[{self.groups}]", re.escape(self.decimal)
        currency = _CURRENCY_PATTERN
        # Groups of three, or of two above the last three as in India.
        whole = rf"[1-9][0-9]{{0,2}}(?:{group}[0-9]{{3}})+|[1-9][0-9]?(?:{group}[0-9]{{2}})+{group}[0-9]{{3}}|[0-9]+"
        digits = rf"(?:(?:{whole})(?:{decimal}[0-9]+)?|{decimal}[0-9]+)(?:[eE][-+]?[0-9]+)?"
        # 12,- is 12,00.
        no_cents = rf"(?:{decimal}(?:-{{1,2}}|\u2013)?)?"
        blank = r"[ \u00a0\u2009\u202f]?"
        return (
            rf"^(\()?([-+\u2212])?{blank}(?:{currency}{blank})?(\()?([-+\u2212])?({digits}){no_cents}"
            rf"{blank}(?:%|{currency})?{blank}([-+\u2212])?\)?$"
        )

    def parse(self, text: pl.Expr) -> pl.Expr:
        """Returns numbers, and null for text of another form."""
        parts = text.str.extract_groups(self.pattern)
        signs = [parts.struct[name] for name in ("2", "4", "6")]
        is_negative = parts.struct["1"].is_not_null() | parts.struct["3"].is_not_null()
        for sign in signs:
            is_negative = is_negative | sign.fill_null("").is_in(["-", "\u2212"])
        plain = parts.struct["5"].str.replace_all(f"[{self.groups}]", "")
        number = plain.str.replace(self.decimal, ".", literal=True).cast(pl.Float64, strict=False)
        return pl.when(is_negative).then(-number).otherwise(number)


_TRUE, _FALSE = ["true"], ["false"]
_TRUE_OR_ONE, _FALSE_OR_ZERO = ["true", "1", "1.0"], ["false", "0", "0.0"]
_ADJACENT = re.compile("%[Yymd](?=%[YymdH])")
_PART = re.compile("%(?:([ymdHMSI])|(Y)|[.#]?[0-9]?[A-Za-z])")
_SPACES = r" \u00a0\u2009\u202f"
POINT = NumberFormat("1,234.5", ".", ",")
COMMA = NumberFormat("1.234,5", ",", r"\.")
NUMBER_FORMATS = {
    each.name: each
    for each in (
        POINT,
        COMMA,
        NumberFormat("1 234,5", ",", _SPACES),
        NumberFormat("1 234.5", ".", _SPACES),
        NumberFormat("1'234.5", ".", "'\u2019"),
        NumberFormat("1'234,5", ",", "'\u2019"),
    )
}


@dataclass(frozen=True)
class TypeReading:
    """One way to read text: a type and, for dates and written numbers, the format."""

    type: ColumnType
    format: str | None = None

    def parse(self, text: pl.Expr, *, strict: bool = False) -> pl.Expr:
        """Parses cleaned text. A value that does not fit becomes null.

        If ``strict``, a plain number or a date that does not fit is an error; booleans and written numbers have no
        strict form.
        """
        match self.type:
            case ColumnType.INTEGER:
                if self.format is None:
                    return text.cast(pl.Int64, strict=strict)
                number = NUMBER_FORMATS[self.format].parse(text)
                return pl.when((number == number.floor()) & (number.abs() < LARGEST_NUMBER)).then(number).cast(pl.Int64)
            case ColumnType.FLOAT:
                if self.format is not None:
                    return NUMBER_FORMATS[self.format].parse(text)
                return text.cast(pl.Float64, strict=strict).fill_nan(None)
            case ColumnType.BOOLEAN:
                lower = text.str.to_lowercase()
                true, false = (_TRUE, _FALSE) if self.format is None else (_TRUE_OR_ONE, _FALSE_OR_ZERO)
                return pl.when(lower.is_in(true + false)).then(lower.is_in(true))
            case ColumnType.DATE:
                # polars reads most formats faster than it finds a text among those that it read before.
                return self._dated(text, strict=strict).str.to_date(self.format, strict=strict, cache=False)
            case ColumnType.DATETIME:
                dated = self._dated(text, strict=strict)
                moment = dated.str.to_datetime(self.format, strict=strict, time_unit="us", cache=False)
                return moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if self.has_zone else moment
            case ColumnType.STRING:
                return text

    def _dated(self, text: pl.Expr, *, strict: bool) -> pl.Expr:
        """Returns the text if its year has as many digits as the format says: `17.05.90` is no year 90.

        Where parts follow each other, as in `%Y%m%d`, every part has all of its digits. If ``strict``, a year that
        comes first is not looked at, because that takes long: an early year shows it, too.
        """
        form = self.format or ""
        if _ADJACENT.search(form):
            return pl.when(text.str.contains(_pattern_of(form))).then(text).otherwise(pl.lit("?"))
        if "%Y" not in form or (strict and form.startswith("%Y")):
            return text
        return pl.when(text.str.contains(r"(?:^|[^0-9])[0-9]{4}(?:[^0-9]|$)")).then(text).otherwise(pl.lit("?"))

    @property
    def has_zone(self) -> bool:
        """Returns whether values carry an offset; they are turned into UTC."""
        return self.format is not None and self.format.endswith(("%#z", "%z"))

    @property
    def is_date(self) -> bool:
        """Returns whether it is of dates or moments."""
        return self.type in (ColumnType.DATE, ColumnType.DATETIME)

    @property
    def is_written(self) -> bool:
        """Returns whether it is of numbers with marks that a computer does not write."""
        return self.format in NUMBER_FORMATS

    @property
    def is_native(self) -> bool:
        """Returns whether polars' CSV reader parses it, without a look at the text."""
        return self.format is None and self.type in (ColumnType.FLOAT, ColumnType.BOOLEAN)


def _pattern_of(form: str) -> str:
    """Returns the expression of a format whose parts have all of their digits."""
    pieces, end = [], 0
    for part in _PART.finditer(form):
        pieces.append(re.escape(form[end : part.start()]))
        pieces.append("[0-9]{2}" if part[1] else "[0-9]{4}" if part[2] else ".+")
        end = part.end()
    return f"^{''.join(pieces)}{re.escape(form[end:])}$"


STRING = TypeReading(ColumnType.STRING)
INTEGER = TypeReading(ColumnType.INTEGER)
FLOAT = TypeReading(ColumnType.FLOAT)
BOOLEAN = TypeReading(ColumnType.BOOLEAN)
# Only of a column whose owner states the type.
TRUTH_NUMBERS = TypeReading(ColumnType.BOOLEAN, "1/0")
WRITTEN_NUMBERS = tuple(TypeReading(ColumnType.FLOAT, name) for name in NUMBER_FORMATS)
NUMBERS = (INTEGER, FLOAT, *WRITTEN_NUMBERS)
_TIMES = (
    "",
    *(mark + time for mark in (" ", "T") for time in ("%H:%M:%S%.f", "%H:%M", "%H:%M:%S%.f%#z", "%H:%M%#z")),
    *(" %H:%M:%S%.f UTC", ", %H:%M:%S", ", %H:%M", " %I:%M:%S %p", " %I:%M %p"),
)
# As SAS writes them.
_JOINED_DATES = tuple(day + time for day in ("%d%b%Y", "%d%b%y") for time in ("", ":%H:%M:%S%.f"))
_DAYS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    *(form.replace("/", mark) for mark in "./-" for form in ("%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y")),
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%B %d %Y",
)
DATES = tuple(
    TypeReading(ColumnType.DATETIME if "%M" in form else ColumnType.DATE, form)
    for form in (*(day + time for time in _TIMES for day in _DAYS), *_JOINED_DATES)
)
_DATES = frozenset(DATES)
_DIGIT = re.compile("[0-9]")
# Longer values are text: a hundred readings of each would take long.
LONGEST_VALUE = 500
# Of one query; those of a file of some hundred columns are fewer.
EXPRESSIONS_AT_ONCE = 5_000
# Tests of a column beside those of its readings, at most.
COMMON_TESTS = 5
SAMPLE_ROWS = 10_000
_GROUPED_BY_POINTS = r"^[-+]?(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})+|[0-9]+)$"
# A quick look at a whole cell. They accept all that a reading accepts, and more.
_SIGN = r"[-+\u2212]?"
LIKE_A_NUMBER = (
    rf"^[(]?{_SIGN}[ ]?(?:{_CURRENCY_PATTERN})?[ ]?{_SIGN}(?:[0-9][0-9.,'\u2019 \u00a0\u2009\u202f]*|[.,][0-9]+)"
    rf"(?:[eE][-+]?[0-9]+)?[ \u00a0\u2009\u202f]?(?:%|{_CURRENCY_PATTERN})?[ ]?[-\u2212]?[)]?$"
)
LIKE_A_DATE = (
    r"^(?:[0-9]{1,4}[-/. ](?:[0-9]{1,2}|[A-Za-z]{3,9})[-/. ][0-9]{1,4}|[A-Za-z]{3,9} [0-9]{1,2},? [0-9]{4}"
    r"|[0-9]{1,2}[A-Za-z]{3}[0-9]{2,4})(?:(?:[T :]|, )[0-9:.,]+ ?(?:Z|UTC|[+-][0-9:]+|[AaPp][Mm])?)?$"
)
_MAYBE_DATE = re.compile(LIKE_A_DATE)
# Share of a text column's values that look like numbers or dates, from which on the others are reported.
MOSTLY = 0.8
# Of more values than these, one that does not look like the others is reported, too.
FEW = 2
ALL_READINGS = (*NUMBERS, BOOLEAN, *DATES)
# In formats with a point, the day comes first everywhere.
_MONTH_FIRST_WITH_POINTS = ("%m.%d.%Y", "%m.%d.%y")


def col(name: str) -> pl.Expr:
    """Returns the column of exactly this name. polars takes `*` and `^…$` for patterns."""
    return cs.by_name(name).as_expr() if name == "*" or name.startswith("^") else pl.col(name)


def cleaned(column: pl.Expr, nulls: Sequence[str] | None = None) -> pl.Expr:
    """Returns text without surrounding blanks, and null for spellings of a missing value.

    Numbers and dates are parsed from it.
    """
    text = column.str.strip_chars(BLANKS)
    return pl.when(~text.is_in(_IN_TYPED_COLUMNS if nulls is None else [*nulls, ""])).then(text)


def without_nulls(column: pl.Expr, nulls: Sequence[str] | None = None, *, is_padded: bool = True) -> pl.Expr:
    """Returns text unchanged, but null for spellings of a missing value, with blanks around them if ``is_padded``."""
    spellings = _IN_ANY_COLUMN if nulls is None else [*nulls, ""]
    bare = column.str.strip_chars(BLANKS) if is_padded else column
    return pl.when(~bare.is_in(spellings)).then(column)


def is_identifier(text: pl.Expr) -> pl.Expr:
    """Returns whether a number would lose what the text says: leading zeros, digits beyond the 15th, a phone's plus."""
    return text.str.contains(r"^[-+]?0[0-9]|^[-+]?[0-9]{16,}$|^\+[0-9]{7}")


def is_bare(text: pl.Expr) -> pl.Expr:
    """Returns whether text has digits only, or the form of ``12E5``: it may be a code and not a number."""
    return text.str.contains(r"^[-+]?[0-9]+(?:[eE][0-9]+)?$")


@dataclass(frozen=True)
class ColumnFacts:
    """What is known of all values of a column. ``readings`` are those that every value satisfies."""

    readings: tuple[TypeReading, ...] = ()
    has_values: bool = False
    has_identifiers: bool = False
    is_bare: bool = False
    # Each point may be one between thousands.
    is_grouped: bool = False
    has_marks: bool = False
    # The reading that most values satisfy, and the number of the others.
    closest: TypeReading | None = None
    misfits: int = 0


@dataclass(frozen=True)
class Choice:
    """Chosen reading. ``open``: readings between which the values do not decide."""

    reading: TypeReading
    open: tuple[TypeReading, ...] = ()
    is_identifier: bool = False


def narrow(firsts: Mapping[str, str | None], among: tuple[TypeReading, ...]) -> dict[str, tuple[TypeReading, ...]]:
    """Returns the readings that the first value of each column satisfies; all for a column without a value."""
    found: dict[str, tuple[TypeReading, ...]] = dict.fromkeys(firsts, among)
    # There are hundreds of formats of dates, so a quick look excludes them first.
    words = tuple(reading for reading in among if reading in (FLOAT, BOOLEAN))
    numbers = tuple(reading for reading in among if reading not in _DATES)
    groups: dict[str, list[str]] = {"words": [], "numbers": [], "dates": []}
    for name, value in firsts.items():
        if value is not None and len(value) > LONGEST_VALUE:
            found[name] = ()
        elif value is not None:
            looks = "dates" if _MAYBE_DATE.search(value) else "numbers" if _DIGIT.search(value) else "words"
            groups[looks].append(name)
    for readings, names in zip((words, numbers, among), groups.values(), strict=True):
        if not names:
            continue
        frame = pl.DataFrame({"text": [firsts[name] for name in names]}, schema={"text": pl.String()})
        fits = frame.select(
            reading.parse(pl.col("text")).is_not_null().alias(str(place)) for place, reading in enumerate(readings)
        )
        rows = fits.iter_rows() if readings else [()] * len(names)
        for name, row in zip(names, rows, strict=True):
            found[name] = tuple(reading for reading, does_fit in zip(readings, row, strict=True) if does_fit)
    return found


def currencies(text: pl.Expr) -> pl.Expr:
    """Returns the currency in each number that is written with one."""
    return text.str.extract(_CURRENCY_PATTERN, 0).str.strip_chars()


def first_values(text: pl.LazyFrame, columns: Sequence[str], nulls: Sequence[str] | None) -> dict[str, str | None]:
    """Returns the first value of each column that is not missing."""
    found: dict[str, str | None] = {}
    for start in range(0, len(columns), EXPRESSIONS_AT_ONCE):
        some = columns[start : start + EXPRESSIONS_AT_ONCE]
        firsts = text.select(cleaned(col(name), nulls).drop_nulls().first().alias(name) for name in some)
        found |= firsts.collect(engine="streaming").row(0, named=True)
    return found


def examine(
    text: pl.LazyFrame,
    possible: Mapping[str, tuple[TypeReading, ...]],
    nulls: Sequence[str] | None,
    *,
    is_sample: bool = False,
    stated: Collection[str] = (),
) -> dict[str, ColumnFacts]:
    """Returns the facts of each column, by up to two passes over the text.

    Written numbers take long to parse, so they are only tried where no plain reading fits. Of the ``stated`` columns,
    the type is known, and the reading that most values satisfy counts.
    """
    plain = {name: tuple(each for each in found if not each.is_written) for name, found in possible.items()}
    facts = _facts(text, plain, nulls, is_sample=is_sample)
    written = {
        name: tuple(each for each in found if each.is_written)
        for name, found in possible.items()
        if facts[name].has_values and not facts[name].readings
    }
    if not is_sample:
        sample = text.head(SAMPLE_ROWS).collect().lazy()
        fitting = _facts(sample, written, nulls, is_sample=True)
        for name, found in fitting.items():
            closest = (found.closest,) if found.closest and name in stated else ()
            written[name] = (found.readings or closest) if found.has_values else written[name]
    more = _facts(text, {name: found for name, found in written.items() if found}, nulls, is_sample=is_sample)
    return facts | {name: _combined(facts[name], found) for name, found in more.items()}


def _combined(plain: ColumnFacts, written: ColumnFacts) -> ColumnFacts:
    """Returns the facts of both parts of a column's readings. None of the plain readings fits all values."""
    found = replace(written, has_identifiers=plain.has_identifiers)
    if plain.closest is not None and plain.misfits <= written.misfits:
        return replace(found, closest=plain.closest, misfits=plain.misfits)
    return found


def _facts(
    text: pl.LazyFrame, possible: Mapping[str, tuple[TypeReading, ...]], nulls: Sequence[str] | None, *, is_sample: bool
) -> dict[str, ColumnFacts]:
    facts: dict[str, ColumnFacts] = {}
    for some in _in_parts(possible):
        facts |= _facts_of_part(text, some, nulls, is_sample=is_sample)
    return facts


def _in_parts(possible: Mapping[str, tuple[TypeReading, ...]]) -> Iterator[dict[str, tuple[TypeReading, ...]]]:
    """Yields the columns in parts, because the plan of a query takes memory for each expression."""
    part: dict[str, tuple[TypeReading, ...]] = {}
    expressions = 0
    for name, readings in possible.items():
        part[name] = readings
        expressions += COMMON_TESTS + len(readings)
        if expressions >= EXPRESSIONS_AT_ONCE:
            yield part
            part, expressions = {}, 0
    if part:
        yield part


def _facts_of_part(
    text: pl.LazyFrame, possible: Mapping[str, tuple[TypeReading, ...]], nulls: Sequence[str] | None, *, is_sample: bool
) -> dict[str, ColumnFacts]:
    tests = []
    for name, readings in possible.items():
        value = col(name)
        is_given = value.is_not_null()
        tests.append(is_given.any().alias(f"{name}\n"))
        if INTEGER in readings or FLOAT in readings:
            tests.append(is_identifier(value).any().alias(f"{name}\ni"))
            tests.append(is_bare(value).all().alias(f"{name}\nb"))
            tests.append(value.str.contains(_GROUPED_BY_POINTS).all().alias(f"{name}\ng"))
        if any(reading in NUMBERS for reading in readings):
            tests.append(value.str.contains("[.,]").any().alias(f"{name}\nm"))
        tests.extend(
            (reading.parse(value).is_null() & is_given).sum().alias(f"{name}\n{position}")
            for position, reading in enumerate(readings)
        )
    values = text.select(cleaned(col(name), nulls).alias(name) for name in possible)
    facts = values.select(tests).collect(engine="in-memory" if is_sample else "streaming").row(0, named=True)
    misfits = {
        name: [facts[f"{name}\n{position}"] for position in range(len(readings))] for name, readings in possible.items()
    }
    return {
        name: ColumnFacts(
            readings=tuple(reading for reading, odd in zip(readings, misfits[name], strict=True) if not odd),
            closest=min(zip(misfits[name], readings, strict=True), key=itemgetter(0))[1] if readings else None,
            misfits=min(misfits[name], default=0),
            has_values=bool(facts[f"{name}\n"]),
            has_identifiers=bool(facts.get(f"{name}\ni")),
            is_bare=bool(facts.get(f"{name}\nb")),
            is_grouped=bool(facts.get(f"{name}\ng")),
            has_marks=bool(facts.get(f"{name}\nm")),
        )
        for name, readings in possible.items()
    }


def look_like_values(texts: pl.DataFrame) -> list[str]:
    """Returns the columns in which most values look like numbers or dates."""
    if not texts.width:
        return []
    looks = texts.select(
        _mostly(col(name).str.contains(pattern)).alias(f"{name}\n{place}")
        for name in texts.columns
        for place, pattern in enumerate((LIKE_A_NUMBER, LIKE_A_DATE))
    ).row(0, named=True)
    return [name for name in texts.columns if looks[f"{name}\n0"] or looks[f"{name}\n1"]]


def _mostly(looks: pl.Expr) -> pl.Expr:
    """Returns whether most values look so; of few values, all but one."""
    return (looks.mean() >= MOSTLY) | ((looks.count() > FEW) & ((looks.count() - looks.sum()) == 1))


def dominant(values: pl.Series) -> TypeReading | None:
    """Returns the reading of numbers or dates that most of the values satisfy, if most of them look like either."""
    if values.is_empty():
        return None
    frame = values.alias("text").to_frame()
    text = pl.col("text")
    looks = frame.select(
        _mostly(text.str.contains(LIKE_A_NUMBER)).alias("number"), _mostly(text.str.contains(LIKE_A_DATE)).alias("date")
    ).row(0, named=True)
    among = DATES if looks["date"] else NUMBERS[1:] if looks["number"] else ()
    if not among or (among is not DATES and frame.select(is_identifier(text).any()).item()):
        return None
    fits = frame.select(reading.parse(text).count().alias(str(place)) for place, reading in enumerate(among)).row(0)
    return among[max(range(len(among)), key=fits.__getitem__)] if max(fits) else None


def choose(facts: ColumnFacts, decimal: str | None = None, date_format: str | None = None) -> Choice:
    """Returns the narrowest reading that every value satisfies; text if no reading or no value exists.

    ``decimal`` and ``date_format`` decide where the values leave it open.
    """
    if not facts.has_values or not facts.readings:
        return Choice(STRING)
    if stated := next((reading for reading in facts.readings if date_format and reading.format == date_format), None):
        return Choice(stated)
    if INTEGER in facts.readings or (FLOAT in facts.readings and facts.is_bare):
        is_number = not facts.has_identifiers and INTEGER in facts.readings
        return Choice(INTEGER) if is_number else Choice(STRING, is_identifier=True)
    if numbers := [reading for reading in facts.readings if reading in NUMBERS]:
        return _choose_number(numbers, facts, decimal)
    if BOOLEAN in facts.readings:
        return Choice(BOOLEAN)
    return _choose_date(facts.readings, date_format)


def _choose_number(numbers: Sequence[TypeReading], facts: ColumnFacts, decimal: str | None) -> Choice:
    if facts.has_identifiers:
        return Choice(STRING, is_identifier=True)
    point = FLOAT if FLOAT in numbers else TypeReading(ColumnType.FLOAT, POINT.name)
    comma = TypeReading(ColumnType.FLOAT, COMMA.name)
    is_open = facts.is_grouped if FLOAT in numbers else point in numbers and comma in numbers
    if not is_open or not facts.has_marks:
        return Choice(numbers[0])
    # Groups of three behind each mark: 1.234 may be a thousand, or one and a bit. A plain point is the decimal mark
    # nearly everywhere, but a comma is not.
    chosen = {".": point, ",": comma}.get(decimal or "")
    if chosen is not None:
        return Choice(chosen)
    return Choice(FLOAT if FLOAT in numbers else STRING, open=(point, comma))


def _choose_date(readings: Sequence[TypeReading], date_format: str | None) -> Choice:
    usual = [reading for reading in readings if not (reading.format or "").startswith(_MONTH_FIRST_WITH_POINTS)]
    first = (usual or readings)[0]
    orders = [reading for reading in usual or readings if _shape(reading) == _shape(first)]
    if len(orders) == 1:
        return Choice(first)
    # The format may be stated without the time.
    stated = [reading for reading in orders if date_format and (reading.format or "").startswith(date_format)]
    return Choice(stated[0]) if len(stated) == 1 else Choice(STRING, open=tuple(orders))


def _shape(reading: TypeReading) -> str:
    """Returns the format without the order of day and month."""
    return (reading.format or "").replace("%d", "%m")
