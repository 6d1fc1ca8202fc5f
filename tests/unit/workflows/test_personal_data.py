"""Personal data is found by names and values, with a reason, and not where the values contradict the name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.workflows.connector_scan.personal_data import find_personal_data, is_card_number, is_iban
from shared.models.reading import ColumnTypeName

NAMES = ["Ada", "Grace", "Mary Ann", "Jean-Luc", "Zoë"]


@pytest.mark.row("X-12")
@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("contact", [f"p{n}@example.com" for n in range(9)] + ["none given"], "email"),
        ("x", ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR1420041010050500013M02606"], "iban"),
        ("x", ["4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005"], "card"),
        ("x", ["123-45-6789", "321-54-9876", "536-90-4399"], "national_id"),
        ("passportNo", ["C01X00T47", "X1234567", "L8988901C"], "national_id"),
        ("x", ["+49 30 901820", "+1 (212) 555-0100", "0044 20 7946 0958"], "phone"),
        ("Mobile phone", ["030 901820", "(212) 555-0100", "020 7946 0958"], "phone"),
        ("firstName", NAMES, "person_name"),
        ("customer_name", ["Ada Lovelace", "Grace Hopper", "Mary Ann Evans"], "person_name"),
        ("home address", ["12 Main Street", "Via Roma 3", "Hauptstrasse 7a"], "address"),
        ("date_of_birth", ["1815-12-10", "1906-12-09", "1819-11-22"], "date_of_birth"),
    ],
)
def test_each_kind_of_personal_data_is_found(name: str, values: list[str], kind: str) -> None:
    found = find_personal_data(name, "string", values, len(values))
    assert found is not None
    assert (found.kind, found.is_direct) == (kind, kind != "date_of_birth")
    assert found.reason


@pytest.mark.parametrize(
    ("name", "kind", "values", "rows"),
    [
        ("telephone", "string", ["yes", "no", "registered"], 1000),
        ("email", "string", ["weekly", "monthly", "never"], 3),
        ("phone", "boolean", ["true", "false"], 2),
        ("product_name", "string", ["Gold Card", "Silver Card", "Blue Card"], 3),
        ("name", "string", ["Gold Card", "Silver Card", "Blue Card"], 1000),
        ("username_length", "int", ["5", "6", "7"], 3),
        ("amount", "int", ["4000", "5000", "6000"], 3),
        ("discard", "int", ["4111", "4112", "4113"], 3),
        ("timestamp", "int", [str(1_700_000_000_000 + n) for n in range(50)], 50),
        ("phone", "string", [], 0),
    ],
)
def test_what_the_values_speak_against_is_not_flagged(
    name: str, kind: ColumnTypeName, values: list[str], rows: int
) -> None:
    assert find_personal_data(name, kind, values, rows) is None


@given(st.text(max_size=40))
def test_any_text_can_be_asked_about(text: str) -> None:
    find_personal_data(text, "string", [text, text[::-1], text * 2], 3)
    assert not (is_iban(text) and is_card_number(text))


@given(st.from_regex(r"4[0-9]{14}", fullmatch=True))
def test_one_in_ten_check_digits_is_right(digits: str) -> None:
    assert sum(is_card_number(digits + str(last)) for last in range(10)) == 1
