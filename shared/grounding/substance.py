"""Finds texts that say nothing: those of very few words, and those that name none of their facts."""

import json
import re
from collections.abc import Iterable
from typing import Any

from shared.grounding.languages import LANGUAGES, is_function_word
from shared.grounding.words import content_words, stem
from shared.text.comparison import comparable_text

FEWEST_WORDS = 3
_WORD = re.compile(r"\w+")
# Scripts without blanks between words: each of their letters counts as a word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def emptiness(texts: Iterable[str], facts: Iterable[Any]) -> str | None:
    """Returns why the texts say nothing: one has too few words, or none names a fact. Else it returns ``None``."""
    compared = [comparable_text(text) for text in texts]
    if any(_count_words(text) < FEWEST_WORDS for text in compared):
        return f"has fewer than {FEWEST_WORDS} words"
    written, known = " ".join(compared), comparable_text(json.dumps(list(facts), default=str, ensure_ascii=False))
    names_one = bool(_terms(written) & _terms(known)) or bool(_pairs(written) & _pairs(known))
    return None if names_one else "names none of the facts"


def _count_words(text: str) -> int:
    return len(_WORD.findall(_UNSPACED.sub(" ", text))) + len(_UNSPACED.findall(text))


def _terms(text: str) -> set[str]:
    """Returns the beginnings of the words that may name a fact, and the numbers."""
    numbers = {word for word in _WORD.findall(text) if any(letter.isdigit() for letter in word)}
    words = (word for word in content_words(text) if not any(is_function_word(word, each) for each in LANGUAGES))
    return numbers | {stem(word) for word in words}


def _pairs(text: str) -> set[str]:
    """Returns the pairs of neighbours among the letters of scripts without blanks."""
    return {text[at : at + 2] for at in range(len(text) - 1) if all(map(_UNSPACED.match, text[at : at + 2]))}
