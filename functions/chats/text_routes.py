"""Defines OpenAI's older route for texts without roles, and its route for vectors."""

from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from pydantic import ConfigDict, Field, StringConstraints, model_validator

from functions.chats.choices import complete_all, stream_all
from functions.chats.embeddings import Embedder, EmbeddingRequest, as_base64
from functions.chats.event_streams import Chunks, EventStream, while_connected
from functions.chats.openai_routes import openai_router, openai_usage
from functions.chats.routes import STREAM_CONTENT, CurrentChatService, correlation_id
from functions.chats.turns import TurnRequest
from shared.dependencies import CurrentResources
from shared.http.errors import openai_error_body
from shared.http.routers import CurrentContext
from shared.models.base import ALSO_WITH_POINT, Model, ModelName
from shared.models.chat import (
    ChatCompletion,
    ChatCompletionCreate,
    Fraction,
    FreeObject,
    MaxTokens,
    Message,
    Role,
    Tag,
    Temperature,
)
from shared.models.inference_log import MAX_TAGS

# Each choice of each prompt is a call.
CALLS_LIMIT = 32
INPUTS_LIMIT = 2048
# OpenAI's default for this route. Some servers have none, and write until their context is full.
DEFAULT_TOKENS = 16

PlainText = Annotated[str, StringConstraints(min_length=1)]
UserName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _OpenAIBody(Model):
    """A body in which ``null`` means the same as no field, and in which every field is known."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName
    guard_enabled: bool | None = None
    metadata: FreeObject = Field(default_factory=dict)
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    user: UserName | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


class TextCompletionCreate(_OpenAIBody):
    """OpenAI's parameters of a completion of a plain text."""

    prompt: PlainText | Annotated[list[PlainText], Field(min_length=1, max_length=CALLS_LIMIT)] = Field(
        description="one text or several; tokens are not supported"
    )
    best_of: Annotated[int, Field(ge=1, le=1, strict=True), ALSO_WITH_POINT] | None = None
    echo: Literal[False] | None = Field(default=None, description="the prompt is never repeated")
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, strict=True)] | None = None
    logit_bias: dict[str, Annotated[float, Field(strict=True)]] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20, strict=True), ALSO_WITH_POINT] | None = None
    max_tokens: MaxTokens = DEFAULT_TOKENS
    n: Annotated[int, Field(ge=1, le=8, strict=True), ALSO_WITH_POINT] = 1
    presence_penalty: Annotated[float, Field(ge=-2, le=2, strict=True)] | None = None
    seed: Annotated[int, Field(strict=True), ALSO_WITH_POINT] | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    suffix: str | None = None
    temperature: Temperature | None = None
    top_p: Fraction | None = None

    @model_validator(mode="after")
    def _few_calls(self) -> "TextCompletionCreate":
        if len(self.prompts) * self.n > CALLS_LIMIT:
            raise ValueError(f"asks for more than {CALLS_LIMIT} completions: send fewer prompts, or a smaller n")
        return self

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    def options(self) -> dict[str, Any]:
        names = {"frequency_penalty", "logit_bias", "logprobs", "presence_penalty", "seed", "stop", "suffix"}
        return self.model_dump(include=names, exclude_none=True)

    def turns(self, context: CurrentContext, correlation_id: str) -> list[TurnRequest]:
        """Returns a turn for each completion: all of the first prompt, then those of the next one."""
        names = {"guard_enabled", "max_tokens", "metadata", "model", "tags", "temperature", "top_p", "user"}
        settings = self.model_dump(include=names)
        bodies = [
            ChatCompletionCreate(messages=[Message(role=Role.USER, content=prompt)], **settings)
            for prompt in self.prompts
            for _ in range(self.n)
        ]
        options = self.options()
        return [TurnRequest(body, context, correlation_id, None, options, store=False, is_text=True) for body in bodies]


TokenId = Annotated[int, Field(strict=True), ALSO_WITH_POINT]
# The validator's message is clearer than one for each form of the input.
_SOME = Field(json_schema_extra={"minItems": 1, "maxItems": INPUTS_LIMIT})


class EmbeddingsCreate(_OpenAIBody):
    """OpenAI's parameters of vectors. The server of the model has to read ``input`` if it is tokens."""

    input: str | Annotated[list[str], _SOME] | Annotated[list[TokenId], _SOME] | Annotated[list[list[TokenId]], _SOME]
    dimensions: Annotated[int, Field(ge=1, le=100_000, strict=True), ALSO_WITH_POINT] | None = None
    encoding_format: Literal["float", "base64"] = "float"

    @model_validator(mode="after")
    def _few_inputs(self) -> "EmbeddingsCreate":
        if not 0 < len(self.inputs) <= INPUTS_LIMIT:
            raise ValueError(f"must have 1 to {INPUTS_LIMIT:,} inputs")
        return self

    @property
    def inputs(self) -> Any:
        """Returns the inputs as a list: a list of numbers is one input."""
        is_one = isinstance(self.input, str) or (self.input and isinstance(self.input[0], int))
        return [self.input] if is_one else self.input

    def request(self, context: CurrentContext, correlation_id: str) -> EmbeddingRequest:
        options = {"dimensions": self.dimensions} if self.dimensions else {}
        return EmbeddingRequest(
            self.inputs, self.model, context, correlation_id, self.user, tuple(self.tags), self.guard_enabled, options
        )


async def _embedder(resources: CurrentResources) -> Embedder:
    return Embedder(resources.language_models)


CurrentEmbedder = Annotated[Embedder, Depends(_embedder)]
router = openai_router()


@router.post(
    "/completions",
    extension=True,
    response_model=None,
    responses={200: {"description": "OpenAI's text completion, or its chunks.", "content": STREAM_CONTENT}},
)
async def create_openai_text_completion(
    body: TextCompletionCreate, request: Request, context: CurrentContext, service: CurrentChatService
) -> dict[str, Any] | EventStream:
    """Continue a text, in OpenAI's format. The model's server has to serve `/v1/completions`."""
    turns = body.turns(context, correlation_id(request, body.metadata))
    if body.stream:
        with_usage = bool((body.stream_options or {}).get("include_usage"))
        return await EventStream.open(request, _chunks(stream_all(service, turns), with_usage), openai_error_body)
    return _text_completion(await while_connected(request, complete_all(service, turns)))


@router.post(
    "/embeddings", extension=True, response_model=None, responses={200: {"description": "OpenAI's embeddings."}}
)
async def create_openai_embeddings(
    body: EmbeddingsCreate, request: Request, context: CurrentContext, embedder: CurrentEmbedder
) -> dict[str, Any]:
    """Turn texts into vectors, in OpenAI's format."""
    wanted = body.request(context, correlation_id(request, body.metadata))
    found = await while_connected(request, embedder.embed(wanted))
    encoded = map(as_base64, found.vectors) if body.encoding_format == "base64" else found.vectors
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(encoded)]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return {"object": "list", "data": data, "model": found.model, "usage": usage}


def _text_completion(completion: ChatCompletion) -> dict[str, Any]:
    values = completion.model_dump(mode="json")
    guard = {"guard": values["guard"]} if completion.guard.enabled else {}
    return {
        "id": f"cmpl-{completion.id}",
        "object": "text_completion",
        "created": int(completion.created_at.timestamp()),
        "model": completion.model,
        "choices": [_text_choice(each, each["message"]) for each in completion.choices],
        "usage": openai_usage(values["usage"]),
        **guard,
    }


def _text_choice(choice: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": message.get("content") or "",
        "index": choice.get("index", 0),
        "logprobs": choice.get("logprobs"),
        "finish_reason": choice.get("finish_reason"),
    }


async def _chunks(chunks: Chunks, with_usage: bool) -> Chunks:
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk is None:
                yield None
                continue
            named = {"id": f"cmpl-{chunk['id']}", "object": "text_completion", "created": chunk["created"]}
            if "usage" not in chunk:
                choices = [_text_choice(each, each["delta"]) for each in chunk["choices"]]
                yield {**named, "model": chunk["model"], "choices": choices}
            elif with_usage:
                yield {**named, "model": chunk["model"], "choices": [], "usage": openai_usage(chunk["usage"])}
