"""Check digits prove identity numbers; a number that passes a weak check by accident proves nothing without a name."""

import random
import re
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.workflows.connector_scan.national_ids import NATIONAL_IDS, NationalId
from functions.workflows.connector_scan.personal_data import RARE_ACCIDENTS, find_personal_data
from shared.models.reading import ColumnTypeName

EXAMPLES = {
    "Italian": "RSSMRA85T10A562S",
    "Spanish": "54362315K",
    "French": "295109912611193",
    "Belgian": "85.07.30-033.28",
    "Swedish": "880320-0016",
    "Norwegian": "15108695088",
    "Finnish": "131052-308T",
    "Polish": "44051401359",
    "Czech or Slovak": "710319/2745",
    "Romanian": "1630615123457",
    "Bulgarian": "7523169263",
    "Greek": "01013099997",
    "Estonian": "36805280109",
    "Lithuanian": "33309240064",
    "Austrian": "1237 010180",
    "Swiss": "756.9217.0769.85",
    "Irish": "6433435F",
    "Turkish": "17291716060",
    "Brazilian": "390.533.447-05",
    "Mexican": "BOXW310820HNERXN09",
    "Chilean": "12.531.909-2",
    "Chinese": "360426199101010071",
    "Korean": "971013-9019902",
    "South African": "7503305044089",
    "US": "536-90-4399",
    "Dutch": "111222333",
    "German": "36 574 261 809",
    "Portuguese": "123456789",
    "Croatian": "33392005961",
    "Danish": "211062-5629",
    "Canadian": "123 456 782",
    "Australian": "123 456 782",
    "British": "943 476 5870",
    "Indian": "234123412346",
    "Israeli": "039337423",
}
NAMES = {
    "Dutch": "BSN",
    "German": "Steuer-ID",
    "Portuguese": "client_nif",
    "Croatian": "OIB",
    "Danish": "CPR nummer",
    "Canadian": "SIN",
    "Australian": "tfn",
    "British": "nhsNumber",
    "Indian": "aadhaar",
    "Israeli": "teudat_zehut",
}
STRONG = [each for each in NATIONAL_IDS if each.accidents >= RARE_ACCIDENTS]
WEAK = [each for each in NATIONAL_IDS if each.accidents < RARE_ACCIDENTS]


def numbers_of(each: NationalId) -> list[str]:
    """Returns a documented number and others that differ from it in some digits and the last letter."""
    check, chosen, first = each.check(), random.Random(1), EXAMPLES[each.country]  # noqa: S311 - test data
    assert check(first)
    found = {first}
    digits = [position for position, character in enumerate(first) if character.isdigit()]
    while len(found) < 5:
        text = list(first)
        for position in chosen.sample(digits, 4):
            text[position] = chosen.choice("0123456789")
        if text[-1].isalpha():
            text[-1] = chosen.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        if check("".join(text)):
            found.add("".join(text))
    return sorted(found)


def kind_of(name: str, values: list[str], kind: ColumnTypeName = "string") -> str | None:
    found = find_personal_data(name, kind, values, len(values))
    return found.kind if found else None


@pytest.mark.parametrize("each", STRONG, ids=lambda each: each.country)
def test_a_strong_check_proves_numbers_under_any_name(each: NationalId) -> None:
    values = numbers_of(each)
    assert kind_of("x", values) == "national_id"
    assert kind_of("x", [*values[:4], "unknown"]) == "national_id"
    assert kind_of("x", values[:2]) is None, "two values may be an accident"


@pytest.mark.parametrize("each", WEAK, ids=lambda each: each.country)
def test_a_weak_check_needs_a_name(each: NationalId) -> None:
    values = numbers_of(each)
    assert kind_of("x", values) is None
    name = NAMES[each.country]
    assert kind_of(name, values) == "national_id"
    assert kind_of(name, ["101", "102", "103", "104"]) is None


def valid_ean(text: str) -> bool:
    return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(text)) % 10 == 0


@pytest.mark.parametrize("each", NATIONAL_IDS, ids=lambda each: each.country)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_no_value_of_the_form_crashes_a_check(each: NationalId, data: st.DataObject) -> None:
    each.check()(data.draw(st.from_regex(re.compile(each.form, re.IGNORECASE), fullmatch=True)))


DIGITS = random.Random(7)  # noqa: S311 - test data
ORDINARY = {
    "sequence": [str(100_000_000 + number) for number in range(500)],
    "padded sequence": [f"{number:010d}" for number in range(12_345_678, 12_346_178)],
    "nine digits": [f"{DIGITS.randrange(10**9):09d}" for _ in range(500)],
    "ten digits": [f"{DIGITS.randrange(10**10):010d}" for _ in range(500)],
    "eleven digits": [f"{DIGITS.randrange(10**11):011d}" for _ in range(500)],
    "thirteen digits": [f"{DIGITS.randrange(10**13):013d}" for _ in range(500)],
    "sixteen digits": [f"{DIGITS.randrange(10**16):016d}" for _ in range(500)],
    "day and number": [f"2401{day:02d}{number:04d}" for day in range(1, 29) for number in range(10)],
    "minutes": [
        f"202401{day:02d}{hour:02d}{minute:02d}" for day in range(1, 9) for hour in range(24) for minute in (5,)
    ],
    "milliseconds": [str(1_700_000_000_000 + number * 977) for number in range(500)],
    "EAN": [ean for number in range(500) if valid_ean(ean := f"40063813{number // 10:04d}{number % 10}")],
    "signed": [f"+{number}" for number in range(1_000_000, 1_000_500)],
    "zeros before": [f"00{number}" for number in range(10_000_000, 10_000_500)],
    "codes": [f"AB{number:06d}" for number in range(500)],
    "UUID": [f"{number:08x}-0000-4000-8000-000000000000" for number in range(500)],
}


@pytest.mark.parametrize("values", ORDINARY.values(), ids=ORDINARY.keys())
@pytest.mark.parametrize("kind", ["string", "int"])
def test_ordinary_numbers_are_no_personal_data(values: list[str], kind: ColumnTypeName) -> None:
    assert kind_of("number", values, kind) is None


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("x", ["4111111111111111", "5555555555554444", "2223003122003222", "6011111111111117"], "card"),
        ("x", ["4111111111111112", "5555555555554445", "2223003122003223", "6011111111111118"], None),
        ("x", ["9111111111111114", "1555555555555558", "0223003122003226"], None),
        ("x", ["DE89370400440532013001", "GB82WEST12345698765431", "FR1420041010050500013M02605"], None),
        ("x", ["+4930901820", "+12125550100", "+442079460958"], "phone"),
        ("x", ["+99912345678", "+12345678", "+00012345678"], None),
        ("x", ["030901820", "02079460958", "0612345678"], None),
        ("mobile_no", ["030901820", "02079460958", "0612345678"], "phone"),
        ("x", ["AB123456C", "JG 10 37 59 A", "CE654321D"], "national_id"),
        ("tax_number", ["36/574/26180", "12/345/67890", "98/765/43210"], "national_id"),
    ],
)
def test_checks_of_cards_accounts_and_phones(name: str, values: list[str], kind: str | None) -> None:
    assert kind_of(name, values) == kind


def test_values_from_all_parts_of_a_column_are_checked() -> None:
    values = [f"+4930{number:07d}" for number in islice(range(0, 10**7, 12_345), 100)]
    assert kind_of("x", values * 4 + ["none"] * 50) == "phone"
    assert kind_of("x", values + ["none"] * 400) is None
