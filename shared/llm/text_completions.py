"""Gives completions of plain texts the form of chats, so that everything behind reads one form."""

from collections.abc import AsyncIterator
from typing import Any

CHAT_PATH, TEXT_PATH = "v1/chat/completions", "v1/completions"


def path_of(body: dict[str, Any]) -> str:
    """Returns the server's path for a request: a text has a prompt in place of messages."""
    return TEXT_PATH if "prompt" in body else CHAT_PATH


def as_chat(completion: dict[str, Any]) -> dict[str, Any]:
    """Returns a completion of a text as one of a chat, and any other unchanged."""
    return _converted(completion, "message", {"role": "assistant"})


async def as_chat_chunks(chunks: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    async for chunk in chunks:
        yield _converted(chunk, "delta", {})


def _converted(body: dict[str, Any], name: str, more: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    if not isinstance(choices, list):
        return body
    return {**body, "choices": [_choice(each, name, more) for each in choices]}


def _choice(choice: Any, name: str, more: dict[str, Any]) -> Any:
    if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
        return choice
    rest = {key: value for key, value in choice.items() if key != "text"}
    return {**rest, name: {**more, "content": choice["text"]}}
