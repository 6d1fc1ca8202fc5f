"""Emulates tool calls for servers without tools: the model writes JSON, and the API converts it to a tool call."""

import json
from collections.abc import Sequence
from typing import Any

from shared.clock import new_id
from shared.errors import ValidationFailedError
from shared.llm.completions import Completion
from shared.llm.json_schemas import check_emulated, check_parameters, inlined
from shared.llm.language_models import read_structured
from shared.models.expert import ExpertTool

_TEXT_CHARACTERS = 4000
_INSTRUCTIONS = (
    "You may use these tools. To use one, answer with its name and arguments as JSON; to answer the user yourself, "
    'answer with {{"content": "your words"}}.\n{tools}'
)


def check_tools(tools: Sequence[dict[str, Any]], tool_choice: Any) -> None:
    """Raises ValidationFailedError if the tools or the choice cannot be emulated."""
    names = []
    for index, given in enumerate(tools):
        try:
            tool = ExpertTool.model_validate(given)
        except ValueError:
            raise ValidationFailedError.of(
                f"body.tools.{index}", "must be a function with a name, because the cluster's tool calls are emulated"
            ) from None
        field = f"body.tools.{index}.function.parameters"
        check_parameters(tool.function.parameters, field)
        check_emulated(tool.function.parameters, field)
        names.append(tool.function.name)
    function = tool_choice.get("function") if isinstance(tool_choice, dict) else None
    chosen = function.get("name") if isinstance(function, dict) else None
    if tool_choice not in (None, "none", "auto", "required") and chosen not in names:
        raise ValidationFailedError.of("body.tool_choice", 'must be "none", "auto", "required" or one of the tools')


def with_inlined_references(tool: dict[str, Any]) -> dict[str, Any]:
    """Returns a tool whose parameters refer to no definitions, because many servers read none."""
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("parameters"), dict):
        return tool
    return {**tool, "function": {**function, "parameters": inlined(function["parameters"])}}


def allowed_tools(tools: Sequence[dict[str, Any]], tool_choice: Any) -> tuple[list[dict[str, Any]], Any]:
    """Returns the tools that ``tool_choice`` allows, and the choice among them. Raises ValidationFailedError."""
    if not isinstance(tool_choice, dict) or tool_choice.get("type") != "allowed_tools":
        return list(tools), tool_choice
    match tool_choice.get("allowed_tools"):
        case {"mode": "auto" | "required" as mode, "tools": list(listed)}:
            names = {each["function"].get("name") for each in listed if _is_function(each)}
            allowed = [tool for tool in tools if _is_function(tool) and tool["function"].get("name") in names]
            if len(allowed) == len(listed):
                return allowed, mode
    raise ValidationFailedError.of(
        "body.tool_choice", "must allow tools of the request, with the mode auto or required"
    )


def _is_function(tool: Any) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("function"), dict)


def emulated_request(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the request without ``tools``. The prompt describes the tools, and a schema restricts the completion."""
    tools: Sequence[dict[str, Any]] = body["tools"]
    described = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    instructions = {"role": "system", "content": _INSTRUCTIONS.format(tools=described)}
    rest = {name: value for name, value in body.items() if name not in ("tools", "tool_choice", "parallel_tool_calls")}
    return {
        **rest,
        "messages": [instructions, *map(_without_tools, body["messages"])],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "tool_call", "schema": schema(tools, body.get("tool_choice")), "strict": True},
        },
    }


def schema(tools: Sequence[dict[str, Any]], tool_choice: Any = None) -> dict[str, Any]:
    """Returns the schema of a text or a call of one of the tools. ``tool_choice`` has OpenAI's format."""
    forced = tool_choice["function"]["name"] if isinstance(tool_choice, dict) else None
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": tool["function"].get("parameters") or {"type": "object", "additionalProperties": False},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
        if forced in (None, tool["function"]["name"])
    ]
    text = {
        "type": "object",
        "properties": {"content": {"type": "string", "maxLength": _TEXT_CHARACTERS}},
        "required": ["content"],
        "additionalProperties": False,
    }
    if tool_choice == "none":
        return text
    return {"anyOf": calls if forced or tool_choice == "required" else [text, *calls]}


def emulated_completion(completion: Completion, tools: Sequence[dict[str, Any]], tool_choice: Any = None) -> Completion:
    """Returns the completion in the format of a server with tools.

    Raises BrokenResponseError if the completion does not fit the schema.
    """
    result = read_structured(completion, schema(tools, tool_choice))
    if "content" in result:
        message, reason = {"role": "assistant", "content": result["content"]}, "stop"
    else:
        call = {
            "id": f"call_{new_id().replace('-', '')[-24:]}",
            "type": "function",
            "function": {"name": result["name"], "arguments": json.dumps(result["arguments"], ensure_ascii=False)},
        }
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    choice = {**completion.body["choices"][0], "message": message, "finish_reason": reason}
    return Completion({**completion.body, "choices": [choice]})


def _without_tools(message: dict[str, Any]) -> dict[str, Any]:
    """Returns a message in a format for servers without tools."""
    if message["role"] == "tool":
        return {"role": "user", "content": f"The tool answered: {message.get('content')}"}
    if message.get("tool_calls"):
        calls = [call.get("function") for call in message["tool_calls"]]
        return {"role": "assistant", "content": json.dumps(calls, ensure_ascii=False)}
    return message
