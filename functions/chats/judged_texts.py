"""Writes what the guard reads: everything that a request sends to the model, as text and not as escaped JSON."""

import re
from collections.abc import Iterator
from typing import Any

from shared.errors import ValidationFailedError
from shared.models.chat import Message
from shared.models.expert import Expert
from shared.network.foreign_json import whole_text

_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# JSON may be a text in JSON.
_NESTED = 3


def unescaped(text: str) -> str:
    """Returns a text that may be JSON with the characters that its escapes mean."""
    for _ in range(_NESTED):
        if "\\" not in text:
            break
        text = whole_text(_ESCAPE.sub(_character, text))
    return text


def message_text(message: Message) -> str:
    """Returns everything in a message that the model reads. Raises ValidationFailedError for parts without text."""
    parts = message.content if isinstance(message.content, list) else []
    if any(part.get("type") != "text" for part in parts):
        raise ValidationFailedError.of(
            "body.messages",
            "the guard can only judge text: send only text, or turn the guard off",
        )
    beside = [{name: value for name, value in part.items() if name not in ("type", "text")} for part in parts]
    further = {name: value for name, value in message.for_model().items() if name not in ("role", "content")}
    return "\n".join([message.text, *options_text(*beside, further)])


def options_text(*options: Any) -> list[str]:
    """Returns the names and texts of the options of a request: of tools and their descriptions, for example."""
    return [line for each in options for line in _lines(each)]


def call_text(call: dict[str, Any]) -> str:
    """Returns what a tool call says."""
    function = call.get("function") or call.get("custom") or {}
    return f"{function.get('name', '')} {unescaped(str(function.get('arguments') or function.get('input') or ''))}"


def expert_text(expert: Expert) -> str:
    """Returns what the model reads of an expert."""
    files = (f"{file.name}\n{file.content}" for file in expert.file_context)
    return "\n".join([expert.name, expert.context or "", *files, *options_text(expert.tools_for_model())])


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            if isinstance(each, dict | list):
                yield str(name)
                yield from _lines(each)
            else:
                yield f"{name}: {unescaped(str(each))}"
    elif isinstance(value, list):
        for each in value:
            yield from _lines(each)
    else:
        yield unescaped(str(value))


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _ESCAPED.get(escape[2], escape[2])
