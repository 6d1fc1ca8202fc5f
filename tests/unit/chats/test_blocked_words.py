"""Tests of blocked words, alone and over a corpus of evasions and harmless texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chats.blocked_words import CONTEXT_CHARACTERS, BlockedWords
from tests.fixtures.guard_corpus import LANGUAGES, Case, evasions, innocents

# What the corpus has shown so far. A change may only better it.
MOST_MISSED = 0.01
MOST_FALSE_ALARMS = 0.0


def is_found(case: Case) -> bool:
    return BlockedWords([case.word]).find(case.text) is not None


@pytest.mark.row("GW-6")
def test_the_corpus_is_told_apart_at_the_stated_rates(capsys: pytest.CaptureFixture[str]) -> None:
    hidden, harmless = list(evasions()), list(innocents())
    missed = [case for case in hidden if not is_found(case)]
    alarms = [case for case in harmless if is_found(case)]
    with capsys.disabled():
        print(
            f"\nblocked words in {len(LANGUAGES)} languages: {1 - len(missed) / len(hidden):.1%} of {len(hidden)} "
            f"evasions found, {len(alarms) / len(harmless):.1%} of {len(harmless)} harmless texts blocked; "
            f"missed: {', '.join(sorted({case.way for case in missed})) or 'none'}"
        )
    assert len(LANGUAGES) >= 10
    assert len(missed) / len(hidden) <= MOST_MISSED, missed
    assert len(alarms) / len(harmless) <= MOST_FALSE_ALARMS, alarms


@pytest.mark.parametrize(
    ("text", "is_blocked"),
    [
        ("Project Falcon is near", True),
        ("PROJECT\n falcon!", True),
        ("the project-falcon files", True),
        ("projects falcons", False),
        ("subproject falcon", False),
        ("projectfalcon", False),
    ],
)
def test_a_blocked_phrase_matches_whole_words_in_any_case(text: str, is_blocked: bool) -> None:
    found = BlockedWords(["project falcon"]).find(text)
    assert (found is not None) is is_blocked


@pytest.mark.row("SE-6")
@pytest.mark.parametrize(
    "text",
    [
        "\u212aate's file",  # the Kelvin sign
        "\uff2b\uff21\uff34\uff25",  # full-width letters
        "k\u200ba\u00adt\u2060e",  # invisible characters
        "\U0001d424\U0001d41a\U0001d42d\U0001d41e",  # mathematical letters
        "ka\x00te",
        "K\U000e0061ATE",  # a tag character
    ],
)
def test_a_blocked_word_is_found_in_foreign_letters(text: str) -> None:
    assert BlockedWords(["Kate"]).find(f"about {text}") == "kate"


@pytest.mark.row("SE-6")
def test_blocked_words_are_compared_in_the_same_form_as_texts() -> None:
    assert BlockedWords(["\uff2bate", "stra\u00dfe"]).find("by kate") == "kate"
    assert BlockedWords(["stra\u00dfe"]).find("in der STRASSE") == "strasse"
    assert BlockedWords(["caf\u00e9"]).find("the cafe\u0301") == "caf\u00e9"
    assert BlockedWords(["\u200b\u00ad", "kate"]).find("Hello") is None
    assert BlockedWords(["\u200b\u00ad"]).find("Hello") is None


@pytest.mark.row("GW-6")
@pytest.mark.parametrize(
    ("before", "text", "after", "is_blocked"),
    [
        ("x" * 3000 + " the gr", "ass is green", "", False),
        ("the gr", "ass is green", "", False),
        ("the ", "ass", "umption", False),
        ("the ", "ass", " is here", True),
        ("the a", "ss is here", "", True),
        ("the as", "s", "", True),
        ("y " * 3000 + "the a", "ss is here", "", True),
        ("gr" + "ass" * 1000, "x", "", False),
    ],
)
def test_the_edge_of_a_window_is_no_edge_of_a_word(before: str, text: str, after: str, is_blocked: bool) -> None:
    assert (BlockedWords(["ass"]).find(text, before, after) is not None) is is_blocked


@pytest.mark.row("GW-6")
@pytest.mark.parametrize("word", ["c++", "at&t", "u.s.", "\U0001f52b", "x"])
def test_a_word_of_signs_is_compared_sign_by_sign(word: str) -> None:
    assert BlockedWords([word]).find(f"about {word.upper()} and more")
    assert BlockedWords([word]).find("about c, at, t, us and axe") is None


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 120))
def test_a_word_is_found_wherever_a_stream_is_cut(before: str, after: str, place: int) -> None:
    whole = f"{before}\n falcon \n{after}"
    blocked = BlockedWords(["falcon"])
    assert blocked.find(whole[place:], whole[:place][-CONTEXT_CHARACTERS:]) == "falcon"
