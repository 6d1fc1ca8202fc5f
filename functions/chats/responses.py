"""Reads requests of OpenAI's Responses API as chats. It is stateless: the client sends the whole conversation.

What this API does not do is refused with the reason, because nothing that a client asks for is left out silently.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from functions.chats.openai_routes import OpenAICompletionCreate
from shared.errors import ValidationFailedError
from shared.models.base import Model, ModelName
from shared.models.chat import Fraction, FreeObject, MaxTokens, Tag, Temperature
from shared.models.inference_log import MAX_TAGS

# Asks for reasoning in a form that only OpenAI can read back. Without such reasoning, nothing can be included.
ENCRYPTED_REASONING = "reasoning.encrypted_content"
_STATELESS = "is not supported, because responses are not stored: send the whole conversation in input"
_NOT_SUPPORTED = {
    "background": "is not supported: wait for the response, or stream it",
    "conversation": _STATELESS,
    "max_tool_calls": "is not supported, because the client calls all tools itself",
    "previous_response_id": _STATELESS,
    "prompt": "is not supported: send the text of the prompt in instructions or input",
}


def _refused(name: str) -> Any:
    return Field(default=None, description=_NOT_SUPPORTED[name], exclude=True)


class ResponseCreate(Model):
    """OpenAI's parameters of a response, and this API's own (``extra_body`` of OpenAI's clients)."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName
    input: str | Annotated[list[dict[str, Any]], Field(min_length=1, max_length=2000)]
    background: Any = _refused("background")
    conversation: Any = _refused("conversation")
    expert_ids: list[str] = Field(default_factory=list)
    guard_enabled: bool | None = None
    include: list[str] = Field(default_factory=list)
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    max_tool_calls: Any = _refused("max_tool_calls")
    metadata: FreeObject = Field(default_factory=dict)
    parallel_tool_calls: bool | None = None
    previous_response_id: Any = _refused("previous_response_id")
    prompt: Any = _refused("prompt")
    prompt_cache_key: str | None = None
    reasoning: dict[str, Any] | None = None
    router_enabled: bool | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: Literal[False] | None = Field(default=None, description="responses are not stored")
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    temperature: Temperature | None = None
    text: dict[str, Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    top_logprobs: Literal[0] | None = None
    top_p: Fraction | None = None
    truncation: Literal["auto", "disabled"] | None = Field(
        default=None, description="`disabled` refuses a conversation that is too long; else its oldest part is left out"
    )
    user: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name, reason in _NOT_SUPPORTED.items():
            if given.get(name) not in (None, False):
                raise ValidationFailedError.of(f"body.{name}", reason)
        if given.get("store"):
            raise ValidationFailedError.of("body.store", _STATELESS)
        return {name: value for name, value in given.items() if value is not None and name not in _NOT_SUPPORTED}

    def chat(self) -> OpenAICompletionCreate:
        """Returns the chat completion with the same meaning. Raises ValidationFailedError."""
        try:
            return OpenAICompletionCreate.model_validate(self._chat())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])).replace("messages", "input", 1)
            raise ValidationFailedError.of(f"body.{place}", str(first["msg"]).removeprefix("Value error, ")) from None

    def _chat(self) -> dict[str, Any]:
        if unknown := [each for each in self.include if each != ENCRYPTED_REASONING]:
            raise ValidationFailedError.of("body.include", f"can't have {unknown[0]}: leave it out")
        names = {
            "expert_ids", "guard_enabled", "metadata", "model", "parallel_tool_calls", "prompt_cache_key",
            "router_enabled", "safety_identifier", "service_tier", "stream", "tags", "temperature", "top_p", "user",
        }  # fmt: skip
        values = {
            **self.model_dump(include=names, exclude_none=True),
            "messages": self._messages(),
            "max_tokens": self.max_output_tokens,
            "tools": [_tool(index, each) for index, each in enumerate(self.tools or ())] or None,
            "tool_choice": None if self.tool_choice is None else _choice(self.tool_choice),
            **self._reasoning(),
            **self._text(),
        }
        return {name: value for name, value in values.items() if value is not None}

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        for index, item in enumerate(self.input):
            message = _message(item, f"body.input.{index}")
            last = messages[-1] if messages else {}
            if item.get("type") in _CALLS and last.get("role") == "assistant":
                last.setdefault("tool_calls", []).extend(message["tool_calls"])
            else:
                messages.append(message)
        return messages

    def _reasoning(self) -> dict[str, Any]:
        given = {name: value for name, value in (self.reasoning or {}).items() if value is not None}
        effort = given.pop("effort", None)
        _refuse_more(given, "body.reasoning")
        return {"reasoning_effort": effort}

    def _text(self) -> dict[str, Any]:
        given = {name: value for name, value in (self.text or {}).items() if value is not None}
        verbosity, shape = given.pop("verbosity", None), given.pop("format", {"type": "text"})
        _refuse_more(given, "body.text")
        match shape:
            case {"type": "text"}:
                shape = None
            case {"type": "json_object"}:
                pass
            case {"type": "json_schema", **schema}:
                shape = {"type": "json_schema", "json_schema": schema}
            case _:
                raise ValidationFailedError.of("body.text.format", "must be text, json_object or json_schema")
        return {"response_format": shape, "verbosity": verbosity}


_CALLS = {"function_call": "function", "custom_tool_call": "custom"}
_OUTPUTS = ("function_call_output", "custom_tool_call_output")


def _message(item: dict[str, Any], place: str) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "message":
        content = _content(item.get("content"), place)
        if item.get("role") == "assistant" and isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content)
        return {"role": item.get("role"), "content": content}
    if kind in _CALLS:
        written = "arguments" if kind == "function_call" else "input"
        called = {"name": item.get("name"), written: item.get(written)}
        call = {"id": item.get("call_id"), "type": _CALLS[kind], _CALLS[kind]: called}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind in _OUTPUTS:
        content = _content(item.get("output"), place)
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
    raise ValidationFailedError.of(
        place,
        f"has the type {str(kind)[:100]}, which is not supported: send messages, function calls and their outputs",
    )


def _content(content: Any, place: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise ValidationFailedError.of(place, "must have a text, or a list of parts")
    return [_part(each, place) for each in content]


def _part(part: dict[str, Any], place: str) -> dict[str, Any]:
    match part:
        case {"type": "input_text" | "output_text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url)}:
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
    raise ValidationFailedError.of(
        place,
        f"has a part of the type {str(part.get('type'))[:100]}, which is not supported: send text, or images by URL",
    )


def _tool(index: int, tool: dict[str, Any]) -> dict[str, Any]:
    kind = tool.get("type")
    if kind not in _CALLS.values():
        raise ValidationFailedError.of(
            f"body.tools.{index}",
            f"has the type {str(kind)[:100]}, which runs at OpenAI: send tools of the types function or custom",
        )
    described = {name: each for name, each in tool.items() if name != "type" and each is not None}
    return {"type": kind, str(kind): described}


def _choice(choice: str | dict[str, Any]) -> Any:
    match choice:
        case str():
            return choice
        case {"type": "function" | "custom" as kind, "name": name}:
            return {"type": kind, kind: {"name": name}}
        case {"type": "allowed_tools", "mode": mode, "tools": list(tools)}:
            return {
                "type": "allowed_tools",
                "allowed_tools": {"mode": mode, "tools": [_choice(each) for each in tools]},
            }
    raise ValidationFailedError.of(
        "body.tool_choice", "names a tool that runs at OpenAI: name a function or custom tool"
    )


def _refuse_more(given: dict[str, Any], place: str) -> None:
    for name in given:
        raise ValidationFailedError.of(f"{place}.{name}", "is not supported: leave it out")
