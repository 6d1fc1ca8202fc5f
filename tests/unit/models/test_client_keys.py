"""Tests of client keys: which field names a customer, and which spellings are one key."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.models.action import channel_key
from shared.models.client_key import ClientKeyRule
from shared.models.insight import Client

RULE = ClientKeyRule()


@pytest.mark.row("LG-1")
@pytest.mark.parametrize(
    "content",
    [
        {"customer_id": 4},
        {"customerId": "4"},
        {"Customer-ID": " 4 "},
        {"customer_number": 4.0},
        {"CLIENT_ID": "4.0"},
        {"id": "\uff14"},
        {"client_key": 4, "id": 99},
        {"id": 99, "customer_id": 4},
        {"customer_id": None, "customerId": "", "id": 4},
        {"customer_id": True, "client_number": 4},
    ],
)
def test_all_spellings_of_the_key_are_one_customer(content: dict[str, Any]) -> None:
    name = RULE.name_of({**content, "age": 40})
    assert name is not None
    assert name.key == "4"
    assert Client.of(content, [RULE]).key == Client.of({"customer_id": 4}, [RULE]).key


@pytest.mark.row("LG-1")
@pytest.mark.parametrize("content", [{}, {"age": 40}, {"id": None}, {"id": " "}, {"id": [4]}, {"id": "x" * 201}])
def test_a_client_without_a_usable_field_has_no_key(content: dict[str, Any]) -> None:
    assert RULE.name_of(content) is None


@pytest.mark.row("LG-1")
def test_the_rule_says_which_fields_name_a_customer_and_what_is_ignored_in_values() -> None:
    iban = ClientKeyRule(fields=["iban", "account"], ignore_separators=True)
    name = iban.name_of({"IBAN": "DE89 3704 0044", "id": 4})
    assert name is not None
    assert (name.field, name.key) == ("IBAN", "de8937040044")
    assert iban.key_of("DE89-3704-0044") == name.key
    assert ClientKeyRule(ignore_case=False).key_of("Ab") != ClientKeyRule(ignore_case=False).key_of("AB")
    assert (RULE.key_of("007"), ClientKeyRule(ignore_leading_zeros=True).key_of("007")) == ("007", "7")
    assert ClientKeyRule(ignore_leading_zeros=True).key_of("000") == "0"


@given(st.one_of(st.text(max_size=50), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_key_is_its_own_spelling(value: Any) -> None:
    for rule in (RULE, ClientKeyRule(ignore_leading_zeros=True, ignore_separators=True)):
        key = rule.key_of(value)
        assert rule.key_of(key) == key


@pytest.mark.row("LG-1")
def test_a_customer_keeps_the_keys_that_earlier_rules_gave() -> None:
    strict = ClientKeyRule(ignore_case=False)
    before = Client.of({"customer_id": "C-1"}, [strict])
    now = Client.of({"customerId": "c-1"}, [RULE, strict])
    again = Client.of({"customer_id": "C-1"}, [RULE, strict])
    assert now.key == again.key != before.key
    assert before.key in again.former_keys


@pytest.mark.row("LG-6")
@pytest.mark.parametrize(
    "names",
    [
        ("email", "Email", "E-Mail", " e mail ", "E_MAIL", "\uff45mail", "electronic mail"),
        ("sms", "SMS", "S.M.S.", "text message"),
        ("phone", "Telephone", "phone call"),
        ("push", "Push notification"),
    ],
)
def test_names_of_channels_compare_by_what_people_mean(names: tuple[str, ...]) -> None:
    assert len({channel_key(name) for name in names}) == 1


@pytest.mark.row("LG-6")
def test_different_channels_stay_different() -> None:
    names = ("email", "letter", "sms", "phone", "push", "whatsapp", "☎", "✉")
    assert len({channel_key(name) for name in names}) == len(names)
