"""Reads the completions and chunks of servers leniently, and returns them in OpenAI's shapes.

Everything that a server says about a completion comes through here, so that nothing behind it needs to check a type.
"""

import json
from typing import Any

from shared.clock import new_id
from shared.llm.completions import BrokenResponseError, Completion
from shared.llm.server_failures import failure_in

# OpenAI's largest ``n``.
CHOICES_LIMIT = 128


def read_completion(body: dict[str, Any]) -> Completion:
    """Returns a completion. Raises BrokenResponseError without a message, or the error that the response states."""
    if failure := failure_in(body):
        raise failure
    choice = next(iter(_objects(body.get("choices"))), {})
    message = choice.get("message", _of_text(choice))
    if not isinstance(message, dict):
        raise BrokenResponseError("The language model's server returned no message.")
    calls = [call for given in _objects(message.get("tool_calls")) if (call := _call(given))]
    read = {**_message(message), "tool_calls": calls}
    if not calls:
        del read["tool_calls"]
    return Completion({**body, "choices": [{**choice, "message": read, "finish_reason": _reason(choice)}]})


class ChunkReader:
    """A reader of the chunks of one completion. ``is_finished`` is true when each choice has a finish reason."""

    def __init__(self) -> None:
        self.is_finished = False
        # Whether each choice so far has a finish reason.
        self._finished: dict[int, bool] = {}
        self._calls: dict[int, _StreamedCalls] = {}

    def read(self, event: dict[str, Any]) -> dict[str, Any]:
        """Returns the event as a chunk, changed in place. Raises the error that it states."""
        if failure := failure_in(event):
            raise failure
        event["choices"] = [self._choice(each) for each in _objects(event.get("choices"))]
        return event

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        index, delta = choice.get("index"), choice.get("delta")
        if not isinstance(index, int) or not 0 <= index < CHOICES_LIMIT:
            index = choice["index"] = 0
        reason = choice["finish_reason"] = _reason(choice)
        if not isinstance(delta, dict):
            delta = _of_text(choice) or {}
            if isinstance(choice.get("message"), dict):  # a whole completion
                delta = as_delta(choice["message"])
                reason = choice["finish_reason"] = reason or "stop"
        delta = choice["delta"] = _message(delta)
        if "tool_calls" in delta:
            calls = self._calls.setdefault(index, _StreamedCalls())
            delta["tool_calls"] = calls.read(delta["tool_calls"])
            if not delta["tool_calls"]:
                del delta["tool_calls"]
        self._finished[index] = reason is not None or self._finished.get(index, False)
        self.is_finished = all(self._finished.values())
        return choice


class _StreamedCalls:
    """The tool calls of one message. Some servers give their parts no index, the same index, or new ids."""

    def __init__(self) -> None:
        self._by_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self._ids: list[str] = []
        self._named: set[int] = set()

    def read(self, parts: Any) -> list[dict[str, Any]]:
        """Returns the parts with the index of their call, and only the first part of a call with its id and name."""
        return [self._part(each) for each in _objects(parts) if _payload(each)]

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        kind = _payload(part)
        assert kind is not None  # noqa: S101 - for the type checker
        payload = {name: each for name, each in part[kind].items() if each is not None}
        name = payload.pop("name", None)
        is_new, place = self._place(part.get("index"), _text(part.get("id")), begins=bool(name))
        if name and place not in self._named:
            self._named.add(place)
            payload = {"name": _text(name), **payload}
        if "arguments" in payload:
            payload["arguments"] = _arguments(payload["arguments"])
        first = {"id": self._ids[place], "type": kind} if is_new else {}
        rest = {name: each for name, each in part.items() if name not in ("index", "id", "type", kind)}
        return {"index": place, **first, **rest, kind: payload}

    def _place(self, index: Any, id: str | None, *, begins: bool) -> tuple[bool, int]:
        """Returns whether a part begins a call, and the place of its call."""
        index = index if isinstance(index, int) else None
        known = self._by_index.get(index) if index is not None else self._by_id.get(id or "")
        if known is None and index is None and not begins and self._ids:
            known = len(self._ids) - 1
        if known is not None and begins and id and self._ids[known] != id:
            known = self._by_id.get(id)
        is_new = known is None
        if known is None:
            known = len(self._ids)
            self._ids.append(id or _new_call_id())
            self._by_id.setdefault(self._ids[known], known)
        if index is not None:
            self._by_index[index] = known
        return is_new, known


def as_delta(message: dict[str, Any]) -> dict[str, Any]:
    """Returns a whole message as one delta of a stream."""
    calls = [{"index": index, **call} for index, call in enumerate(_objects(message.get("tool_calls")))]
    delta = {"role": "assistant", **message, "content": message.get("content") or ""}
    return {**delta, "tool_calls": calls} if calls else delta


def _of_text(choice: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the message or delta of a completion of a plain text, whose choices have a ``text``."""
    text = choice.pop("text", None)
    return {"content": text} if isinstance(text, str) else None


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Returns a message or a delta, changed so that its content and its name are text."""
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        message["content"] = _text(content)
    if "name" in message and not isinstance(message["name"], str):
        del message["name"]
    return message


def _call(given: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a tool call of a whole message, or ``None`` for a call of nothing."""
    kind = _payload(given)
    if kind is None or not given[kind].get("name"):
        return None
    payload = {**given[kind], "name": _text(given[kind]["name"])}
    if kind == "function":
        payload["arguments"] = _arguments(payload.get("arguments")) or "{}"
    rest = {name: each for name, each in given.items() if name != "index"}
    return {**rest, "id": _text(given.get("id")) or _new_call_id(), "type": kind, kind: payload}


def _payload(part: dict[str, Any]) -> str | None:
    """Returns the key of the call's content: ``function``, or ``custom`` for OpenAI's custom tools."""
    return next((kind for kind in ("function", "custom") if isinstance(part.get(kind), dict)), None)


def _arguments(given: Any) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    return json.dumps(given, ensure_ascii=False)


def _text(value: Any) -> str | None:
    """Returns the text of a value. Lists are parts of a content, of which some have a text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(part.get("text") if isinstance(part, dict) else part) or "" for part in value)
    return json.dumps(value, ensure_ascii=False)


def _reason(choice: dict[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    return reason if isinstance(reason, str) and reason else None


def _objects(listed: Any) -> list[dict[str, Any]]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _new_call_id() -> str:
    return f"call_{new_id().replace('-', '')[-24:]}"
