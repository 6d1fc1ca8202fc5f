"""Finds the names and content words of a text, and folds words so that they can be compared."""

import re
import unicodedata
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import lru_cache

from shared.grounding.languages import is_function_word

STEM_CHARACTERS = 5
# Longer words are not kept in memory.
REMEMBERED_CHARACTERS = 50

_WORD = re.compile(r"[^\W_]+")
# A word may contain some other characters: O'Brien, AT&T, Smith-Jones, e-mail.
_TOKEN = re.compile(r"[^\W_]+(?:[&'\u2019.\-/][^\W_]+)*")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def words_of(text: str) -> list[str]:
    return text.split()


NEGATIONS = frozenset(words_of("no not never without none neither nor cannot kein keine nicht ohne nie"))
# Words without content.
STOP_WORDS = NEGATIONS | frozenset(
    words_of(
        """
        about above after again all also always and any are because been before being below best better between both
        but can could dear did does doing don done down during each either else even ever every few for from further
        get gets give gives good great had has have having hello her here hers him his how however into its itself just
        kind kindly know let like likely made make makes many may might more moreover most much must need needs next now
        off once one only other our ours out over perfect perfectly please quite really regards right same shall she
        should since sincerely some such suit suits take than thank thanks that the their theirs them then there
        therefore these they this those through thus together too under until use very via want was way well were what
        when where which while who whom whose why will wish with within would yes yet you your yours yourself
        an as at be by do he hi if in is it me my of on or so to up us we
        """
    )
)
# These words and endings also begin sentences, so a capital letter there does not make them names.
_BEGINNINGS = frozenset(
    words_of(
        """
        another apply ask benefit besides book call choose clients click come compared consider contact cover customers
        check discover earn enjoy explore families feel fewer find first furthermore go grow hence higher imagine
        instead invest join keep last learn less look lower meanwhile members move nothing often open opt overall pay
        people plan plus protect read ready reduce relax remember reply request save second secure see send sign smart
        start stay still stop switch talk tell think third today tomorrow try unlike upgrade visit welcome whatever
        whether write
        """
    )
)
_ENDINGS = ("ly", "ing", "ings", "ed", "tion", "tions", "ment", "ments", "ness", "ity", "ance", "ence", "ship")
# Words that are written beside names but are not names.
_TITLES = frozenset(
    words_of("mr mrs ms miss dr prof sir madam herr frau am pm ps team madame monsieur mme senor senora signor signora")
)
# What comes before a name in German.
_GERMAN_ADDRESSES = frozenset(words_of("herr herrn frau dr prof liebe lieber hallo"))


def fold(word: str) -> str:
    """Returns the word in a form that does not depend on case, accents and character width."""
    return _remembered(word) if len(word) <= REMEMBERED_CHARACTERS else _folded(word)


def _folded(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(each for each in decomposed if not unicodedata.combining(each))


_remembered = lru_cache(maxsize=4096)(_folded)


def folded_words(text: str) -> list[str]:
    return [fold(word) for word in _WORD.findall(text)]


def key_words(key: str) -> list[str]:
    """Returns the words of a field's key: ``creditCards.0.fee_eur`` has four words."""
    return [word for part in key.split(".") if not part.isdecimal() for word in folded_words(_CAMEL.sub(" ", part))]


def content_words(text: str) -> list[str]:
    """Returns the folded words without numbers, short words and stop words."""
    return [word for word in folded_words(text) if len(word) > 2 and word not in STOP_WORDS and not word.isdecimal()]


def stem(word: str) -> str:
    """Returns the beginning of a word, so that "owns" and "own", or "mortgage" and "mortgages", are equal."""
    return (word.removesuffix("s") if len(word) > 3 else word)[:STEM_CHARACTERS]


def is_negated(text: str) -> bool:
    return "n't" in text.replace("\u2019", "'") or not NEGATIONS.isdisjoint(folded_words(text))


@dataclass(frozen=True)
class ProperName:
    """A name: capitalised words in a row, or a word of letters and digits."""

    text: str
    start: int
    words: tuple[str, ...]


def find_names(sentence: str, known: Set[str], language: str) -> Iterator[ProperName]:
    """Yields the names of a sentence without figures and dates, by what its language capitalises.

    In English the first word is not a name if it is in ``known`` or commonly begins sentences; in other languages it is
    one only with a digit or an inner capital. German capitalises all nouns, so a name there has several capitalised
    words in a row or a title before it.
    """
    for name in _capitalised(sentence, known, language):
        if language != "de" or _is_german_name(sentence, name):
            yield name


def _is_german_name(sentence: str, name: ProperName) -> bool:
    if len(name.words) > 1 or any(_is_code(word) for word in name.text.split()):
        return True
    before = folded_words(sentence[: name.start])[-1:]
    return any(word in _GERMAN_ADDRESSES for word in (*before, *folded_words(name.text)))


def _capitalised(sentence: str, known: Set[str], language: str) -> Iterator[ProperName]:
    run: list[re.Match[str]] = []
    is_beginning = True
    for token in _TOKEN.finditer(sentence):
        gap = sentence[run[-1].end() : token.start()] if run else ""
        if run and gap.strip(" "):
            yield from _name(sentence, run)
            run = []
        if _looks_like_name(token[0]) and not _is_no_name(token[0], known, language, is_beginning=is_beginning):
            run.append(token)
        elif run:
            yield from _name(sentence, run)
            run = []
        is_beginning = False
    yield from _name(sentence, run)


def _name(sentence: str, run: list[re.Match[str]]) -> Iterator[ProperName]:
    words = tuple(
        word
        for token in run
        for word in folded_words(re.sub(r"['\u2019]s$", "", token[0]))
        if len(word) > 1 and word not in _TITLES and word not in STOP_WORDS
    )
    if words:
        start = run[0].start()
        yield ProperName(sentence[start : run[-1].end()], start, words)


def _is_no_name(token: str, known: Set[str], language: str, *, is_beginning: bool) -> bool:
    if language == "en":
        return is_beginning and _is_ordinary(token, known)
    return not _is_code(token) and (is_beginning or is_function_word(token, language))


def _is_code(token: str) -> bool:
    return any(each.isupper() or each.isdigit() for each in token[1:])


def _looks_like_name(token: str) -> bool:
    is_code = any(each.isdigit() for each in token) and any(each.isalpha() for each in token)
    return is_code or token[0].isupper() or any(each.isupper() for each in token[1:])


def _is_ordinary(token: str, known: Set[str]) -> bool:
    if _is_code(token):
        return False
    word = fold(token)
    return word in STOP_WORDS or word in _BEGINNINGS or word.endswith(_ENDINGS) or word in known or "'" in word
