"""Grounding marks false claims as unsupported and true claims as supported, in any spelling."""

import time
from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.grounding.claims import ground, split_sentences
from shared.models.claim import Claim, Support

FACTS: dict[str, Any] = {
    "client": {
        "name": "Anna Schmidt",
        "age": 42,
        "income_eur": 5120.4,
        "churnRisk": 0.8123,
        "joined": "2019-03-05T10:00:00Z",
        "hasCar": False,
        "owns_home": True,
        "city": "Köln",
        "tenure_months": 24,
        "accounts": [{"kind": "savings", "balance": 48_730}, {"kind": "checking", "balance": -250}],
        "phone": None,
    },
    "product": {
        "name": "Gold Card",
        "description": "No annual fee for 12 months. Travel insurance up to €50,000. Details at www.bank.example/gold",
    },
    "insight_spec": {"insight": "Anna travels abroad 7 times a year", "best_time": "18:30", "partner": "A380 lounge"},
}


def claim(text: str, facts: dict[str, Any] = FACTS) -> Claim:
    (found,) = ground(text, facts)
    return found


def is_supported(text: str, facts: dict[str, Any] = FACTS) -> bool:
    return claim(text, facts).support is Support.SUPPORTED


@pytest.mark.row("Y-5")
@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("You earn 5,120.40 EUR.", "client.income_eur"),
        ("You earn 5.120,40 € a month.", "client.income_eur"),
        ("You earn EUR 5 120 a month.", "client.income_eur"),
        ("You earn about five thousand euros.", "client.income_eur"),
        ("You earn over €5,000.", "client.income_eur"),
        ("You earn 5.1k EUR.", "client.income_eur"),
        ("The risk is 81%.", "client.churnRisk"),
        ("The risk is 81.2 percent.", "client.churnRisk"),
        ("The risk is 0.81.", "client.churnRisk"),
        ("The risk is 81 out of 100.", "client.churnRisk"),
        ("You are forty-two.", "client.age"),
        ("You have been with us for 2 years.", "client.tenure_months"),
        ("You have been with us for twenty-four months.", "client.tenure_months"),
        ("You have been with us since 2019.", "client.joined"),
        ("You joined on March 5th, 2019.", "client.joined"),
        ("You joined on 5 March.", "client.joined"),
        ("You joined on 05.03.2019.", "client.joined"),
        ("You joined in Mar 2019.", "client.joined"),
        ("The balance of your savings is 48,730.", "client.accounts.0.balance"),
        ("You are overdrawn by 250.", "client.accounts.1.balance"),
        ("Your balance is -250.", "client.accounts.1.balance"),
        ("It costs nothing for a 12-month period.", "product.description"),
        ("It costs nothing for one year.", "product.description"),
        ("You are insured up to 50.000 euros.", "product.description"),
        ("You travel seven times.", "insight_spec.insight"),
        ("I will call at 6:30 pm.", "insight_spec.best_time"),
        ("The Gold Card is here.", "product.name"),
        ("You live in KÖLN.", "client.city"),
        ("It comes with the A380 lounge.", "insight_spec.partner"),
        ('We promise "no annual fee".', "product.description"),
        ("Read more at www.bank.example/gold.", "product.description"),
        ("You own your home.", "client.owns_home"),
        ("You have no car.", "client.hasCar"),
        ("Abroad you have travel insurance.", "product.description"),
    ],
)
def test_a_claim_with_the_value_of_a_field_is_supported_in_any_spelling(text: str, field: str) -> None:
    found = claim(text)
    assert (found.support, found.missing) == (Support.SUPPORTED, [])
    assert field in found.fields


@pytest.mark.row("Y-5")
@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("You earn 5,130 EUR.", "5,130 EUR"),
        ("You earn $5,120.40.", "$5,120.40"),
        ("You earn 5,120.41 EUR.", "5,120.41 EUR"),
        ("You earn about 6,000 EUR.", "6,000 EUR"),
        ("You earn over 5,200 EUR.", "5,200 EUR"),
        ("You earn nearly 5,000 EUR.", "5,000 EUR"),
        ("You earn 5 million.", "5 million"),
        ("The risk is 82%.", "82%"),
        ("The risk is 80%.", "80%"),
        ("The risk is 0.82.", "0.82"),
        ("You are forty-three.", "forty-three"),
        ("You have been with us for 3 years.", "3 years"),
        ("You have been with us for 24 years.", "24 years"),
        ("You have been with us since 2018.", "2018"),
        ("You joined on March 6th, 2019.", "March 6th, 2019"),
        ("You joined in April 2019.", "April 2019"),
        ("You joined on 2019-03-06.", "2019-03-06"),
        ("You are insured up to 60.000 euros.", "60.000 euros"),
        ("You travel eight times.", "eight"),
        ("I will call at 7:30 pm.", "7:30 pm"),
        ("Anna likes the Platinum Card.", "Platinum Card"),
        ("Lufthansa takes you there.", "Lufthansa"),
        ("It comes with the A350 lounge.", "A350"),
        ('We promise "no fee for ever".', "no fee for ever"),
        ("Read more at www.evil.example.", "www.evil.example"),
        ("Write to sales@evil.example.", "sales@evil.example"),
        ("You rent your home.", "rent"),
        ("You have a car.", "car"),
        ("You do not own your home.", "own"),
        ("Skydiving and golf excite you.", "golf"),
    ],
)
def test_a_claim_without_a_matching_field_is_unsupported_and_names_the_missing_part(text: str, missing: str) -> None:
    found = claim(text)
    assert found.support is Support.UNSUPPORTED
    assert missing in found.missing


def test_a_greeting_or_question_is_a_claim_only_with_a_name_or_figure() -> None:
    nothing = "Hello! Would you like to know more? Please let me know. We look forward to your reply. Best regards."
    assert ground(nothing, FACTS) == []
    assert is_supported("Dear Anna,")
    assert not is_supported("Dear Bob,")
    assert not is_supported("Would you like 500 EUR?")
    assert ground("", FACTS) == []


@pytest.mark.parametrize("letter", "\u0130\u0131\u017f\u212a")
def test_letters_with_unusual_upper_or_lower_case_cause_no_error(letter: str) -> None:
    for written in ("5 mill{}on", "5 thou{}and EURO{}", "5{}", "f{}ve", "5 {}EK", "at lea{}t 5"):
        assert ground(written.replace("{}", letter), FACTS) is not None


def test_an_empty_field_supports_no_claim() -> None:
    assert not is_supported("Your phone rings.")


def test_a_claim_names_the_fields_that_its_sentence_mentions() -> None:
    facts = {"client": {"age": 12, "children": 12, "tenure_months": 12}}
    assert claim("You have 12 children.", facts).fields == ["client.children"]
    assert claim("You are 12 years old.", facts).fields == ["client.age"]
    assert claim("It is 12.", facts).fields == ["client.age", "client.children", "client.tenure_months"]


def test_a_claim_may_use_any_currency_unless_the_facts_name_one() -> None:
    assert is_supported("You earn $500.", {"client": {"income": 500}})
    assert is_supported("You earn $500.", {"client": {"income": 500, "currency": "USD"}})
    assert not is_supported("You earn $500.", {"client": {"income": 500, "currency": "EUR"}})


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Mr. Smith earns 5.5 k. He saves.", ["Mr. Smith earns 5.5 k.", "He saves."]),
        ("It costs approx. 5 EUR, e.g. in Rome. Good!", ["It costs approx. 5 EUR, e.g. in Rome.", "Good!"]),
        ("Am 5. März 2019 begann es. Gut.", ["Am 5. März 2019 begann es.", "Gut."]),
        ('He said "Yes." Then he left...', ['He said "Yes."', "Then he left..."]),
        ("One\nTwo\n\n- Three", ["One", "Two", "- Three"]),
        ("いい。はい。", ["いい。", "はい。"]),
        ("  ", []),
    ],
)
def test_a_text_is_split_into_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(max_size=300), st.dictionaries(st.text(max_size=10), st.text(max_size=30) | st.floats() | st.integers()))
def test_grounding_accepts_any_text_and_facts(text: str, client: dict[str, Any]) -> None:
    for found in ground(text, {"client": client}):
        assert (found.support is Support.UNSUPPORTED) == bool(found.missing)
        assert found.text in text
        assert all(field.startswith("client.") for field in found.fields)


MIXED = st.lists(
    st.sampled_from([*"0123456789.,-:/%€$ \n\"'", "EUR", "March", " am", "million", "about ", "Anna", "A3", "twenty "]),
    max_size=40,
).map("".join)


@given(st.text(max_size=200) | MIXED)
def test_a_fact_with_the_whole_text_supports_its_claims(text: str) -> None:
    for found in ground(text, {"client": {"notes": text}}):
        if found.support is Support.UNSUPPORTED:
            assert found.missing == [], found


def _grouped(separator: str) -> Callable[[Decimal], str]:
    def spell(value: Decimal) -> str:
        return f"{value:,}".replace(",", separator)

    return spell


def _european(value: Decimal) -> str:
    return f"{value:,}".translate(str.maketrans(",.", ".,"))


TENS: dict[int, str] = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty"}
ONES: list[str] = ["", *(f"-{word}" for word in "one two three four five six seven eight nine".split())]  # noqa: SIM905
AMOUNTS: list[Callable[[Any], str]] = [
    lambda value: f"{value:,} EUR",
    lambda value: f"€{value}",
    lambda value: f"EUR {value:,}",
    lambda value: f"{_european(value)} €",
    lambda value: f"{_grouped(' ')(value)} euros",
    lambda value: f"{_grouped(chr(0x202F))(value)} EUR",
    lambda value: f"€ {_grouped(chr(0x2019))(value)}",
]
SHARES: list[Callable[[Any], str]] = [
    lambda value: f"{100 * value:.0f}%",
    lambda value: f"{100 * value:.1f} %",
    lambda value: f"{100 * value:.2f} percent",
    lambda value: f"{100 * value:.0f} out of 100",
]
MONTHS: list[Callable[[Any], str]] = [
    lambda value: f"{value} months",
    lambda value: f"{value}-month",
    lambda value: f"{TENS[value // 10]}{ONES[value % 10]} months",
]
DAYS: list[Callable[[Any], str]] = [
    lambda value: value.isoformat(),
    lambda value: f"{value:%d.%m.%Y}",
    lambda value: f"{value:%d %B %Y}",
    lambda value: f"{value:%B} {value.day}, {value.year}",
    lambda value: f"{value:%b} {value.day}th, {value.year}",
    lambda value: f"the {value.day}th of {value:%B} {value.year}",
    lambda value: f"{value:%Y/%m/%d}",
]


@st.composite
def stories(draw: st.DrawFn) -> tuple[dict[str, Any], list[str], list[str]]:
    """Generates facts, true sentences about them, and the same sentences with false figures."""
    cents = st.integers(1_000_000, 9_999_999).map(lambda value: Decimal(value) / 100)
    amount, other_amount = draw(cents), draw(cents)
    shares = st.integers(1, 99).map(lambda value: Decimal(value) / 100)
    share, other_share = draw(shares), draw(shares)
    months, other_months = draw(st.integers(20, 59)), draw(st.integers(20, 59))
    day, other_day = (draw(st.dates(date(1990, 1, 1), date(2030, 12, 28))) for _ in range(2))
    assume(abs(amount - other_amount) > 1 and share != other_share and months != other_months and day != other_day)
    # The stored share differs slightly from the share in the text, because texts round.
    exact = float(share + draw(st.integers(-4, 4)) * Decimal("0.00001"))
    facts = {
        "client": {"income": float(amount), "response_rate": exact, "joined": day.isoformat()},
        "product": {"name": "Loan", "term": f"fixed for {months} months"},
        "insight_spec": {"insight": "earns well"},
    }
    spellings = [draw(st.sampled_from(each)) for each in (AMOUNTS, SHARES, MONTHS, DAYS)]
    sentences = ["Your income is {}.", "The rate is {}.", "The loan has a {} term.", "You joined on {}."]
    truths, lies = (
        [sentence.format(spell(value)) for sentence, spell, value in zip(sentences, spellings, values, strict=True)]
        for values in ((amount, share, months, day), (other_amount, other_share, other_months, other_day))
    )
    return facts, truths, lies


@pytest.mark.row("Y-5")
@given(stories(), st.integers(0, 3))
def test_only_the_sentence_with_a_false_figure_is_unsupported(
    story: tuple[dict[str, Any], list[str], list[str]], planted: int
) -> None:
    facts, truths, lies = story
    text = " ".join(lies[index] if index == planted else truth for index, truth in enumerate(truths))
    assert [found.missing for found in ground(" ".join(truths), facts)] == [[]] * 4
    marked = [found.support is Support.UNSUPPORTED for found in ground(text, facts)]
    assert marked == [index == planted for index in range(4)], text


@given(st.decimals("-1e6", "1e6", places=6, allow_nan=False), st.sampled_from([0, 1, 2, 4]))
def test_a_figure_is_compared_at_its_stated_precision(value: Decimal, places: int) -> None:
    step = Decimal(1).scaleb(-places)
    stated = value.quantize(step, ROUND_HALF_UP)
    facts = {"client": {"value": float(value)}}
    assert is_supported(f"It is {stated}.", facts)
    for wrong in (stated + step, stated - step):
        if abs(wrong - value) > step * Decimal("0.5001"):
            assert not is_supported(f"It is {wrong}.", facts), wrong


def test_grounding_of_the_largest_text_and_facts_takes_less_than_five_seconds() -> None:
    """A request may take much longer than this. The text and the facts consist only of figures."""
    text = " ".join(map(str, range(1000, 3000)))
    facts = {"client": {str(number): number / 7 for number in range(1000)}}
    began = time.process_time()
    assert claim(text, facts).support is Support.UNSUPPORTED
    assert time.process_time() - began < 5
