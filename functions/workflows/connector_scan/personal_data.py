"""Finds columns with personal data by their names and some of their values, and says why.

The rules are a readable table, not a model. A value rule alone is enough, where its form can hardly be an
accident; a name only counts where the values do not speak against it.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import phonenumbers
from stdnum import iban, luhn

from functions.workflows.connector_scan.national_ids import NATIONAL_IDS
from shared.files.column_names import snake_case
from shared.models.catalog import PersonalData, PersonalDataKind
from shared.models.reading import ColumnTypeName

# The share of sampled values that must match; files have typing errors.
VALUE_SHARE = 0.8
# A name is believed where at least so many values could be of its kind, and they differ as those of persons do.
NAMED_SHARE = 0.5
DISTINCT_SHARE = 0.1
FEWEST_VALUES = 3
# So many values, from among all, prove a kind under any name: the checks of some take long.
PROVING_VALUES = 50
# A check that fewer random numbers pass is strong: of several values, 80% never pass by accident.
RARE_ACCIDENTS = 50
_EMAIL = re.compile(r"[^@\s,;]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
_PHONE = re.compile(r"(?:\+|00)[1-9][0-9 ()./-]{6,18}[0-9]")
_NATIONAL_PHONE = re.compile(r"\(?[0-9][0-9 ()./-]{5,18}[0-9]")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}")
_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}")
# First digits and lengths of the large issuers: Visa, Mastercard, American Express, Discover, Diners, JCB, UnionPay,
# Maestro.
_CARD = re.compile(
    r"4[0-9]{12}(?:[0-9]{3}){0,2}|(?:5[1-5]|2[2-7])[0-9]{14}|3[47][0-9]{13}|6(?:011|4|5)[0-9]{12,15}"
    r"|3(?:0[0-5]|[689])[0-9]{11,16}|35[0-9]{14,17}|62[0-9]{14,17}|(?:5[0678]|6[37])[0-9]{11,17}"
)
# It has no check digit, but rules for its letters.
_NATIONAL_INSURANCE = re.compile(
    r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]"
)
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
    # How many distinct values prove the kind under any name.
    fewest: int = 1


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def _named(*names: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|_)(?:{'|'.join(names)})(?:_|$)")


def is_iban(value: str) -> bool:
    """Returns whether country, length and check digits are those of an IBAN."""
    return _IBAN.fullmatch(value) is not None and bool(iban.is_valid(value))


def is_card_number(value: str) -> bool:
    """Returns whether first digits, length and check digit are those of a payment card."""
    if not _DIGITS.fullmatch(value):
        return False
    digits = value.replace(" ", "").replace("-", "")
    return _CARD.fullmatch(digits) is not None and bool(luhn.is_valid(digits))


def is_international_phone(value: str) -> bool:
    """Returns whether a number with + or 00 can be called: the country and the length exist."""
    if not _PHONE.fullmatch(value):
        return False
    try:
        number = phonenumbers.parse("+" + value.removeprefix("00").removeprefix("+"))
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_valid_number(number))


NATIONAL_ID_RULES = tuple(
    DetectionRule(
        PersonalDataKind.NATIONAL_ID,
        f"{each.country} identity numbers",
        _named(*each.names),
        each.check() if each.accidents >= RARE_ACCIDENTS else None,
        each.check(),
        types=("string", "int"),
        fewest=FEWEST_VALUES,
    )
    for each in NATIONAL_IDS
)
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
    *NATIONAL_ID_RULES,
    DetectionRule(
        PersonalDataKind.NATIONAL_ID,
        "national insurance numbers",
        _named("nino", "national_insurance"),
        _matches(_NATIONAL_INSURANCE),
        _matches(_IDENTIFIER),
        fewest=FEWEST_VALUES,
    ),
    DetectionRule(
        PersonalDataKind.NATIONAL_ID,
        "national identity numbers",
        _named(
            "ssn",
            "social_security",
            "passport",
            "nino",
            "personnummer",
            "codice_fiscale",
            "national_id",
            "tax_?id",
            "(?:national|identity|citizen|tax|fiscal|insurance)_(?:id|code|n(?:umber|o|r))",
            "identity_card",
        ),
        None,
        _matches(_IDENTIFIER),
        types=("string", "int"),
    ),
    DetectionRule(
        PersonalDataKind.PHONE,
        "telephone numbers",
        _named("phone", "telephone", "mobile", "cell", "fax", "telefon", "phone_?n(?:umber|o)"),
        is_international_phone,
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
    proving = values[:: math.ceil(len(values) / PROVING_VALUES)]
    for rule in RULES:
        if kind not in rule.types:
            continue
        if rule.by_value and len(values) >= rule.fewest and _fit(rule.by_value, proving, VALUE_SHARE):
            return _found(rule, f"at least {VALUE_SHARE:.0%} of the values have the form of {rule.words}")
        are_many = len(values) >= max(FEWEST_VALUES, DISTINCT_SHARE * rows)
        if are_many and rule.name.search(plain) and _fit(rule.by_name, values, NAMED_SHARE):
            return _found(rule, f"the column's name says {rule.words}, and its values may be")
    return None


def _fit(matches: Callable[[str], bool], values: Sequence[str], share: float) -> bool:
    """Returns whether the share of the values match. Most columns fail soon."""
    allowed = int(len(values) * (1 - share) + 1e-9)
    misfits = 0
    for value in values:
        misfits += not matches(value)
        if misfits > allowed:
            return False
    return True


def _found(rule: DetectionRule, reason: str) -> PersonalData:
    return PersonalData(kind=rule.kind, is_direct=rule.direct, reason=reason)
