"""How much of a conversation a model is sent: its newest part that fits, beginning with a user's turn."""

import json
from collections.abc import Sequence
from typing import Any

from shared.errors import ApiError
from shared.llm.language_models import LanguageModels
from shared.llm.tokens import estimate_tokens
from shared.models.chat import Message, Role
from shared.models.cluster import LanguageModel

# What a server's template may put around a message.
MESSAGE_TOKENS = 8
DEFAULT_ANSWER_TOKENS = 512


class ContextOverflowError(ApiError):
    """Even the newest turn is longer than the model can read."""

    status = 400
    code = "context_length_exceeded"


async def fit(
    models: LanguageModels,
    model: LanguageModel,
    system: Sequence[Message],
    conversation: Sequence[Message],
    answer_tokens: int | None,
    tools: Sequence[dict[str, Any]] = (),
) -> list[Message]:
    """``system`` and the longest end of ``conversation`` that leave room for the tools and the answer.

    Tokens are counted by the server's tokenizer where it has one, else estimated. Raises ContextOverflowError.
    """
    everything = [*system, *conversation]
    if model.context_length is None:
        return everything
    answer = min(answer_tokens or DEFAULT_ANSWER_TOKENS, model.context_length // 2)
    budget = model.context_length - answer
    # No tokenizer makes more tokens than there are bytes.
    if len(_text(everything, tools).encode()) + MESSAGE_TOKENS * len(everything) <= budget:
        return everything
    is_estimated = False

    async def count(start: int) -> int:
        nonlocal is_estimated
        messages = [*system, *conversation[start:]]
        text = _text(messages, tools)
        exact = None if is_estimated else await models.count_tokens(model.id, text)
        is_estimated = exact is None  # a server without a tokenizer is not asked again
        return (estimate_tokens(text) if exact is None else exact) + MESSAGE_TOKENS * len(messages)

    starts = [index for index, message in enumerate(conversation) if message.role is Role.USER] or [0]
    # The token count falls as the start moves on, so the first start that fits is found by halving.
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if await count(starts[middle]) <= budget:
            high = middle
        else:
            low = middle + 1
    if low == len(starts):
        raise ContextOverflowError(
            f"The request has about {await count(starts[-1])} tokens with all that belongs to it, and {answer} are "
            f"kept for the answer; the model '{model.id}' reads {model.context_length}. Shorten it, or choose one that "
            "reads more."
        )
    return [*system, *conversation[starts[low] :]]


def _text(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> str:
    """Returns all that is sent, as far as it is words."""
    parts = [message.text for message in messages]
    parts += [json.dumps(beyond, ensure_ascii=False) for message in messages if (beyond := message.beyond_text())]
    parts += [json.dumps(tool, ensure_ascii=False) for tool in tools]
    return "\n".join(parts)
