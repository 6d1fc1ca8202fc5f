"""Turns texts into vectors for clients. With the guard, it judges the texts first."""

import base64
import struct
from dataclasses import dataclass, field
from typing import Any

from functions.chats.guard import Guard, Verdict
from functions.chats.turns import is_guarded
from shared.errors import ApiError, ValidationFailedError
from shared.llm.language_models import Caller, LanguageModelAccess, LanguageModels
from shared.models.chat import GuardStage
from shared.models.inference_log import CallStatus, CallType
from shared.spaces.members import SpaceContext

Inputs = list[str] | list[list[int]]


class ContentFilteredError(ApiError):
    """Error raised when the guard blocks the texts of a call that has no other place to say so."""

    status = 400
    code = "content_filter"


@dataclass(frozen=True)
class EmbeddingRequest:
    """``inputs`` are texts, or the numbers of tokens, which only the model's server can read."""

    inputs: Inputs
    model: str
    context: SpaceContext
    correlation_id: str
    user: str | None = None
    tags: tuple[str, ...] = ()
    guard_enabled: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Embeddings:
    model: str
    vectors: list[list[float]]
    tokens: int


class Embedder:
    def __init__(self, access: LanguageModelAccess) -> None:
        self._access = access

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Returns a vector for each input.

        Raises UnknownModelError, ContentFilteredError, GuardUnavailableError and the errors of the server.
        """
        caller = Caller.of(
            request.context,
            request.correlation_id,
            user=request.user or request.context.user_id,
            tags=request.tags,
        )
        models = await self._access.open(caller)
        model = await models.model(request.model)
        if is_guarded(request.context, request.guard_enabled):
            verdict = await self._judge(models, request)
            if verdict.flagged:
                await _log_blocked(models, model.id, verdict)
                raise ContentFilteredError(f"The guard blocked the texts: {', '.join(verdict.categories)}.")
        vectors = await models.embeddings(model.id, request.inputs, request.options)
        return Embeddings(model.id, vectors, models.tokens[CallType.EMBEDDING])

    async def _judge(self, models: LanguageModels, request: EmbeddingRequest) -> Verdict:
        texts = [each for each in request.inputs if isinstance(each, str)]
        if len(texts) < len(request.inputs):
            raise ValidationFailedError.of(
                "body.input",
                "must be text, because the guard can't read tokens; LangChain: check_embedding_ctx_length=False",
            )
        # A model for vectors judges nothing.
        judge = models.settings.guard_model or (await models.model(None)).id
        guard = Guard(models, judge, with_reasoning=False)
        return await guard.check("\n".join([*texts, request.user or ""]), GuardStage.INPUT)


async def _log_blocked(models: LanguageModels, model: str, verdict: Verdict) -> None:
    async with models.recorded(CallType.EMBEDDING, model) as record:
        record.status = CallStatus.BLOCKED
        record.error = f"blocked by the guard: {', '.join(verdict.categories) or 'unnamed'}"


def as_base64(vector: list[float]) -> str:
    """Returns a vector as 32-bit numbers, in the form that OpenAI's clients ask for."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
