"""Decides which texts count as the same: e-mail addresses, names and words.

Unicode has many letters that look alike, and some that become others in lower case: the Kelvin sign becomes a k. So
nothing that identifies or blocks is compared by ``lower`` or ``casefold`` alone.
"""

import re
import unicodedata

_LOCAL_CHARACTERS = 64
_ADDRESS_CHARACTERS = 254
_LOCAL_PART = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")
# Older and newer programs send mail for these letters to different domains.
_AMBIGUOUS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")

# What Unicode lets programs leave out (Default_Ignorable_Code_Point), and control characters that are no blanks.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Tag characters are invisible, and mean ASCII letters: a language model reads them, and no person does.
_TAGS = {0xE0000 + code: code for code in range(0x20, 0x7F)}
# A few letters need a second pass, because their composed form can be folded again.
_FOLDS = 2


def comparable_address(address: str) -> str:
    """Returns the form in which an e-mail address is stored and compared.

    ASCII letters become lower-case, and the domain gets its form in the DNS (IDNA 2008 with UTS 46). Raises ValueError
    for what is no address, for a local part outside ASCII, and for a domain that programs read in two ways.
    """
    local_part, _, domain = address.strip().rpartition("@")
    if not local_part.isascii():
        raise ValueError("has letters before the @ that are not ASCII: use an address of plain letters")
    local_part, domain = local_part.lower(), _dns_name(domain)
    if (
        len(local_part) > _LOCAL_CHARACTERS
        or len(local_part) + 1 + len(domain) > _ADDRESS_CHARACTERS
        or not _LOCAL_PART.fullmatch(local_part)
        or not _DOMAIN.fullmatch(domain)
    ):
        raise ValueError("is not an e-mail address such as ann@example.com")
    return f"{local_part}@{domain}"


def comparable_name(name: str) -> str:
    """Returns the name in a form that does not depend on case, blanks and the encoding of accents."""
    for _ in range(_FOLDS):
        name = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    return " ".join(name.split())


def comparable_text(text: str) -> str:
    """Returns the text in a form in which words are found: without case, width, ligatures and invisible characters.

    It is Unicode's NFKC_Casefold, without control characters. The guard compares words in this form.
    """
    if text.isascii():
        return _INVISIBLE.sub("", text).lower()
    text = _INVISIBLE.sub("", text)
    for _ in range(_FOLDS):
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    return text


def readable_text(text: str) -> str:
    """Returns the text for a judge: in usual letters, without invisible characters, and with hidden text shown."""
    if text.isascii():
        return _INVISIBLE.sub("", text)
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", with_hidden_text(text)))


def with_hidden_text(text: str) -> str:
    """Returns the text with its tag characters replaced by the letters that they mean."""
    return text.translate(_TAGS)


def _dns_name(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    if _AMBIGUOUS.search(domain):
        raise ValueError("has a domain that programs read in two ways: write it in its ASCII form, xn--…")
    import idna  # its tables are large, and few domains need them

    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode()
    except idna.IDNAError:
        raise ValueError("has a domain that can't exist") from None
