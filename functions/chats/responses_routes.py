"""Defines the route of OpenAI's Responses API, which newer client libraries call by default."""

from typing import Any

from fastapi import Request

from functions.chats.event_streams import EventStream, while_connected
from functions.chats.openai_routes import openai_router
from functions.chats.response_events import ResponseEvents, response_of
from functions.chats.responses import ResponseCreate
from functions.chats.routes import STREAM_CONTENT, CurrentChatService, correlation_id
from functions.chats.turns import TurnRequest
from shared.http.routers import CurrentContext
from shared.spaces.members import SpaceContext

router = openai_router()


@router.post(
    "/responses",
    extension=True,
    response_model=None,
    responses={200: {"description": "OpenAI's response, or its events.", "content": STREAM_CONTENT}},
)
async def create_openai_response(
    body: ResponseCreate, request: Request, context: CurrentContext, service: CurrentChatService
) -> dict[str, Any] | EventStream:
    """Create a response in the format of OpenAI's Responses API. Nothing is stored."""
    turn = _turn(body, request, context)
    if body.stream:
        events = ResponseEvents(body)
        return await EventStream.open(request, events.of(service.stream(turn)), events.error)
    return response_of(body, await while_connected(request, service.complete(turn)))


def _turn(body: ResponseCreate, request: Request, context: SpaceContext) -> TurnRequest:
    chat = body.chat()
    return TurnRequest(
        chat,
        context,
        correlation_id(request, body.metadata),
        None,
        chat.options(),
        store=False,
        may_shorten=body.truncation != "disabled",
    )
