"""The same completions under OpenAI's own addresses, in its exact shapes: its client libraries work unchanged."""

from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, model_validator

from functions.chats.event_streams import Chunks, EventStream
from functions.chats.routes import Service, correlation_id
from functions.chats.turns import TurnRequest
from shared.errors import ApiError
from shared.http.errors import TRANSLATIONS, errors, translated
from shared.http.routers import CurrentScope, RouteHandler, SpaceRoute, space_router
from shared.models.base import Model
from shared.models.chat import ChatCompletion, ChatCompletionCreate, Message
from shared.models.cluster import ModelName

# What goes to the server as it is.
PASSED_ON = (
    "frequency_penalty", "logit_bias", "logprobs", "parallel_tool_calls", "presence_penalty", "reasoning_effort",
    "response_format", "seed", "stop", "tool_choice", "tools", "top_logprobs",
)  # fmt: skip
TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


class OpenAICompletionCreate(ChatCompletionCreate):
    """OpenAI's parameters; ours may be sent too (the client's ``extra_body``)."""

    model: ModelName
    messages: Annotated[list[Message], Field(min_length=1, max_length=2000)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = Field(default=None, description="keep the turn as a chat of the space")
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    top_logprobs: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: Any) -> Any:
        """OpenAI calls the system's role ``developer`` now, and takes ``null`` for anything left out."""
        if not isinstance(given, dict):
            return given
        given = {name: value for name, value in given.items() if value is not None}
        given.setdefault("max_tokens", given.get("max_completion_tokens"))
        if isinstance(given.get("messages"), list):
            given["messages"] = [
                {**each, "role": "system"} if isinstance(each, dict) and each.get("role") == "developer" else each
                for each in given["messages"]
            ]
        return given

    def options(self) -> dict[str, Any]:
        chosen = {name: getattr(self, name) for name in PASSED_ON}
        return {name: value for name, value in chosen.items() if value is not None}


class OpenAIRoute(SpaceRoute):
    """Answers errors as OpenAI does."""

    def get_route_handler(self) -> RouteHandler:
        handle = super().get_route_handler()

        async def handle_in_their_words(request: Request) -> Response:
            try:
                return await handle(request)
            except tuple(TRANSLATIONS) as error:
                return _answer(translated(error))

        return handle_in_their_words


class OpenAIError(Model):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorAnswer(Model):
    """What every 4xx and 5xx answers here."""

    error: OpenAIError


router = space_router("chats", prefix="/v1")
router.route_class = OpenAIRoute
router.responses = {
    status: {**described, "model": OpenAIErrorAnswer}
    for status, described in errors(400, 401, 404, 429, 502, 503, 504).items()
}


@router.post("/chat/completions", response_model=None, responses={200: {"description": "OpenAI's chat completion."}})
async def create_openai_chat_completion(
    body: OpenAICompletionCreate, request: Request, scope: CurrentScope, service: Service
) -> dict[str, Any] | EventStream:
    """Answer messages, in OpenAI's shapes."""
    turn = TurnRequest(body, scope, correlation_id(request, body.metadata), None, body.options(), bool(body.store))
    if body.stream:
        with_usage = bool((body.stream_options or {}).get("include_usage"))
        return await EventStream.open(_in_their_shape(service.stream(turn), with_usage), error_body)
    return _completion(await service.complete(turn))


@router.get("/models", response_model=None, responses={200: {"description": "OpenAI's list of models."}})
async def list_openai_models(request: Request, scope: CurrentScope, service: Service) -> dict[str, Any]:
    """List the models of the space's cluster, in OpenAI's shape."""
    models = await service.models(scope, correlation_id(request))
    return {"object": "list", "data": [model.model_dump(exclude_none=True) for model in models]}


def error_body(error: ApiError) -> dict[str, Any]:
    kind = TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    where = error.details[0].field.removeprefix("body.") if error.details else None
    return {"error": {"message": error.message, "type": kind, "param": where, "code": error.code}}


async def _in_their_shape(chunks: Chunks, with_usage: bool) -> Chunks:
    """Only those who ask get the chunk with the usage; reports of the guard and the router come if they are on."""
    async with aclosing(chunks):
        async for chunk in chunks:
            if "usage" not in chunk:
                yield {**chunk, "id": f"chatcmpl-{chunk['id']}"}
            elif with_usage:
                shown = {name: value for name, value in chunk.items() if name not in ("guard", "router")}
                yield {**shown, **_reports(chunk), "id": f"chatcmpl-{chunk['id']}", "usage": _usage(chunk["usage"])}


def _completion(completion: ChatCompletion) -> dict[str, Any]:
    answer = completion.model_dump(mode="json")
    return {
        "id": f"chatcmpl-{completion.id}",
        "object": completion.object,
        "created": int(completion.created_at.timestamp()),
        "model": completion.model,
        "choices": completion.choices,
        "usage": _usage(answer["usage"]),
        **_reports(answer),
    }


def _reports(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("guard", "router") if answer[name]["enabled"]}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    more = {name: count for name, count in usage.items() if name not in names and count}
    return {**{name: usage[name] for name in names}, **more}


def _answer(error: ApiError) -> JSONResponse:
    return JSONResponse(error_body(error), status_code=error.status, headers=error.headers)
