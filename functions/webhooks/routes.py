"""Webhooks over HTTP: running jobs, and services beside us, report here."""

from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from functions.webhooks.secrets import WebhookSecrets
from functions.webhooks.service import Sender, WebhookService, authenticate
from shared.dependencies import CurrentResources
from shared.errors import UnavailableError
from shared.http.authorisation import AllowedCaller
from shared.http.errors import errors
from shared.http.routers import CheckedRoute, GroupRouter
from shared.models.webhook import WebhookMessage, WebhookReceipt
from shared.resources import Resources


@lru_cache(maxsize=1)
def _secrets(resources: Resources) -> WebhookSecrets:
    if resources.settings.webhook_secret_arn is None:
        raise UnavailableError("This deployment takes no webhooks: WEBHOOK_SECRET_ARN is not set.")
    return WebhookSecrets(resources.secrets_manager, resources.settings.webhook_secret_arn)


def _authenticate(resources: Resources, headers: Headers, body: bytes) -> Sender:
    return authenticate(_secrets(resources), headers, body, resources.clock())


class SignedRoute(CheckedRoute):
    """Proves who sent the body before anything reads it."""

    callers = frozenset({AllowedCaller.SERVICE})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def verified(request: Request) -> Response:
            body = await request.body()
            request.state.sender = await run_in_threadpool(
                _authenticate, request.app.state.resources, request.headers, body
            )
            return await handle(request)

        return verified


# Not signed in like a user: a message proves by its signature that it comes from a holder of the webhook secret.
router = GroupRouter("webhooks", route_class=SignedRoute)


async def _service(resources: CurrentResources) -> WebhookService:
    return WebhookService(resources.table, resources.clock)


async def _sender(request: Request) -> Sender:
    sender: Sender = request.state.sender
    return sender


async def _document_signature(
    webhook_id: Annotated[str | None, Header(description="The message's own id: it is taken in once.")] = None,
    webhook_timestamp: Annotated[str | None, Header(description="Unix seconds, at most five minutes off.")] = None,
    webhook_signature: Annotated[str | None, Header(description="Standard Webhooks: v1,<base64 HMAC-SHA256>.")] = None,
) -> None:
    """Only documents the headers: the route has read them already."""


CurrentWebhookService = Annotated[WebhookService, Depends(_service)]
CurrentSender = Annotated[Sender, Depends(_sender)]


@router.post("", dependencies=[Depends(_document_signature)], responses=errors(400, 401, 404, 503))
def receive_webhook(body: WebhookMessage, sender: CurrentSender, service: CurrentWebhookService) -> WebhookReceipt:
    """Receive a status update about a training, an evaluation or a connector."""
    return service.receive(body, sender)
