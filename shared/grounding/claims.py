"""Finds the claims of a text, and the fields that support them.

A claim is a sentence. It is supported if the fields contain all its figures, dates, times, quotations, names and
addresses. ``figures`` allows a tolerance for figures. If the only such mentions are names, half of the sentence's words
must also occur in keys or values of fields (compared by their first five letters). If there are no mentions, more than
half of the words must occur, and a negated sentence does not match a field that is true. Sentences without a claim,
such as greetings and questions, are ignored.

Keys of fields are English words. So in other languages only figures, dates, names and the like make a sentence
unsupported, and a sentence whose words alone match nothing is unchecked. In a language that is not known nothing is
unsupported.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from shared.grounding.dates import Date, DateIndex, Time, find_dates, find_times
from shared.grounding.figures import Figure, FigureIndex, find_figures, number
from shared.grounding.holders import HolderIndex, TextSearch
from shared.grounding.languages import is_foreign, language_of
from shared.grounding.words import (
    ProperName,
    content_words,
    find_names,
    folded_words,
    is_negated,
    key_words,
    stem,
)
from shared.models.claim import Claim, Support

_Span = TypeVar("_Span", Figure, Date, Time, re.Match[str])

FIELDS_LIMIT = 10
# The paths of a claim's fields together. A text has thousands of claims at most.
FIELDS_CHARACTERS = 500
# Forms of one name have at least as many letters in common, and differ in the last ones at most.
_COMMON_LETTERS = 3
_ENDING = 2
# Of the words in a field's path, the nearest.
KEY_WORDS = 50

_SENTENCE_END = re.compile(r"(?<=[.!?\u2026\u3002\uff01\uff1f])[\"\u201d\u2019)\]]*\s+|\n+|(?<=[\u3002\uff01\uff1f])")
_NO_END = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|Nr|vs|approx|ca|incl|excl|max|min|etc|e\.g|i\.e|a\.m|p\.m|Inc|Ltd|Co|z\.B"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)|\b[A-Z]|(?:^|\s)\d{1,2})\.$"
)
_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s<>\"]+|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
_QUOTATION = re.compile(r"[\"“„«]([^\"“”„«»]{2,300})[\"”“»]")
_INVITATION = re.compile(
    r"(?:please|let|call|contact|visit|ask|reply|click|book|talk|get in touch|feel free|would you|shall we|hello|hi"
    r"|dear|good (?:morning|afternoon|evening)|thank|best regards|kind regards|sincerely|yours|we look forward"
    r"|i look forward|looking forward|congratulations|welcome|see you)\b",
    re.IGNORECASE,
)


def ground(text: str, facts: Mapping[str, Any]) -> list[Claim]:
    """Returns the claims of ``text``, compared with ``facts``. Paths of fields begin with a name in ``facts``."""
    known, language = _Facts(facts), language_of(text)
    claims = (_claim(each, known, language_of(each, language)) for each in split_sentences(text))
    return [claim for claim in claims if claim is not None]


def count_unsupported(claims: Iterable[Claim]) -> int:
    return sum(claim.support is Support.UNSUPPORTED for claim in claims)


def split_sentences(text: str) -> list[str]:
    """Returns the sentences of a text. Abbreviations and numbers such as *1.* do not end a sentence."""
    sentences, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if "\n" not in end[0] and _NO_END.search(text[max(start, end.start() - 8) : end.start()]):
            continue
        sentences.append(text[start : end.end()].strip())
        start = end.end()
    return [sentence for sentence in (*sentences, text[start:].strip()) if sentence]


class _Mentions:
    """The parts of a text that facts must contain exactly. ``rest`` is the text without these parts."""

    def __init__(self, text: str, language: str | None = None) -> None:
        self.rest = text
        self.quotations = {match[1] for match in _QUOTATION.finditer(text) if folded_words(match[1])}
        self.addresses = {match[0].rstrip(".,;:!?)") for match in self._taken(_ADDRESS.finditer(text))}
        self.dates = list(self._taken(find_dates(self.rest)))
        self.times = list(self._taken(find_times(self.rest)))
        self.figures = list(self._taken(find_figures(self.rest, language)))
        self.rest = _QUOTATION.sub("|", self.rest)

    def _taken(self, found: Iterable[_Span]) -> Iterator[_Span]:
        """Yields the spans and removes them from the text, so that no character belongs to two mentions."""
        spans = list(found)
        pieces: list[str] = []
        end = 0
        for start, stop in sorted(map(_bounds, spans)):
            pieces += [self.rest[end:start], "|" * (stop - start)]
            end = stop
        self.rest = "".join([*pieces, self.rest[end:]])
        yield from spans


def _bounds(span: Any) -> tuple[int, int]:
    return span.span() if isinstance(span, re.Match) else (span.start, span.end)


class _Facts:
    """An index of the fields by their words, figures, dates and times."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.by_word = HolderIndex[str]()
        self.by_stem = HolderIndex[str]()
        self.by_beginning = HolderIndex[str]()
        self.truths: dict[str, bool] = {}
        self.dates = DateIndex()
        self.times = HolderIndex[int]()
        texts: list[tuple[str, str]] = []
        figures: list[tuple[str, Figure]] = []
        for path, keys, value in _leaves(facts):
            text = value if isinstance(value, str) else ""
            for word in (*folded_words(text), *keys):
                self.by_word.add(word, path)
                self.by_beginning.add(word[:_COMMON_LETTERS], word)
            for word in content_words(" ".join([text, *keys])):
                self.by_stem.add(stem(word), path)
            if isinstance(value, bool):
                self.truths[path] = value
            elif isinstance(value, int | float) and math.isfinite(value):
                figures.append((path, number(value, keys)))
            elif text:
                texts.append((path, text))
                found = _Mentions(text)
                for date in found.dates:
                    self.dates.add(date, path)
                for time in found.times:
                    self.times.add(time.minutes, path)
                figures += [(path, figure) for figure in found.figures]
                figures += [(path, number(year, ())) for date in found.dates for year in date.years]
        self.figures = FigureIndex(figures, self.by_word.keys())
        self.texts = TextSearch((path, text.casefold()) for path, text in texts)
        self.texts_in_words = TextSearch((path, f" {' '.join(folded_words(text))} ") for path, text in texts)

    def holders(self, mentions: _Mentions) -> Iterator[tuple[str, set[str]]]:
        """Yields each mentioned value with the fields that contain it."""
        for figure in mentions.figures:
            yield figure.text, self.figures.holders(figure)
        for date in mentions.dates:
            yield date.text, self.dates.holders(date)
        for time in mentions.times:
            yield time.text, self.times.get(time.minutes, set())
        for address in sorted(mentions.addresses):
            yield address, self.texts.holders(address.casefold())
        for quotation in sorted(mentions.quotations):
            yield quotation, self.texts_in_words.holders(f" {' '.join(folded_words(quotation))} ")

    def name_holders(self, name: ProperName, language: str) -> set[str]:
        """Returns the fields with all words of the name, or else the fields with some of its words.

        If one of the words is in no field, it returns no fields.
        """
        held = [
            set().union(*(self.by_word.get(form, ()) for form in self._forms(word, language))) for word in name.words
        ]
        return (set.intersection(*held) or set.union(*held)) if all(held) else set()

    def _forms(self, word: str, language: str) -> Iterable[str]:
        """Returns the forms of a name's word. In Polish names are inflected: *Anny* and *Annie* are *Anna*."""
        forms = [word, word.removesuffix("s"), f"{word}s"]
        if language == "pl":
            near = self.by_beginning.get(word[:_COMMON_LETTERS], ())
            forms += [other for other in near if _are_forms(word, other)]
        return forms

    def stem_holders(self, beginning: str, *, negated: bool) -> set[str]:
        """Returns the fields with a word of this beginning. A Boolean field must agree with the sentence."""
        return {path for path in self.by_stem.get(beginning, ()) if self.truths.get(path, not negated) is not negated}


def _leaves(value: Any, path: str = "", keys: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yields every value that is not empty, with its dotted path and the words of the path without its root."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}", keys)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inner = (*keys, *key_words(str(key)))[-KEY_WORDS:] if path else ()
            yield from _leaves(item, f"{path}.{key}" if path else str(key), inner)
    elif value not in (None, ""):
        yield path, keys, value


def _are_forms(word: str, other: str) -> bool:
    common = max(_COMMON_LETTERS, min(len(word), len(other)) - _ENDING)
    return word[:common] == other[:common] and abs(len(word) - len(other)) <= _ENDING


def _claim(sentence: str, facts: _Facts, language: str | None) -> Claim | None:
    is_known = language is not None or not is_foreign(sentence)
    mentions = _Mentions(sentence, language)
    # Nothing is a name by its capital alone if the language is not known.
    spoken = language or "de"
    found = list(facts.holders(mentions))
    names = [
        (name.text, facts.name_holders(name, spoken))
        for name in find_names(mentions.rest, facts.by_word.keys(), spoken)
    ]
    stems = {stem(word): word for word in content_words(mentions.rest)}
    negated = is_negated(sentence)
    held = {each: facts.stem_holders(each, negated=negated) for each in stems}
    # Several fields may have the same value. The fields that the sentence mentions are the likely source.
    spoken_of = {path for each in stems for path in facts.by_stem.get(each, ())}
    fields = Counter(path for _, holders in (*found, *names) for path in holders & spoken_of or holders)
    missing = [each for each, holders in (*found, *names) if not holders]
    is_vague = False
    if not missing and not found:
        if sentence.endswith("?") or _INVITATION.match(sentence):
            if not names:
                return None
        elif not (names and spoken != "en"):
            if not held:
                return None
            fields.update(path for holders in held.values() for path in holders)
            words_held = sum(map(bool, held.values()))
            if 2 * words_held < len(held) or (2 * words_held == len(held) and not names):
                missing = [stems[each] for each, holders in held.items() if not holders]
                is_vague = spoken != "en"
    support = Support.SUPPORTED
    if missing:
        support = Support.UNSUPPORTED if is_known and not is_vague else Support.UNCHECKED
    parts = [bool(holders) for holders in (*(each for _, each in (*found, *names)), *held.values())]
    return Claim(
        coverage=round(sum(parts) / len(parts), 4) if parts else None,
        text=sentence,
        support=support,
        fields=_listed(fields),
        missing=missing if support is Support.UNSUPPORTED else [],
    )


def _listed(fields: Counter[str]) -> list[str]:
    """Returns the fields that support most of the claim, as many as fit."""
    listed: list[str] = []
    size = 0
    for path in sorted(fields, key=lambda path: (-fields[path], path))[:FIELDS_LIMIT]:
        size += len(path)
        if listed and size > FIELDS_CHARACTERS:
            break
        listed.append(path)
    return listed
