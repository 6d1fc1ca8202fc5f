"""Defines the routes of chats."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from functions.chats.event_streams import EventStream, while_connected
from functions.chats.service import ChatService
from functions.chats.turns import TurnRequest
from shared.chats.store import ChatPage, Chats
from shared.dependencies import CurrentResources
from shared.experts.store import Experts
from shared.http.errors import error_body, errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import ConversationRoute, CurrentContext, GroupRouter
from shared.models.base import Deleted
from shared.models.chat import Chat, ChatCompletion, ChatCompletionCreate, ChatUpdate

router = GroupRouter("chats", route_class=ConversationRoute)

# OpenAPI 3.1 has no word for a stream, so readers of documents take the schema for that of each event.
STREAM_CONTENT = {
    "text/event-stream": {
        "schema": {
            "type": "object",
            "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
            "required": ["data"],
        }
    }
}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The completion. With `stream`, its chunks as server-sent events, and then `[DONE]`.",
        "content": STREAM_CONTENT,
    }
}


async def service(resources: CurrentResources) -> ChatService:
    values = resources.large_values
    return ChatService(
        Chats(resources.table, values, resources.clock),
        Experts(resources.table, values, resources.clock),
        resources.language_models,
        resources.clock,
    )


CurrentChatService = Annotated[ChatService, Depends(service)]
NamePart = Annotated[
    str,
    Query(
        max_length=200,
        description="Any part of the name, in upper or lower case. A request searches at most 1,000 chats: go on with "
        "`next_after` while `has_more` is true.",
    ),
]


def correlation_id(request: Request, metadata: dict[str, Any] | None = None) -> str:
    """Returns the id for the inference log: the client's ``correlation_id`` or the request id."""
    given = (metadata or {}).get("correlation_id")
    own: str = request.state.request_id
    return given[:200] if isinstance(given, str) and given else own


@router.get("")
def list_chats(
    context: CurrentContext, service: CurrentChatService, limit: Limit = 10, after: After = "", name: NamePart = ""
) -> ChatPage:
    """List the chats of the space without their messages, newest first."""
    return service.list_after(context, after, limit, name)


@router.post(
    "", status_code=201, response_model=ChatCompletion, responses=STREAMED | errors(402, 409, 429, 502, 503, 504)
)
async def create_chat_completion(
    body: ChatCompletionCreate,
    request: Request,
    context: CurrentContext,
    service: CurrentChatService,
    idempotency: IdempotencyKey,
) -> ChatCompletion | EventStream:
    """Create a completion in a new or an existing chat."""
    turn = TurnRequest(body, context, correlation_id(request, body.metadata), idempotency)
    if body.stream:
        chunks = service.stream(turn)
        return await EventStream.open(request, chunks, lambda error: error_body(error, request.state.request_id))
    return await while_connected(request, service.complete(turn))


@router.delete("/{id}", responses=errors(412))
def delete_chat(
    id: str, context: CurrentContext, service: CurrentChatService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete a chat and its messages."""
    return service.delete(context, id, expected_version)


@router.get("/{id}")
def get_chat(id: str, context: CurrentContext, service: CurrentChatService, response: Response) -> Chat:
    """Get a chat with all its messages."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(409, 412))
def update_chat(
    id: str,
    body: ChatUpdate,
    context: CurrentContext,
    service: CurrentChatService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Chat:
    """Update the fields of a chat that are sent, for the next turns. `messages` replaces all messages."""
    return tagged(response, service.update(context, id, body, expected_version))


@router.get("/{id}/window", responses=errors(502, 503, 504))
async def get_chat_window(id: str, request: Request, context: CurrentContext, service: CurrentChatService) -> Chat:
    """Get the newest part of the chat that fits into its model. It begins with a user's message."""
    return await service.window(context, id, correlation_id(request))
