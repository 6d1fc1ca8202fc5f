from hypothesis import given
from hypothesis import strategies as st

from functions.chats.guard import SENTENCE_CHARACTERS, WORD_CHARACTERS, SentenceBuffer

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


def test_the_buffer_holds_back_a_word_that_may_go_on() -> None:
    buffer = SentenceBuffer()
    returned = buffer.add("a" * (SENTENCE_CHARACTERS + 1))
    assert len(returned) == SENTENCE_CHARACTERS + 1 - WORD_CHARACTERS
    assert buffer.waiting == "a" * WORD_CHARACTERS


def test_the_buffer_returns_a_sentence_without_blanks() -> None:
    assert SentenceBuffer().add("これはガスです。次") == "これはガスです。"
