"""How much of a conversation a model is sent: its newest part that fits, beginning with a user's turn."""

from collections.abc import Sequence

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
) -> list[Message]:
    """``system`` and the longest end of ``conversation`` that leave room for the answer.

    Tokens are counted by the server's tokenizer where it has one, else estimated. Raises ContextOverflowError.
    """
    everything = [*system, *conversation]
    if model.context_length is None:
        return everything
    answer = min(answer_tokens or DEFAULT_ANSWER_TOKENS, model.context_length // 2)
    budget = model.context_length - answer
    if _largest_count(everything) <= budget:
        return everything
    starts = [index for index, message in enumerate(conversation) if message.role is Role.USER] or [0]
    # The token count falls as the start moves on, so the first start that fits is found by halving.
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if await _count(models, model, [*system, *conversation[starts[middle] :]]) <= budget:
            high = middle
        else:
            low = middle + 1
    if low == len(starts):
        count = await _count(models, model, [*system, *conversation[starts[-1] :]])
        raise ContextOverflowError(
            f"The newest turn has about {count} tokens with what the experts add, and {answer} are kept for the "
            f"answer; the model '{model.id}' reads {model.context_length}. Shorten it, or choose one that reads more."
        )
    return [*system, *conversation[starts[low] :]]


def _largest_count(messages: Sequence[Message]) -> int:
    """No tokenizer makes more tokens than there are bytes."""
    return sum(len(message.text.encode()) + MESSAGE_TOKENS for message in messages)


async def _count(models: LanguageModels, model: LanguageModel, messages: Sequence[Message]) -> int:
    text = "\n".join(message.text for message in messages)
    exact = await models.count_tokens(model.id, text)
    return (estimate_tokens(text) if exact is None else exact) + MESSAGE_TOKENS * len(messages)
