"""Units must agree, numbers follow their language, and nothing is unsupported in a language that is not known."""

from typing import Any

import pytest

from shared.grounding.claims import ground
from shared.grounding.languages import language_of
from shared.models.claim import Claim, Support
from tests.fixtures.cldr import LANGUAGES, MODULE, tables
from tests.load.grounding_accuracy import PRECISION, RECALL, measure

FACTS: dict[str, Any] = {
    "client": {"name": "Anna Schmidt", "balance": 1500, "share_of_savings": 0.25, "age": 42, "city": "Köln"},
    "product": {"name": "Gold Card", "discount": 12.5, "term": 24, "fee": "1.234,50 EUR", "since": "2019-03-05"},
}


def claim(text: str, facts: dict[str, Any] = FACTS) -> Claim:
    (found,) = ground(text, facts)
    return found


@pytest.mark.row("GR-1", "Y-5")
@pytest.mark.parametrize(
    ("text", "is_supported"),
    [
        ("Your balance is 1,500 EUR.", True),
        ("Your balance is 1,500.", True),
        ("Your balance is 1500 %.", False),
        ("Your balance lasts 1500 months.", False),
        ("Your balance lasts 1,500 days.", False),
        ("You save 25 % of it.", True),
        ("You save 0.25 % of it.", False),
        ("You save for 25 years.", False),
        ("You are 42 years old.", True),
        ("You are 42 months old.", False),
        ("It costs 42 %.", False),
        ("You get a discount of 12.5 %.", True),
        ("You get it for 12.5 months.", False),
        ("It runs for 24 months.", True),
        ("It runs at 24 %.", False),
        ("The fee is 1,234.50 EUR.", True),
        ("The fee is 1,234.50 USD.", False),
        ("The fee is 1,234.50 %.", False),
        ("Das Guthaben beträgt 1.500 €.", True),
        ("Das Guthaben beträgt 1,500 €.", False),
        ("Die Gebühr ist 1.234,50 Euro.", True),
        ("Die Gebühr ist 1,234 Euro.", False),
        ("Le solde est de 1 500 euros.", True),
        ("Le solde est de 1 500 pour cent.", False),
        ("El descuento es del 12,5 por ciento.", True),
        ("El descuento dura 12,5 meses.", False),
        ("Rabat wynosi 12,5 procent.", True),
        ("Lo sconto vale per 12,5 mesi.", False),
    ],
)
def test_a_figure_supports_only_claims_in_its_unit_and_in_the_numbers_of_the_language(
    text: str, is_supported: bool
) -> None:
    assert (claim(text).support is Support.SUPPORTED) is is_supported


@pytest.mark.row("GR-2")
def test_precision_and_recall_on_the_corpus_of_six_languages_reach_their_goals() -> None:
    found, _ = measure()
    total = found["all"]
    assert found.keys() == {*LANGUAGES, "all"}
    assert min(total.true, total.false) >= 200
    assert total.precision >= PRECISION
    assert total.recall >= RECALL
    # No language stays far behind the others.
    assert all(each.precision >= 0.9 and each.recall >= 0.9 for each in found.values())


@pytest.mark.row("GR-2")
@pytest.mark.parametrize(
    "text",
    [
        "お客様の残高は9,900ユーロです。",
        "Ваш баланс составляет 9 900 евро, и Лондон ждёт вас.",
        "Uw saldo bedraagt 9.900 euro en u woont in Amsterdam.",
        "O seu saldo é de 9.900 euros e não tem uma conta em Lisboa.",
        "Ditt saldo är 9 900 euro och du bor i Stockholm.",
        "Váš zůstatek je 9 900 eur a bydlíte ve městě, které má Praha.",
        "Az Ön egyenlege 9 900 euró, és nem is Budapest.",
        "رصيدك هو ٩٩٠٠ يورو.",
    ],
)
def test_a_sentence_in_a_language_that_is_not_known_is_unchecked(text: str) -> None:
    found = claim(text)
    assert (found.support, found.missing) == (Support.UNCHECKED, [])
    assert found.coverage == 0


@pytest.mark.row("GR-2")
def test_a_foreign_sentence_in_a_text_of_a_known_language_is_unchecked() -> None:
    found = ground("You are 42 years old and you live in Köln. お客様の残高は9,900ユーロです。Saldo: 1,600.", FACTS)
    assert [each.support for each in found] == [Support.SUPPORTED, Support.UNCHECKED, Support.UNSUPPORTED]


@pytest.mark.row("GR-2")
@pytest.mark.parametrize(
    ("text", "support"),
    [
        # German capitalises nouns, so a capital letter makes no name.
        ("Mit dieser Versicherung sichern Sie Ihre Familie und das Haus ab.", Support.UNCHECKED),
        ("Sehr geehrte Frau Schmidt, wir haben etwas für Sie.", Support.SUPPORTED),
        ("Sehr geehrte Frau Müller, wir haben etwas für Sie.", Support.UNSUPPORTED),
        ("Die Gold Card passt zu Ihnen.", Support.SUPPORTED),
        ("Die Platin Card passt zu Ihnen.", Support.UNSUPPORTED),
        ("Seit März 2019 sind Sie bei uns.", Support.SUPPORTED),
        ("Seit Mai 2019 sind Sie bei uns.", Support.UNSUPPORTED),
        # Polish inflects names.
        ("Mamy ofertę dla Anny.", Support.SUPPORTED),
        ("Mamy ofertę dla Ewy.", Support.UNSUPPORTED),
        ("Vous habitez à Köln et vous voyagez souvent.", Support.SUPPORTED),
        ("Vous habitez à Paris et vous voyagez souvent.", Support.UNSUPPORTED),
        ("Con nosotros usted vive sin preocupaciones.", Support.UNCHECKED),
    ],
)
def test_names_follow_what_a_language_capitalises(text: str, support: Support) -> None:
    assert claim(text).support is support


def test_the_coverage_of_a_claim_is_the_share_of_its_parts_that_facts_have() -> None:
    assert claim("Your balance is 1,500 EUR.").coverage == 1
    assert claim("Your balance is 1,600 EUR.").coverage == 0.5
    assert claim("The Gold Card, with golf.").coverage == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wir freuen uns auf Sie.", "de"),
        ("We look forward to you.", "en"),
        ("Estamos a su disposición para lo que necesite.", "es"),
        ("Nous sommes à votre disposition pour vous aider.", "fr"),
        ("Siamo a Sua disposizione per ogni domanda.", "it"),
        ("Jesteśmy do Pani dyspozycji w każdej sprawie.", "pl"),
        ("Wij zijn er voor u en helpen met het plan.", None),
        ("1500", None),
        ("", None),
    ],
)
def test_a_language_is_recognised_by_its_function_words(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_the_tables_of_languages_are_those_of_cldr() -> None:
    assert MODULE.read_text() == tables()
