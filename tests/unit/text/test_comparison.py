"""Tests of the forms in which addresses, names and texts are compared, with random Unicode."""

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.text.comparison import comparable_address, comparable_name, comparable_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LOCAL_PARTS = st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-zA-Z0-9_+-]{1,20})?", fullmatch=True)
DOMAINS = st.from_regex(r"([a-zA-Z0-9]{1,10}\.){1,3}[a-zA-Z]{2,6}", fullmatch=True)
EVERY_CHARACTER = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]


@pytest.mark.row("SE-6")
def test_no_letter_outside_ascii_equals_an_ascii_letter_before_the_at_sign() -> None:
    for character in EVERY_CHARACTER[128:]:
        if not character.isspace():
            with pytest.raises(ValueError, match="not ASCII"):
                comparable_address(f"{character}ate@example.com")


@pytest.mark.row("SE-6")
@given(LOCAL_PARTS, DOMAINS)
def test_an_ascii_address_differs_from_its_comparable_form_only_by_case(local_part: str, domain: str) -> None:
    """So invites that were stored in lower case are found."""
    address = f"{local_part}@{domain}"
    assert comparable_address(f" {address}\n") == address.lower()
    assert comparable_address(address.swapcase()) == address.lower()


@pytest.mark.row("SE-6")
@given(TEXTS, TEXTS)
@example("kate", "b\u00fccher.example")
@example("kate", "\u4f8b\u3048.\u30c6\u30b9\u30c8")
def test_a_comparable_address_is_ascii_and_stays_the_same(local_part: str, domain: str) -> None:
    try:
        address = comparable_address(f"{local_part}@{domain}")
    except ValueError:
        return
    assert address.isascii()
    assert address == address.lower()
    assert comparable_address(address) == address


@pytest.mark.row("SE-6")
@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("kate@B\u00dcCHER.example", "kate@xn--bcher-kva.example"),
        ("kate@bu\u0308cher.example", "kate@xn--bcher-kva.example"),
        ("kate@XN--BCHER-KVA.example", "kate@xn--bcher-kva.example"),
        ("kate@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com", "kate@example.com"),
    ],
)
def test_a_domain_is_compared_by_its_form_in_the_dns(written: str, compared: str) -> None:
    assert comparable_address(written) == compared


@pytest.mark.row("SE-6")
@pytest.mark.parametrize(
    "address",
    [
        "kate",
        "@example.com",
        "kate@",
        "kate@example",
        "kate@-a.com",
        "kate@stra\u00dfe.de",
        "kate@\u03bb\u03bf\u03b3\u03bf\u03c2.gr",
        "kate@exa\u200dmple.com",
        "kate@\u0440\u0430\u0443\u03a9\u0000.com",
        "kate@exam ple.com",
        '"kate"@example.com',
        f"{'k' * 65}@example.com",
        f"kate@{'a.' * 130}com",
    ],
)
def test_what_programs_read_in_two_ways_or_not_at_all_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"^(is not|has) "):
        comparable_address(address)


@pytest.mark.row("SE-6")
@given(TEXTS)
def test_the_comparable_form_of_a_name_ignores_case_blanks_and_composition(name: str) -> None:
    compared = comparable_name(name)
    assert comparable_name(compared) == compared
    for form in ("NFC", "NFD"):
        assert comparable_name(unicodedata.normalize(form, name)) == compared
    assert comparable_name(name.casefold()) == compared
    assert comparable_name(f" \t{name.replace(' ', '   ')}\u00a0") == compared


@pytest.mark.row("SE-6")
def test_names_that_people_distinguish_stay_different() -> None:
    assert len({comparable_name(name) for name in ("Ann 2", "Ann \u00b2", "Anna", "\u00c4nn 2")}) == 4


@pytest.mark.row("SE-6")
@given(TEXTS, st.sampled_from("\u200b\u00ad\u2060\ufeff\u034f\u115f\u3164\uffa0\ufe0f\U000e0041\x00\x7f"), st.data())
def test_the_comparable_form_of_a_text_ignores_case_width_and_invisible_characters(
    text: str, invisible: str, data: st.DataObject
) -> None:
    compared = comparable_text(text)
    assert comparable_text(compared) == compared
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert comparable_text(unicodedata.normalize(form, text)) == compared
    assert comparable_text(text.casefold()) == compared
    place = data.draw(st.integers(0, len(text)))
    word = "kate"
    hidden = f"{word[:2]}{invisible}{word[2:]}"
    assert comparable_text(f"{text[:place]} {hidden} {text[place:]}") == comparable_text(
        f"{text[:place]} {word} {text[place:]}"
    )


@pytest.mark.row("SE-6")
def test_every_character_has_a_stable_comparable_form() -> None:
    for character in EVERY_CHARACTER:
        for compare in (comparable_name, comparable_text):
            assert compare(compare(character)) == compare(character)
