"""Selects the context window: the newest part of a conversation that fits into the model."""

import json
from collections.abc import Sequence
from typing import Any

from shared.llm.completions import CONTEXT_WORDS, ContextOverflowError
from shared.llm.language_models import LanguageModels
from shared.llm.tokens import estimate_tokens
from shared.models.chat import Message, Role
from shared.models.cluster import LanguageModel

# Tokens that a server's template may add to a message.
MESSAGE_TOKENS = 8
DEFAULT_COMPLETION_TOKENS = 512


async def fit(
    models: LanguageModels,
    model: LanguageModel,
    system: Sequence[Message],
    conversation: Sequence[Message],
    max_tokens: int | None,
    tools: Sequence[dict[str, Any]] = (),
) -> list[Message]:
    """Returns ``system`` and the newest messages that fit into the model with the tools and the completion.

    The newest messages begin with a user's message. Raises ContextOverflowError if not even the newest turn fits.
    """
    everything = [*system, *conversation]
    if model.context_length is None:
        return everything
    completion_tokens = min(max_tokens or DEFAULT_COMPLETION_TOKENS, model.context_length // 2)
    budget = model.context_length - completion_tokens
    # Saves the call of the tokenizer, because a text never has more tokens than bytes.
    if len(_text(everything, tools).encode()) + MESSAGE_TOKENS * len(everything) <= budget:
        return everything
    is_estimated = False

    async def count(start: int) -> int:
        nonlocal is_estimated
        messages = [*system, *conversation[start:]]
        text = _text(messages, tools)
        exact = None if is_estimated else await models.count_tokens(model.id, text)
        is_estimated = exact is None  # a server without a tokenizer is not called again
        return (estimate_tokens(text) if exact is None else exact) + MESSAGE_TOKENS * len(messages)

    starts = [index for index, message in enumerate(conversation) if message.role is Role.USER] or [0]
    # A binary search works, because a later start has fewer tokens.
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if await count(starts[middle]) <= budget:
            high = middle
        else:
            low = middle + 1
    if low == len(starts):
        raise ContextOverflowError(
            f"The {CONTEXT_WORDS} of the model '{model.id}' is {model.context_length} tokens. However, the request has "
            f"about {await count(starts[-1])} tokens, and {completion_tokens} tokens are reserved for the completion. "
            "Shorten the request, or choose a model with a longer context."
        )
    return [*system, *conversation[starts[low] :]]


def _text(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> str:
    """Returns the text of all messages and tools, to count its tokens."""
    parts = [message.text for message in messages]
    parts += [json.dumps(beyond, ensure_ascii=False) for message in messages if (beyond := message.beyond_text())]
    parts += [json.dumps(tool, ensure_ascii=False) for tool in tools]
    return "\n".join(parts)
