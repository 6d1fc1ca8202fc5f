import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chats.guard import SENTENCE_CHARACTERS, SentenceBuffer, _pattern

TEXTS = st.text(alphabet=st.sampled_from("ab .!?\n。é"), max_size=300)


@given(st.lists(TEXTS, max_size=20))
def test_what_the_buffer_gives_out_is_what_it_took_in_however_it_is_cut(pieces: list[str]) -> None:
    buffer = SentenceBuffer()
    assert "".join(map(buffer.add, pieces)) + buffer.rest() == "".join(pieces)


def test_a_sentence_is_held_back_until_it_is_whole() -> None:
    buffer = SentenceBuffer()
    assert buffer.add("It is") == ""
    assert buffer.add(" fine. And") == "It is fine."
    assert buffer.rest() == " And"


def test_a_text_without_an_end_is_not_held_back_for_ever() -> None:
    buffer = SentenceBuffer()
    given_out = buffer.add("word " * SENTENCE_CHARACTERS)
    assert len(given_out) >= SENTENCE_CHARACTERS


@pytest.mark.parametrize(
    ("text", "is_blocked"),
    [
        ("Project Falcon is near", True),
        ("PROJECT\n falcon!", True),
        ("projects falcons", False),
        ("subproject falcon", False),
    ],
)
def test_blocked_phrases_are_whole_words_in_any_case(text: str, is_blocked: bool) -> None:
    pattern = _pattern(["project falcon"])
    assert pattern is not None
    assert bool(pattern.search(text)) is is_blocked
