import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chats.guard import SENTENCE_CHARACTERS, BlockedWords, SentenceBuffer

TEXTS = st.text(alphabet=st.sampled_from("ab .!?\n。é"), max_size=300)


@given(st.lists(TEXTS, max_size=20))
def test_the_buffer_returns_the_whole_text_for_any_pieces(pieces: list[str]) -> None:
    buffer = SentenceBuffer()
    assert "".join(map(buffer.add, pieces)) + buffer.rest() == "".join(pieces)


def test_the_buffer_returns_a_sentence_when_it_is_complete() -> None:
    buffer = SentenceBuffer()
    assert buffer.add("It is") == ""
    assert buffer.add(" fine. And") == "It is fine."
    assert buffer.rest() == " And"


def test_the_buffer_returns_a_long_text_without_an_end() -> None:
    buffer = SentenceBuffer()
    returned = buffer.add("word " * SENTENCE_CHARACTERS)
    assert len(returned) >= SENTENCE_CHARACTERS


@pytest.mark.parametrize(
    ("text", "is_blocked"),
    [
        ("Project Falcon is near", True),
        ("PROJECT\n falcon!", True),
        ("projects falcons", False),
        ("subproject falcon", False),
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
