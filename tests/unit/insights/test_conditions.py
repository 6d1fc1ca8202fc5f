"""Conditions are checked when they are written, and what cannot be decided does not hold."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ValidationFailedError
from shared.insights.conditions import LOOP_VALUES, ClientConditions, check_conditions

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
CLIENT = {
    "age": 31,
    "country": "DE",
    "income": 1234.5,
    "tags": ["gold", "new"],
    "Loan amount": 900,
    "home": {"city": "Köln"},
    "left": None,
    "joined": "2026-06-01T00:00:00Z",
    "number": 10**25,
    "is_member": True,
}


def failure(condition: str, fields: dict[str, Any] = CLIENT) -> str | None:
    failed = ClientConditions(fields, NOW).failed([condition])
    return failed.reason if failed else None


@pytest.mark.row("EL-1")
@pytest.mark.parametrize(
    "condition",
    [
        'client.age >= 18 && client.country in ["DE", "AT"]',
        "client.age < 31.5",
        'client["Loan amount"] == 900',
        'client.home.city.startsWith("K")',
        'client.tags.exists(tag, tag == "gold")',
        "client.left == null",
        "!has(client.email)",
        "client.is_member",
        'now - timestamp(client.joined) < duration("1000h")',
        "client.number > 5.0",
        "client.phone == 1 || true",
    ],
)
def test_a_condition_that_holds_leaves_the_client_in(condition: str) -> None:
    check_conditions([condition], "body.conditions")
    assert failure(condition) is None


@pytest.mark.row("EL-1")
@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("client.age >= 40", "does not hold: client.age is 31"),
        (
            'client.age >= 18 && client["country"] == "FR"',
            'does not hold: client.age is 31, client["country"] is "DE"',
        ),
        ('client.email.endsWith("@example.com")', "cannot be decided: client.email is missing"),
        ("client.country > 3", 'cannot be decided: client.country is "DE"'),
        ("client.left > 3", "cannot be decided: client.left is null"),
        ('client.home.street == "A"', "cannot be decided: client.home.street is missing"),
        ("client.age", "cannot be decided: client.age is 31"),
        ("false", "does not hold: it names no field of the client"),
        ('client.tags.all(tag, tag == "gold")', 'does not hold: client.tags is ["gold", "new"]'),
    ],
)
def test_a_condition_that_fails_states_the_client_s_values(condition: str, reason: str) -> None:
    assert failure(condition) == reason


@pytest.mark.row("EL-1")
@pytest.mark.parametrize(
    ("condition", "place", "problem"),
    [
        ("client.age >= 18 &&", "line 1, column 20", "mismatched input"),
        ("client.age >= 18 && old(client.age)", "line 1, column 24", "undeclared reference to 'old'"),
        ("client.age.years() > 3", "line 1, column 17", "undeclared reference to 'years'"),
        ("age >= 18", "line 1, column 1", "undeclared reference to 'age'"),
        ('size(client.tags) > "2"', "line 1, column 19", "no matching overload"),
        ('true &&\n  "a" + 1 == "b"', "line 2, column 7", "no matching overload"),
        ('"DE"', "line 1, column 1", "must be true or false"),
        ("client.age + 1", "line 1, column 1", "must be true or false"),
        ('client.country.matches("D.*")', "line 1, column 23", "use startsWith"),
        ("client.tags.all(tag, tag > )", "line 1, column 28", "Syntax error"),
        ("client.tags.all(tag, size(tag) + 1 > 2)", "line 1, column 1", "cannot add"),
        ("(" * 200 + "true" + ")" * 200, "line 1, column 1", "nested too deep"),
    ],
)
def test_a_mistake_is_refused_with_its_position(condition: str, place: str, problem: str) -> None:
    with pytest.raises(ValidationFailedError) as refused:
        check_conditions(["true", condition], "body.conditions")
    (detail,) = refused.value.details
    assert detail.field == "body.conditions[1]"
    assert detail.message.startswith(place)
    assert problem in detail.message


def test_a_condition_with_a_loop_reads_a_small_client_only() -> None:
    loop = "client.list.all(a, a >= 0)"
    assert failure(loop, {"list": [1] * (LOOP_VALUES - 1)}) is None
    assert "has a loop" in str(failure(loop, {"list": [1] * (LOOP_VALUES + 1)}))
    assert "has a loop" in str(failure(loop, {"list": [1], "notes": "a" * 20_000}))
    # Without a loop, the size does not matter.
    assert failure("size(client.list) > 3", {"list": [1] * 5000}) is None


@pytest.mark.row("SE-5")
def test_the_longer_a_condition_with_a_loop_the_smaller_the_client_that_it_reads() -> None:
    fields = {"list": [1] * (LOOP_VALUES // 2)}
    assert failure("client.list.all(a, a >= 0)", fields) is None
    long = f"client.list.all(a, {' && '.join(['client.list == client.list'] * 30)})"
    assert "has a loop of 916 characters" in str(failure(long, fields))
    assert failure(long, {"list": [1] * (LOOP_VALUES // 10 - 1)}) is None


def test_nested_loops_end_at_the_limit_of_steps() -> None:
    nested = "client.list.all(a, client.list.all(b, client.list.all(c, c >= 0)))"
    assert failure(nested, {"list": [1] * 300}) == "takes too many steps for this client"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(min_size=1), each, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["age", "country", "home"]) | st.text(min_size=1), values, max_size=5))
def test_every_client_gets_a_decision(fields: dict[str, Any]) -> None:
    for condition in ("client.age >= 18", 'client.country in ["DE"]', 'client["home"].city == "x"'):
        reason = failure(condition, fields)
        assert reason is None or reason.startswith(("does not hold: ", "cannot be decided: "))
