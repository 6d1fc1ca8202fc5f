import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chats.guard import SENTENCE_CHARACTERS, SentenceBuffer, _pattern

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
    pattern = _pattern(["project falcon"])
    assert pattern is not None
    assert bool(pattern.search(text)) is is_blocked
