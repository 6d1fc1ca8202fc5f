"""Finds blocked words in texts as people read them, however they are written (docs/decisions/0054)."""

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache

from shared.text.comparison import comparable_text, with_hidden_text

# The earlier text that is read again with a new one, because a word may begin in it.
CONTEXT_CHARACTERS = 1000
# With this many signs between them, letters belong to different words.
_SIGNS_IN_A_WORD = 3
_SPELLED_LETTERS = 3
# The letters around one that tell in which script a text is.
_NEAR_LETTERS = 30
# Combining classes of marks that do not change which word it is: strokes through letters, and the vowel points of
# Hebrew and Arabic. Marks above and below letters count where Unicode has no letter with the mark.
_LIGHT_MARKS = {1, *range(10, 36), *range(200, 241)}
_STRETCH = "\u0640"  # makes Arabic words longer
# Scripts without blanks between words. Katakana is written in runs, and Hangul appends particles to words.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_KATAKANA = re.compile("[\u30a0-\u30ff\u31f0-\u31ff]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_TAG = re.compile(r"</?[a-z!][^<>]{0,200}>", re.IGNORECASE)
_HYPHENATED = re.compile(r"[-\u2010\u00ad]\r?\n[ \t]*")
_DIGITS = {"0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "7": "t"}
_SIGNS = str.maketrans({"@": "a", "$": "s", "!": "i", "\u20ac": "e", "|": "l"})
# Each run of signs is read once: a search from each of its signs would take the square of its length.
_SIGN_IN_A_WORD = re.compile(r"(?<=[^\W\d_])[@$!\u20ac|]+|(?<![@$!\u20ac|])[@$!\u20ac|]++(?=[^\W\d_])")
_NAMED_LETTER = re.compile(
    r"(?:NEGATIVE (?:SQUARED|CIRCLED) LATIN CAPITAL|REGIONAL INDICATOR SYMBOL|LATIN) LETTER (?:SMALL CAPITAL )?([A-Z])"
)


class _Gap(IntEnum):
    """What is before a letter."""

    NONE = 0
    SIGNS = 1
    BLANK = 2


@dataclass
class _Node:
    """A beginning of blocked words. ``" "`` leads to the next word of a phrase; ``phrase`` is a whole one."""

    following: dict[str, "_Node"] = field(default_factory=dict)
    # The foreign letters among the following ones, by the ASCII letter that each looks like.
    disguised: dict[str, str] = field(default_factory=dict)
    phrase: str | None = None


class BlockedWords:
    """Finds whole words and phrases."""

    def __init__(self, words: Sequence[str]) -> None:
        self._root = _Node()
        exact = []
        for word in words:
            phrase = " ".join(comparable_text(word).split())
            letters = _letters(phrase)
            if all(map(_is_plain, phrase)) and len(letters) > 1:
                self._add(phrase, letters)
            elif phrase:
                exact.append(phrase)
        self._exact = re.compile("|".join(map(_exact, exact))) if exact else None
        self._is_empty = not exact and not self._root.following

    def find(self, text: str, before: str = "", after: str = "") -> str | None:
        """Returns the first blocked word in a text, in its comparable form.

        ``before`` and ``after`` are the texts around it: a word may lie across the edge, and the edge of a text in a
        stream is not the edge of a word.
        """
        if self._is_empty:
            return None
        is_cut = len(before) > CONTEXT_CHARACTERS
        whole = f"{before[-CONTEXT_CHARACTERS:]}{text}{after[:CONTEXT_CHARACTERS]}"
        for reading in _readings(whole):
            if self._exact and (found := self._exact.search(reading)):
                return found[0]
            letters = _letters(reading)
            starts = _starts(letters)
            if is_cut:  # the first letter may belong to a word that began earlier
                next(starts, None)
            for start in starts:
                if not self._may_begin(letters[start][0]):
                    continue
                for is_spelled in (False, True):
                    if phrase := self._walk(letters, start, is_spelled=is_spelled):
                        return phrase
        return None

    def _may_begin(self, letter: str) -> bool:
        return letter in self._root.following or letter in self._root.disguised or bool(_alike(letter))

    def _add(self, phrase: str, letters: Sequence[tuple[str, _Gap]]) -> None:
        node = self._root
        for index, (letter, gap) in enumerate(letters):
            if index and gap is _Gap.BLANK:
                node = node.following.setdefault(" ", _Node())
            if alike := _look_alike(letter):
                node.disguised[alike] = node.disguised.get(alike, "") + letter
            node = node.following.setdefault(letter, _Node())
        node.phrase = phrase

    def _walk(self, letters: Sequence[tuple[str, _Gap]], start: int, *, is_spelled: bool) -> str | None:
        """Returns the phrase that begins at a letter. If ``is_spelled``, all its letters are alone (b o m b)."""
        nodes = [self._root]
        for index in range(start, len(letters)):
            letter, gap = letters[index]
            if index > start:
                earlier = letters[index - 1][0]
                if is_spelled and gap is _Gap.NONE and letter != earlier:  # one letter may be folded to two
                    return None
                if gap is _Gap.SIGNS and letter.isdigit() and earlier.isdigit():
                    return None  # 1.5 is not 15
                is_split = is_spelled or gap is not _Gap.BLANK or _are_unspaced(earlier, letter)
                nodes = _after_gap(nodes, gap, is_split=is_split)
            nodes = [found for node in nodes for found in _next(node, letters, index)]
            if not nodes:
                return None
            for node in nodes:
                enough = not is_spelled or index - start + 1 >= _SPELLED_LETTERS
                if node.phrase is not None and enough and _ends(letters, index):
                    return node.phrase
        return None


def _is_plain(character: str) -> bool:
    """Returns whether a phrase of such characters is one of words. Others, such as c++, are compared sign by sign."""
    return character.isalnum() or character in " '\u2019-" or unicodedata.category(character).startswith("M")


def _exact(phrase: str) -> str:
    left = r"(?<!\w)" if re.match(r"\w", phrase) else ""
    right = r"(?!\w)" if re.search(r"\w$", phrase) else ""
    return left + r"\s+".join(map(re.escape, phrase.split())) + right


def _readings(text: str) -> Iterator[str]:
    """Yields the text as it is shown: entities read, and with and without tags and signs in place of letters."""
    shown = _HYPHENATED.sub("-", html.unescape(text) if "&" in text else text)
    reading = comparable_text(shown)
    yield reading
    if _TAG.search(shown):
        yield comparable_text(_TAG.sub("", shown))
    signed = _SIGN_IN_A_WORD.sub(lambda found: found[0].translate(_SIGNS), reading)
    if signed != reading:
        yield signed
    if (revealed := with_hidden_text(shown)) != shown:
        yield comparable_text(revealed)


def _letters(text: str) -> list[tuple[str, _Gap]]:
    """Returns the letters of a comparable text, each with what is before it."""
    letters: list[tuple[str, _Gap]] = []
    gap, signs = _Gap.NONE, 0
    for character in text:
        if character.isalnum() or _look_alike(character):
            if character != _STRETCH:
                letters.append((character, gap))
                gap, signs = _Gap.NONE, 0
        elif character.isspace():
            gap = _Gap.BLANK
        elif (mark := unicodedata.combining(character)) or unicodedata.category(character).startswith("M"):
            if mark not in _LIGHT_MARKS:
                letters.append((character, gap))
        else:
            signs += 1
            gap = max(gap, _Gap.SIGNS if signs <= _SIGNS_IN_A_WORD else _Gap.BLANK)
    return letters


def _starts(letters: Sequence[tuple[str, _Gap]]) -> Iterator[int]:
    for index, (letter, gap) in enumerate(letters):
        if index == 0 or gap or _is_edge(letters[index - 1][0], letter):
            yield index


def _ends(letters: Sequence[tuple[str, _Gap]], index: int) -> bool:
    if index + 1 == len(letters):
        return True
    letter, (following, gap) = letters[index][0], letters[index + 1]
    return bool(gap) or _is_edge(letter, following) or bool(_HANGUL.match(letter))


def _is_edge(letter: str, following: str) -> bool:
    """Returns whether a word may end between two letters without a gap."""
    if unicodedata.category(following).startswith("M"):
        return False
    if _UNSPACED.match(letter) or _UNSPACED.match(following):
        return True
    return bool(_KATAKANA.match(letter)) is not bool(_KATAKANA.match(following))


def _are_unspaced(letter: str, following: str) -> bool:
    return bool(_UNSPACED.match(letter) and _UNSPACED.match(following))


def _after_gap(nodes: Sequence[_Node], gap: _Gap, *, is_split: bool) -> list[_Node]:
    """Returns where a phrase goes on after a gap: in its next word, or in the same one if its letters are split."""
    same = nodes if is_split else ()
    following = (node.following.get(" ") for node in nodes) if gap else ()
    return [*same, *(node for node in following if node is not None)]


def _alike(letter: str) -> str:
    """Returns the other letters that a letter may be read as."""
    return _DIGITS.get(letter) or _look_alike(letter)


def _next(node: _Node, letters: Sequence[tuple[str, _Gap]], index: int) -> Iterator[_Node]:
    """Yields where a letter leads: as itself, and as the letters that it may replace in its word."""
    letter = letters[index][0]
    if found := node.following.get(letter):
        yield found
    alike = [each for each in _alike(letter) if each in node.following]
    if alike and _is_disguised(letters, index):
        yield from (node.following[each] for each in alike)
    foreign = node.disguised.get(letter)
    if foreign and any(_is_foreign(each) for each in _word(letters, index)):
        yield from (node.following[each] for each in foreign)


def _is_disguised(letters: Sequence[tuple[str, _Gap]], index: int) -> bool:
    """Returns whether a letter may replace one that it looks like. A Russian word between others is only itself."""
    letter = letters[index][0]
    if not _is_foreign(letter) or any("a" <= each <= "z" for each in _word(letters, index)):
        return True
    return not letter.isdigit() and _is_in_latin_text(letters, index)


def _is_foreign(letter: str) -> bool:
    """Returns whether a letter is of another script, and no Latin letter or sign in another form."""
    return letter.isalnum() and _script(letter) != "LATIN"


def _is_in_latin_text(letters: Sequence[tuple[str, _Gap]], index: int) -> bool:
    """Returns whether a foreign word is between Latin ones."""
    script = _script(letters[index][0])
    near = [letter for letter, _ in letters[max(0, index - _NEAR_LETTERS) : index + _NEAR_LETTERS]]
    return sum("a" <= letter <= "z" for letter in near) > sum(_script(letter) == script for letter in near)


def _word(letters: Sequence[tuple[str, _Gap]], index: int) -> list[str]:
    """Returns the letters of the word around a letter."""
    start, end = index, index + 1
    while start > 0 and letters[start][1] is not _Gap.BLANK and index - start < _NEAR_LETTERS:
        start -= 1
    while end < len(letters) and letters[end][1] is not _Gap.BLANK and end - index < _NEAR_LETTERS:
        end += 1
    return [letter for letter, _ in letters[start:end]]


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


@cache
def _look_alikes() -> dict[str, str]:
    """Returns the ASCII letters that other letters look like, by Unicode's table of confusables."""
    # Few texts need it, and reading the table takes a tenth of a second.
    from confusable_homoglyphs.confusables import confusables_data

    found: dict[str, str] = {}
    for key, others in confusables_data.items():
        character = key.strip("\u200e")
        if len(character) == 1 and not character.isascii() and character != "\u0131":  # a letter of Turkish words
            for other in (each["c"] for each in others):
                if len(other) == 1 and other.isascii() and other.isalpha():
                    found[character] = other.lower()
    return found


@cache
def _look_alike(character: str) -> str:
    """Returns the ASCII letter that a letter or a sign in the form of a letter looks like, or an empty text."""
    if character.isascii() or _UNSPACED.match(character):
        return ""
    for form in (character, character.upper()):
        if alike := _look_alikes().get(form):
            return alike
        if named := _NAMED_LETTER.fullmatch(unicodedata.name(form, "") if len(form) == 1 else ""):
            return named[1].lower()
    return ""
