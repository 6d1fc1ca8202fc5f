"""Writes completions in the shapes of OpenAI's Responses API: whole, and as events."""

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from functions.chats.event_streams import Chunks
from functions.chats.responses import ResponseCreate
from shared.clock import new_id
from shared.errors import ApiError
from shared.http.errors import openai_error_body
from shared.models.chat import ChatCompletion

# Why a response ends early, in the words of the two APIs.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_of(request: ResponseCreate, completion: ChatCompletion) -> dict[str, Any]:
    """Returns a completion as a response."""
    choice = completion.choices[0]
    values = completion.model_dump(mode="json")
    head = _head(request, completion.id, int(completion.created_at.timestamp()), completion.model)
    message = choice["message"]
    text, calls = message.get("content") or "", message.get("tool_calls") or []
    items = [_text_item(_item_id("msg"), text, "completed")] if text or not calls else []
    output = [*items, *(_call_item(_item_id("fc"), call, "completed") for call in calls)]
    return _finished(head, output, choice.get("finish_reason"), values)


def _finished(
    head: dict[str, Any], output: list[dict[str, Any]], reason: str | None, values: dict[str, Any]
) -> dict[str, Any]:
    why = _INCOMPLETE.get(reason or "")
    reports = {name: values[name] for name in ("guard", "router") if values[name]["enabled"]}
    return {
        **head,
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "output": output,
        "usage": _usage(values["usage"]),
        **reports,
    }


class ResponseEvents:
    """The events of one response."""

    def __init__(self, request: ResponseCreate) -> None:
        self._request = request
        self._number = 0
        self._head: dict[str, Any] = {}
        self._output: list[dict[str, Any]] = []
        # The position of the text and of each call in the output, once they have begun.
        self._text_place: int | None = None
        self._text = ""
        self._call_places: dict[int, int] = {}
        self._reason: str | None = None

    async def of(self, chunks: Chunks) -> Chunks:
        """Yields the events for the chunks of a completion."""
        async with aclosing(chunks):
            async for chunk in chunks:
                if chunk is None:
                    yield None
                    continue
                if not self._head:
                    self._head = _head(self._request, chunk["id"], chunk["created"], chunk["model"])
                    for kind in ("response.created", "response.in_progress"):
                        yield self._event(kind, response={**self._head, "status": "in_progress"})
                for choice in chunk["choices"]:
                    self._reason = choice.get("finish_reason") or self._reason
                    for event in self._delta(choice["delta"]):
                        yield event
                if "usage" in chunk:
                    for event in self._end():
                        yield event
                    finished = _finished(self._head, self._output, self._reason, chunk)
                    yield self._event(f"response.{finished['status']}", response=finished)

    def error(self, error: ApiError) -> dict[str, Any]:
        """Returns the last event of a stream that failed."""
        found = openai_error_body(error)["error"]
        failed = {"code": found["code"] or "server_error", "message": found["message"]}
        if not self._head:
            return self._event("error", **failed, param=found["param"])
        return self._event("response.failed", response={**self._head, "status": "failed", "error": failed})

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}

    def _delta(self, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if text := delta.get("content"):
            if self._text_place is None:
                yield from self._begin_text()
            self._text += text
            yield self._event("response.output_text.delta", **self._text_part(), delta=text, logprobs=[])
        for part in delta.get("tool_calls") or ():
            yield from self._call(part)

    def _begin_text(self) -> Iterator[dict[str, Any]]:
        self._text_place = len(self._output)
        self._output.append(_text_item(_item_id("msg"), None, "in_progress"))
        yield self._event(
            "response.output_item.added", output_index=self._text_place, item={**self._output[self._text_place]}
        )
        yield self._event("response.content_part.added", **self._text_part(), part=_text_content(""))

    def _text_part(self) -> dict[str, Any]:
        assert self._text_place is not None  # noqa: S101 - for the type checker
        item_id = self._output[self._text_place]["id"]
        return {"item_id": item_id, "output_index": self._text_place, "content_index": 0}

    def _call(self, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        index = part.get("index", 0)
        if index not in self._call_places:
            place = self._call_places[index] = len(self._output)
            item = _call_item(_item_id("fc"), part, "in_progress")
            self._output.append({**item, _written(item): ""})
            yield self._event("response.output_item.added", output_index=place, item={**self._output[place]})
        place = self._call_places[index]
        item = self._output[place]
        name = _written(item)
        piece = _call_item("", {"type": part.get("type"), **part}, "in_progress").get(name) or ""
        if piece:
            item[name] += piece
            kind = f"response.{_KINDS[item['type']]}.delta"
            yield self._event(kind, item_id=item["id"], output_index=place, delta=piece)

    def _end(self) -> Iterator[dict[str, Any]]:
        if not self._output:  # an empty text is a text
            yield from self._begin_text()
        if self._text_place is not None:
            part = _text_content(self._text)
            yield self._event("response.output_text.done", **self._text_part(), text=self._text, logprobs=[])
            yield self._event("response.content_part.done", **self._text_part(), part=part)
            self._output[self._text_place] |= {"status": "completed", "content": [part]}
        for place, item in enumerate(self._output):
            if place != self._text_place:
                name = _written(item)
                kind = f"response.{_KINDS[item['type']]}.done"
                yield self._event(kind, item_id=item["id"], output_index=place, name=item["name"], **{name: item[name]})
                item["status"] = "completed"
            yield self._event("response.output_item.done", output_index=place, item={**item})


_KINDS = {"function_call": "function_call_arguments", "custom_tool_call": "custom_tool_call_input"}


def _written(item: dict[str, Any]) -> str:
    """Returns the field of a call's item that is streamed in pieces."""
    return "input" if item["type"] == "custom_tool_call" else "arguments"


def _head(request: ResponseCreate, id: str, created: int, model: str) -> dict[str, Any]:
    given = request.model_dump(mode="json")
    text = request.text or {}
    reasoning = request.reasoning or {}
    return {
        "id": f"resp_{id}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": given["instructions"],
        "max_output_tokens": given["max_output_tokens"],
        "max_tool_calls": None,
        "metadata": given["metadata"],
        "model": model,
        "output": [],
        "parallel_tool_calls": True if given["parallel_tool_calls"] is None else given["parallel_tool_calls"],
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "service_tier": given["service_tier"] or "default",
        "store": False,
        "temperature": given["temperature"],
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": given["tool_choice"] or "auto",
        "tools": given["tools"] or [],
        "top_p": given["top_p"],
        "truncation": given["truncation"] or "auto",
        "usage": None,
        "user": given["user"],
    }


def _text_item(id: str, text: str | None, status: str) -> dict[str, Any]:
    content = [] if text is None else [_text_content(text)]
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}


def _text_content(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(id: str, call: dict[str, Any], status: str) -> dict[str, Any]:
    if isinstance(call.get("custom"), dict):
        custom = call["custom"]
        item = {"type": "custom_tool_call", "name": custom.get("name") or "", "input": custom.get("input") or ""}
    else:
        function = call.get("function") or {}
        arguments = function.get("arguments") or ""
        item = {"type": "function_call", "name": function.get("name") or "", "arguments": arguments}
    return {"id": id, "call_id": call.get("id") or _item_id("call"), "status": status, **item}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": prompt.get("cached_tokens", 0)},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": completion.get("reasoning_tokens", 0)},
        "total_tokens": usage["total_tokens"],
    }


def _item_id(kind: str) -> str:
    return f"{kind}_{new_id().replace('-', '')}"
