"""Defines the routes of completions with OpenAI's paths and formats, so that OpenAI's client libraries work."""

from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Request
from pydantic import ConfigDict, Field, model_validator

from functions.chats.choices import complete_all, stream_all
from functions.chats.event_streams import Chunks, EventStream, while_connected
from functions.chats.options import check_options
from functions.chats.routes import STREAM_CONTENT, CurrentChatService, correlation_id
from functions.chats.service import SERVED_BY
from functions.chats.turns import TurnRequest
from shared.http.errors import errors, openai_error_body
from shared.http.routers import ConversationRoute, CurrentContext, GroupRouter
from shared.models.base import ALSO_WITH_POINT, Model, ModelName
from shared.models.chat import ChatCompletion, ChatCompletionCreate, MaxTokens, Message
from shared.models.cluster import LanguageModel
from shared.spaces.members import SpaceContext


class OpenAICompletionCreate(ChatCompletionCreate):
    """OpenAI's parameters and this API's own parameters (``extra_body`` of OpenAI's client).

    Other known parameters (such as `stop`, `seed`, `response_format`, `top_k`) are sent to the language model's server
    unchanged. Unknown ones are refused.
    """

    model_config = ConfigDict(extra="allow")

    model: ModelName
    messages: Annotated[list[Message], Field(min_length=1, max_length=2000)]
    max_completion_tokens: MaxTokens | None = None
    n: (
        Annotated[
            int, Field(ge=1, le=8, strict=True, description="each completion is a call of its own"), ALSO_WITH_POINT
        ]
        | None
    ) = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = Field(default=None, description="store the turn as a chat of the space")
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _normalised(cls, given: Any) -> Any:
        """Replaces OpenAI's newer role ``developer`` with ``system``, and removes fields that are ``null``."""
        if not isinstance(given, dict):
            return given
        given = {name: value for name, value in given.items() if value is not None}
        if "max_completion_tokens" in given:
            given["max_tokens"] = given["max_completion_tokens"]
        if given.get("store") and given.get("n") not in (None, 1):
            raise ValueError("stores one completion: send n=1, or no store")
        if isinstance(given.get("messages"), list):
            given["messages"] = [
                {**each, "role": "system"} if isinstance(each, dict) and each.get("role") == "developer" else each
                for each in given["messages"]
            ]
        return given

    def options(self) -> dict[str, Any]:
        """Returns the parameters for the server. Raises ValidationFailedError for an unknown one."""
        check_options(self.model_extra or {}, type(self).model_fields)
        named = {"max_completion_tokens": self.max_completion_tokens, "tools": self.tools}
        given = {**named, **(self.model_extra or {})}
        return {name: value for name, value in given.items() if value is not None}


class OpenAIError(Model):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorAnswer(Model):
    """The body of every 4xx and 5xx response of these paths."""

    error: OpenAIError


OPENAI_ERRORS = {
    status: {**described, "model": OpenAIErrorAnswer}
    for status, described in errors(400, 401, 402, 403, 404, 409, 429, 502, 503, 504).items()
}


def openai_router() -> GroupRouter:
    """Returns a router of paths in OpenAI's formats."""
    made = GroupRouter("chats", prefix="/v1", route_class=ConversationRoute)
    made.responses = OPENAI_ERRORS
    return made


router = openai_router()


@router.post(
    "/chat/completions",
    extension=True,
    response_model=None,
    responses={200: {"description": "OpenAI's chat completion, or its chunks.", "content": STREAM_CONTENT}},
)
async def create_openai_chat_completion(
    body: OpenAICompletionCreate, request: Request, context: CurrentContext, service: CurrentChatService
) -> dict[str, Any] | EventStream:
    """Create a completion in OpenAI's format."""
    turns = [_turn(body, request, context)] * (body.n or 1)
    if body.stream:
        with_usage = bool((body.stream_options or {}).get("include_usage"))
        return await EventStream.open(request, _chunks(stream_all(service, turns), with_usage), openai_error_body)
    return _completion(await while_connected(request, complete_all(service, turns)))


@router.get(
    "/models", extension=True, response_model=None, responses={200: {"description": "OpenAI's list of models."}}
)
async def list_openai_models(request: Request, context: CurrentContext, service: CurrentChatService) -> dict[str, Any]:
    """List the models of the space's cluster in OpenAI's format."""
    models = await service.models(context, correlation_id(request))
    return {"object": "list", "data": [_model(model) for model in models]}


@router.get(
    "/models/{model:path}", extension=True, response_model=None, responses={200: {"description": "OpenAI's model."}}
)
async def get_openai_model(
    model: str, request: Request, context: CurrentContext, service: CurrentChatService
) -> dict[str, Any]:
    """Get a model of the space's cluster in OpenAI's format."""
    return _model(await service.model(context, correlation_id(request), model))


def _turn(body: OpenAICompletionCreate, request: Request, context: SpaceContext) -> TurnRequest:
    return TurnRequest(body, context, correlation_id(request, body.metadata), None, body.options(), bool(body.store))


async def _chunks(chunks: Chunks, with_usage: bool) -> Chunks:
    """Yields the chunks in OpenAI's format. The chunk with the usage is only sent on request."""
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk is None:
                yield None
                continue
            theirs = {**chunk, "id": f"chatcmpl-{chunk['id']}"}
            if "usage" not in chunk:
                yield theirs
            elif with_usage:
                reports = {name: theirs.pop(name) for name in ("guard", "router")}
                yield {**theirs, **_reports(reports), "usage": openai_usage(chunk["usage"])}


def _completion(completion: ChatCompletion) -> dict[str, Any]:
    values = completion.model_dump(mode="json")
    return {
        "id": f"chatcmpl-{completion.id}",
        "object": completion.object,
        "created": int(completion.created_at.timestamp()),
        "model": completion.model,
        "choices": completion.choices,
        **{name: values[name] for name in SERVED_BY if values[name] is not None},
        "usage": openai_usage(values["usage"]),
        **_reports(values),
    }


def _reports(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("guard", "router") if values[name]["enabled"]}


def openai_usage(usage: dict[str, Any]) -> dict[str, Any]:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    more = {name: count for name, count in usage.items() if name not in names and count}
    return {**{name: usage[name] for name in names}, **more}


def _model(model: LanguageModel) -> dict[str, Any]:
    return model.model_dump(exclude_none=True)
