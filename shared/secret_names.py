"""Finds values in free-form content that have the name of a secret, at any depth, and hides them."""

import re
from functools import lru_cache
from typing import Any

HIDDEN = "***"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# The end of a name, without separators: clientSecret, aws-secret-access-key, DB_PASSWORD.
_ENDS = (
    r"(?:secret|password|passwd|passphrase|credentials?|authorization"
    r"|(?:api|access|secret|private|signing|encryption)key"
    r"|(?:access|auth|api|bearer|refresh|session|secret)token)"
)
_SECRET = re.compile(rf"{_ENDS}$|^(?:pwd|secrets|token)$")
# The same in a text, such as the message of an error: password=…, 'api_key': '…'.
_NAMED = re.compile(
    r"(?i)((?:secret|password|passwd|passphrase|credentials?"
    r"|(?:api|access|secret|private|signing|encryption)[_-]?key"
    r"|(?:access|auth|api|bearer|refresh|session|secret)[_-]?token)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;}\])]+"
)
# Our own API keys and webhook secrets, and bearer tokens.
_SHAPED = re.compile(r"\b(ik_|whsec_|Bearer )[A-Za-z0-9_\-.=+/]{8,}")


# The rows of a table have the same names.
@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    return bool(_SECRET.search("".join(_WORD.findall(name)).lower()))


def find_secret(value: Any, path: str = "") -> str | None:
    """Returns the path of the first text or number with the name of a secret, or ``None``.

    Such a name may also be the name of an object, as in a JSON schema; then its content decides.
    """
    waiting: list[tuple[Any, str, bool]] = [(value, path, False)]
    while waiting:
        found, place, is_named = waiting.pop()
        if isinstance(found, dict):
            waiting += ((item, f"{place}.{key}".lstrip("."), is_secret_name(str(key))) for key, item in found.items())
        elif isinstance(found, list):
            waiting += ((item, f"{place}.{index}".lstrip("."), is_named) for index, item in enumerate(found))
        elif is_named and _is_secret_value(found):
            return place
    return None


def without_secrets(value: Any, *, is_named: bool = False, in_texts: bool = False) -> Any:
    """Returns the value with each text or number hidden that has the name of a secret.

    With ``in_texts`` also what looks like a secret within texts, such as the messages of errors.
    """
    if isinstance(value, dict):
        return {
            key: without_secrets(item, is_named=is_secret_name(str(key)), in_texts=in_texts)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(item, is_named=is_named, in_texts=in_texts) for item in value]
    if is_named and _is_secret_value(value):
        return HIDDEN
    if not in_texts or value is None or isinstance(value, bool | int | float):
        return value
    # A log line contains other objects as texts, such as exceptions.
    return _SHAPED.sub(rf"\1{HIDDEN}", _NAMED.sub(rf"\1{HIDDEN}", str(value)))


def _is_secret_value(value: Any) -> bool:
    return bool(value) and isinstance(value, str | int | float) and not isinstance(value, bool)
