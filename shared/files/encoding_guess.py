"""Guesses the encoding of text that is not UTF-8, from its words.

General detectors need more text than a table of customers has: they take most small files in French or Spanish for
Central European. Here each candidate reads the words, and the one under which most words can be words of its
languages wins. charset-normalizer decides only where no candidate knows the language.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from shared.files.common_letters import (
    ARABIC,
    ARABIC_COMMON,
    CENTRAL_EUROPEAN,
    CHINESE,
    CYRILLIC,
    CYRILLIC_COMMON,
    GREEK,
    GREEK_COMMON,
    HEBREW,
    HEBREW_COMMON,
    ICELANDIC,
    JAPANESE,
    KOREAN,
    TAIWANESE,
    TURKISH,
    WESTERN,
)

MOST_WORDS = 1500
LINE_BYTES = 4000
# Below this share of words that fit, the text is in none of the languages that the candidates know.
KNOWN_SHARE = 0.4
# Another encoding that fits nearly as well is named to the owner.
CLOSE_SHARE = 0.9
# What charset-normalizer may choose from.
OTHER_ENCODINGS = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "iso8859_2",
    "iso8859_15", "koi8_r", "cp932", "cp949", "cp950", "euc_jp", "gb18030",
)  # fmt: skip

_RUN = re.compile(r"[A-Za-z\u0080-\U0010ffff]+")
_OPENING, _CLOSING = "“‘„‚«‹¿¡£€§–—•†…\xa0", "”’“‘»›…™®©°ªº²³€–—†·\xa0"  # noqa: RUF001
_TYPOGRAPHIC = frozenset("\xa0¢£¥€§©®™°·•–—…“”‘’„‚«»‹›ªº²³±½¼¾×÷¿¡†‡\u3000")  # noqa: RUF001
_IN_WORDS = re.compile("[’‘\xa0–—]")  # noqa: RUF001
_CONTROL = re.compile(r"[\u0080-\u009f]")
# What the codec lacks, or leaves to private use.
_LACKING = re.compile(r"[\u0080-\u009f\ufffd\ue000-\uf8ff]")
# What Western languages lack, but Czech, Croatian, Hungarian or Romanian words have when they are misread.
_NOT_WESTERN = re.compile(
    r"[aeiouy]æ|æ$|ø[aeiouæå]|[aeiou]ø|[ìù][a-z]|õ(?!e)|ã(?!o|e|s?$)|ñ(?![aeiouyáéíóúü])|[zyn]û|û[czv](?!h)"
    r"|[^\x00-\x7f]{3}|^[^\x00-\x7f]{2,}$|(?-i:È[a-z])",
    re.IGNORECASE,
)
# Turkish reads as such words.
_NOT_CZECH = re.compile(r"^ý|ý(?!$|ch$|m$|mi$)", re.IGNORECASE)
_GREEK_ACCENT = re.compile("[άέήίόύώΐΰ]")
# Hebrew and Greek read as such words.
_ODD_CYRILLIC = re.compile("^[ьъы]|[аеёиоуыэюяіїє]ь|^[^аеёиоуыэюяіїє]{3,}$")
_HALF_WIDTH = re.compile(r"[\uff61-\uff9f]{2,}")

_Fit = Callable[[str], float]


@dataclass(frozen=True)
class Guess:
    """An encoding that the text may have."""

    codec: str
    # Such as "Polish"; None if the language is not known.
    language: str | None = None
    # Another encoding that fits nearly as well.
    rival: str | None = None


@dataclass(frozen=True)
class _Candidate:
    codec: str
    language: str
    # Returns how well a word fits, from -1 to 1.
    fit: _Fit
    # How many words of evidence it has in advance, because such files are common.
    head_start: float = 0


def guess_encodings(lines: list[bytes]) -> list[Guess]:
    """Returns encodings that fit about equally, the likeliest first, by lines of a text that is not UTF-8."""
    words = {codec: _words(lines, codec) for codec in dict.fromkeys(candidate.codec for candidate in CANDIDATES)}
    scored: dict[str, tuple[float, _Candidate]] = {}
    for candidate in CANDIDATES:
        score = candidate.head_start + sum(map(candidate.fit, words[candidate.codec]))
        if candidate.codec not in scored or score > scored[candidate.codec][0]:
            scored[candidate.codec] = (score, candidate)
    ranked = sorted(scored.values(), key=lambda each: -each[0])
    best = ranked[0][0]
    if best < KNOWN_SHARE * max(map(len, words.values())):
        return [*_by_library(b"\n".join(lines)), Guess("cp1252")]
    close = [candidate for score, candidate in ranked if score >= CLOSE_SHARE * best]
    rivals = (candidate.codec for candidate in close if words[candidate.codec] != words[close[0].codec])
    rival = next(rivals, None)
    return [
        Guess(candidate.codec, candidate.language, rival if candidate is close[0] else close[0].codec)
        for candidate in close
    ]


def _by_library(sample: bytes) -> Iterator[Guess]:
    # Imported here, because few files need it.
    from charset_normalizer import from_bytes

    if best := from_bytes(sample, cp_isolation=list(OTHER_ENCODINGS)).best():
        yield Guess(best.encoding, best.language if best.language != "Unknown" else None)


def _words(lines: list[bytes], codec: str) -> list[str]:
    """Returns distinct words that are not all ASCII, as the codec reads them."""
    words: dict[str, None] = {}
    for line in lines:
        text = line[:LINE_BYTES].decode(codec, "replace")
        words.update(dict.fromkeys(run for run in _RUN.findall(text) if not run.isascii()))
        if len(words) >= MOST_WORDS:
            break
    return list(words)[:MOST_WORDS]


def _spelling(check: _Fit) -> _Fit:
    """Returns the rule for scripts with capitals; ``check`` judges what has letters only."""

    def fit(word: str) -> float:
        if _CONTROL.search(word):
            return -1
        if all(character in _TYPOGRAPHIC for character in word):
            return 0.5
        bare = word.lstrip(_OPENING).rstrip(_CLOSING)
        parts = [part for part in _IN_WORDS.split(bare) if not part.isascii()]
        if not all(part.isalpha() and _has_usual_capitals(part) for part in parts):
            return 0
        return min(map(check, parts), default=0.5)

    return fit


def _has_usual_capitals(word: str) -> bool:
    """Returns whether capitals are at the beginning, or everywhere; between ASCII letters they may be anywhere."""
    for before, letter in pairwise(word):
        if before.islower() and letter.isupper() and not (before.isascii() and letter.isascii()):
            return False
    return not word[:2].isupper() or all(
        letter.isascii() or not letter.islower() or letter == "ß" for letter in word[2:]
    )


def _latin(
    alphabets: Iterable[str], *, worth: float = 1, unlikely: re.Pattern[str] | None = None, unlikely_worth: float = 0
) -> _Fit:
    """Returns the rule for words with the letters of one of the alphabets."""
    known = [frozenset(alphabet + alphabet.upper()) for alphabet in alphabets]

    def check(word: str) -> float:
        letters = {letter for letter in word if not letter.isascii()}
        if not any(letters <= alphabet for alphabet in known):
            return 0
        if len(word) == 1:
            return 0.6 * worth
        return unlikely_worth if unlikely and unlikely.search(word) else worth

    return _spelling(check)


def _is_odd_greek(word: str) -> bool:
    """Returns whether a word in small letters has not exactly one accent."""
    return not word.isupper() and len(word) > 2 and len(_GREEK_ACCENT.findall(word.lower())) != 1


def _is_odd_cyrillic(word: str) -> bool:
    return _ODD_CYRILLIC.search(word.lower()) is not None


def _other_script(alphabet: str, common: str, is_odd: Callable[[str], bool] = lambda _: False) -> _Fit:
    """Returns the rule for words of one other script. Common letters tell encodings apart that share the alphabet."""
    letters, frequent = frozenset(alphabet), frozenset(common)

    def check(word: str) -> float:
        lower = word.lower()
        if not letters.issuperset(lower):
            return 0
        if is_odd(word):
            return 0.3
        return 0.5 + 0.5 * sum(letter in frequent for letter in lower) / len(lower)

    return _spelling(check)


def _ideographs(common: str, codec: str, leads: range) -> _Fit:
    """Returns the rule for words of Chinese, Japanese and Korean.

    ``leads`` are the first bytes, in ``codec``, of the characters that its standard calls common.
    """
    frequent = frozenset(common)

    def weight(character: str) -> float:
        if character in frequent:
            return 1
        try:
            code = character.encode(codec)
        except UnicodeEncodeError:
            return 0.1
        return 0.8 if len(code) == 2 and code[0] in leads else 0.1

    def fit(word: str) -> float:
        if _LACKING.search(word):
            return -1
        characters = [character for character in word if not character.isascii()]
        if codec == "euc_jp" and _HALF_WIDTH.fullmatch(word):
            return 0.8
        return sum(map(weight, characters)) / len(characters)

    return fit


def _candidates() -> Iterator[_Candidate]:
    """Yields the candidates; of equal ones the first wins."""
    western = partial(_Candidate, language="Western European", fit=_latin(WESTERN, unlikely=_NOT_WESTERN))
    yield western("cp1252", head_start=0.75)
    for codec in ("cp1250", "iso8859_2"):
        for language, alphabet in CENTRAL_EUROPEAN.items():
            unlikely = _NOT_CZECH if language in ("Czech", "Slovak") else None
            yield _Candidate(codec, language, _latin([alphabet], unlikely=unlikely, unlikely_worth=0.9))
        # A file with names from several countries.
        yield _Candidate(codec, "Central European", _latin((*CENTRAL_EUROPEAN.values(), "äöüß"), worth=0.9))
    yield _Candidate("cp1254", "Turkish", _latin([TURKISH]), head_start=0.3)
    yield _Candidate("cp1252", "Icelandic", _latin([ICELANDIC], worth=0.7))
    yield _Candidate("cp1253", "Greek", _other_script(GREEK, GREEK_COMMON, _is_odd_greek))
    yield _Candidate("cp1255", "Hebrew", _other_script(HEBREW, HEBREW_COMMON))
    yield _Candidate("cp1256", "Arabic", _other_script(ARABIC, ARABIC_COMMON))
    for codec, head_start in (("cp1251", 0), ("koi8_r", 0), ("cp866", -0.5)):
        for language, alphabet in CYRILLIC.items():
            yield _Candidate(codec, language, _other_script(alphabet, CYRILLIC_COMMON, _is_odd_cyrillic), head_start)
    yield _Candidate("gb18030", "Chinese", _ideographs(CHINESE, "gb2312", range(0xB0, 0xD8)))
    # A4 and A5 are kana.
    japanese = _ideographs(JAPANESE, "euc_jp", range(0xA4, 0xD0))
    yield _Candidate("cp932", "Japanese", japanese)
    yield _Candidate("euc_jp", "Japanese", japanese)
    yield _Candidate("cp950", "Chinese", _ideographs(TAIWANESE, "big5", range(0xA4, 0xC7)))
    yield _Candidate("cp949", "Korean", _ideographs(KOREAN, "euc_kr", range(0xB0, 0xC9)))
    for codec in ("iso8859_15", "cp850", "mac_roman"):
        yield western(codec)


CANDIDATES = tuple(_candidates())
