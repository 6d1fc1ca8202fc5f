"""Finds columns with personal data by their names and some of their values, and says why.

The rules are a readable table, not a model. A value rule alone is enough, where its form can hardly be an
accident; a name only counts where the values do not speak against it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.files.column_names import snake_case
from shared.models.catalog import PersonalData, PersonalDataKind
from shared.models.reading import ColumnTypeName

# The share of sampled values that must match; files have typing errors.
VALUE_SHARE = 0.8
# A name is believed where at least so many values could be of its kind, and they differ as those of persons do.
NAMED_SHARE = 0.5
DISTINCT_SHARE = 0.1
FEWEST_VALUES = 3
_EMAIL = re.compile(r"[^@\s,;]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
_PHONE = re.compile(r"(?:\+|00)[1-9][0-9 ()./-]{6,18}[0-9]")
_NATIONAL_PHONE = re.compile(r"\(?[0-9][0-9 ()./-]{5,18}[0-9]")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}")
_CARD = re.compile(r"[2-6](?:[ -]?[0-9]){12,18}")
_SOCIAL_SECURITY = re.compile(r"(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}")
_IDENTIFIER = re.compile(r"(?=(?:[^0-9]*[0-9]){4})[A-Za-z0-9 ./-]{5,24}")
_FULL_NAME = re.compile(r"[A-ZÀ-ÖØ-Þ][\w'.-]*(?: [A-Za-zÀ-ÿ][\w'.-]*){1,3}")
_WORDS = re.compile(r"[^\W\d_]")
_ADDRESS = re.compile(r"(?=.*[^\W\d_]{3}).*[0-9].*")


@dataclass(frozen=True)
class DetectionRule:
    """Rule for one kind of personal data; ``direct`` kinds identify a person alone."""

    kind: PersonalDataKind
    words: str
    name: re.Pattern[str]
    # Values that prove the kind under any column name, and values that prove it under a matching name.
    by_value: Callable[[str], bool] | None
    by_name: Callable[[str], bool]
    direct: bool = True
    types: tuple[ColumnTypeName, ...] = ("string",)


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def _named(*names: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|_)(?:{'|'.join(names)})(?:_|$)")


def is_iban(value: str) -> bool:
    """Returns whether the check digits are right: ISO 13616, modulo 97."""
    if not _IBAN.fullmatch(value):
        return False
    text = value.replace(" ", "")
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1


def is_card_number(value: str) -> bool:
    """Returns whether the check digit is right: ISO/IEC 7812, Luhn's sum."""
    if not _CARD.fullmatch(value):
        return False
    digits = [int(digit) for digit in value if digit.isdigit()][::-1]
    doubled = (2 * digit - 9 * (digit > 4) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


RULES = (
    DetectionRule(
        PersonalDataKind.EMAIL,
        "e-mail addresses",
        _named("e?_?mail", "email_address"),
        _matches(_EMAIL),
        _matches(_EMAIL),
    ),
    DetectionRule(PersonalDataKind.IBAN, "IBANs", _named("iban"), is_iban, is_iban),
    DetectionRule(
        PersonalDataKind.CARD,
        "card numbers",
        _named("card", "pan", "credit_card", "card_?n(?:umber|o)"),
        is_card_number,
        is_card_number,
        types=("string", "int"),
    ),
    DetectionRule(
        PersonalDataKind.NATIONAL_ID,
        "national identity numbers",
        _named("ssn", "social_security", "national_id", "passport", "tax_id", "nino", "personnummer", "codice_fiscale"),
        _matches(_SOCIAL_SECURITY),
        _matches(_IDENTIFIER),
        types=("string", "int"),
    ),
    DetectionRule(
        PersonalDataKind.PHONE,
        "telephone numbers",
        _named("phone", "telephone", "mobile", "cell", "fax", "telefon", "phone_?n(?:umber|o)"),
        _matches(_PHONE),
        _matches(_NATIONAL_PHONE),
        types=("string", "int"),
    ),
    DetectionRule(
        PersonalDataKind.PERSON_NAME,
        "names of persons",
        _named("(?:first|last|given|family|full|middle|maiden|sur)_?name", "surname", "vorname", "nachname"),
        None,
        lambda value: _WORDS.search(value) is not None,
    ),
    DetectionRule(
        PersonalDataKind.PERSON_NAME,
        "names of persons",
        re.compile(r"^(?:(?:customer|client|contact|user|person|holder|owner)_?)?name$"),
        None,
        _matches(_FULL_NAME),
    ),
    DetectionRule(
        PersonalDataKind.ADDRESS,
        "postal addresses",
        _named("address", "street", "strasse", "address_?line_?[0-9]?", "home_address"),
        None,
        _matches(_ADDRESS),
    ),
    DetectionRule(
        PersonalDataKind.DATE_OF_BIRTH,
        "dates of birth",
        _named("dob", "birth", "birthday", "birth_?date", "date_of_birth", "born", "geburtsdatum"),
        None,
        lambda value: re.search(r"[0-9]{2}", value) is not None,
        direct=False,
        types=("date", "datetime", "string"),
    ),
)


def find_personal_data(name: str, kind: ColumnTypeName, values: Sequence[str], rows: int) -> PersonalData | None:
    """Returns the personal data of a column, by some distinct values of its first ``rows`` rows with a value."""
    if not values:
        return None
    plain = snake_case(name)
    for rule in RULES:
        if kind not in rule.types:
            continue
        if rule.by_value and (share := _share(rule.by_value, values)) >= VALUE_SHARE:
            return _found(rule, f"{share:.0%} of the values have the form of {rule.words}")
        is_likely = (
            len(values) >= max(FEWEST_VALUES, DISTINCT_SHARE * rows) and _share(rule.by_name, values) >= NAMED_SHARE
        )
        if is_likely and rule.name.search(plain):
            return _found(rule, f"the column's name says {rule.words}, and its values may be")
    return None


def _share(matches: Callable[[str], bool], values: Sequence[str]) -> float:
    return sum(map(matches, values)) / len(values)


def _found(rule: DetectionRule, reason: str) -> PersonalData:
    return PersonalData(kind=rule.kind, is_direct=rule.direct, reason=reason)
