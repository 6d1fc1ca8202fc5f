"""Asks an address whether it wants a space's messages: it has to answer a challenge before it gets any.

Without that, a space could have the API send requests to servers of others. The answer is an object of its own, so that
a server that merely echoes requests does not pass.
"""

import json
import secrets
from datetime import datetime

from shared.clock import new_id
from shared.models.base import format_timestamp
from shared.models.webhook_endpoint import WebhookEndpoint
from shared.webhooks.sender import Answer, WebhookSender
from shared.webhooks.signature import sign

EVENT_TYPE = "webhook_endpoint.verification"
# A request waits for it.
LIMIT_SECONDS = 8.0
ANSWER_BYTES = 10_000


def verification_problem(
    sender: WebhookSender, space_id: str, endpoint: WebhookEndpoint, signing_secrets: list[str], now: datetime
) -> str | None:
    """Sends a signed challenge to the address. Returns why it did not pass, or ``None``."""
    challenge = secrets.token_urlsafe(32)
    data = {
        "id": endpoint.id,
        "kind": "webhook_endpoint",
        "link": f"/webhook-endpoints/{endpoint.id}",
        "space_id": space_id,
        "challenge": challenge,
    }
    body = json.dumps({"type": EVENT_TYPE, "timestamp": format_timestamp(now), "data": data}).encode()
    newest, *older = signing_secrets
    fixed = {"Content-Type": "application/json", "User-Agent": "Inference-Webhooks/1", "Connection": "close"}
    signed = sign(newest, new_id(), now, body, *older)
    return _problem(sender.post(endpoint.url, {**fixed, **signed}, body, read_bytes=ANSWER_BYTES), challenge)


def _problem(answer: Answer, challenge: str) -> str | None:
    if answer.error:
        return answer.error
    if not 200 <= (answer.status_code or 0) < 300:
        return f"it answered with status {answer.status_code}"
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("challenge") != challenge:
        return 'it did not answer {"challenge": "<data.challenge of the message>"}'
    return None
