"""Webhook endpoints, and their signing secrets.

A secret lies beside its endpoint under ``webhook_endpoint_secret#<space>``, encrypted at rest as all of the table is:
reads of endpoints and the audit log contain no secret. A replaced secret also signs for one more day.
"""

import base64
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Idempotency, Repository
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, Write, delete, put, repeat_on_conflict, update
from shared.errors import ApiError, ConflictError, NotFoundError
from shared.models.base import Deleted, format_timestamp
from shared.models.webhook_endpoint import (
    MAX_ENDPOINTS,
    DisabledReason,
    EndpointStatus,
    WebhookEndpoint,
)

ROTATION = timedelta(hours=24)
DISABLED_AFTER = timedelta(days=5)
# Messages that a user makes us send immediately: tests and verifications, in a minute.
SENDS_TO_ENDPOINT = 5
SENDS_OF_SPACE = 30
# Rotating again and again makes no endless list: the newest few sign.
SECRETS_KEPT = 4


@dataclass(frozen=True)
class Recipient:
    """What is needed to send a message: the endpoint, if there is one, its secrets, and whether its space is in use."""

    endpoint: WebhookEndpoint | None
    secrets: list[str]
    space_in_use: bool


class TooManySendsError(ApiError):
    status = 429
    code = "rate_limited"


class WebhookEndpoints:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self.repository = Repository(table, WebhookEndpoint, kind="webhook_endpoint", clock=clock)
        self._table = table
        self._clock = clock

    def create(
        self, space_id: str, endpoint: WebhookEndpoint, idempotency: Idempotency | None
    ) -> tuple[WebhookEndpoint, str]:
        """Returns the endpoint and its secret. Raises ConflictError for more than a space may have."""
        new = self._put_secrets(space_id, endpoint.id, [{"secret": _new_secret()}], version=1)
        full = ConflictError(f"A space has at most {MAX_ENDPOINTS} webhook endpoints. Delete one first.")
        has_room = Attr("taken").not_exists() | Attr("taken").lt(MAX_ENDPOINTS)
        place = update(_places(space_id), {}, add={"taken": 1}, condition=has_room, error=full)
        created = self.repository.create(space_id, endpoint, idempotency=idempotency, also=[place, new])
        return created, self._secrets(space_id, created.id)["secrets"][0]["secret"]

    def enabled(self, space_id: str) -> list[WebhookEndpoint]:
        items = self._table.query(f"webhook_endpoint#{space_id}", limit=MAX_ENDPOINTS)
        endpoints = [self.repository.load(item) for item in items]
        return [endpoint for endpoint in endpoints if endpoint.status is EndpointStatus.ENABLED]

    def delete(self, space_id: str, endpoint_id: str, expected_version: int | None) -> Deleted:
        """With its secrets. Raises NotFoundError and PreconditionFailedError."""
        also = [delete(_secret_key(space_id, endpoint_id)), update(_places(space_id), {}, add={"taken": -1})]
        return self.repository.delete(space_id, endpoint_id, expected_version=expected_version, also=also)

    def note_verification(self, space_id: str, endpoint: WebhookEndpoint, problem: str | None) -> WebhookEndpoint:
        """Returns the endpoint, which is enabled unless there is a problem. Raises ConflictError if it was changed."""
        changes: dict[str, Any] = {"verification_error": problem}
        if problem is None:
            changes |= {"is_verified": True, "status": EndpointStatus.ENABLED}
        as_sent = Attr("url").eq(endpoint.url) & Attr("status").eq(EndpointStatus.PENDING_VERIFICATION.value)
        try:
            return self.repository.update(space_id, endpoint.id, changes, condition=as_sent)
        except ConditionNotMetError:
            raise ConflictError("The endpoint was changed during its verification. Verify it again.") from None

    def count_send(self, space_id: str, endpoint_id: str) -> None:
        """Raises TooManySendsError when the endpoint or the space had as many messages in this minute as it may."""
        for key, limit in (
            (self.repository.key(space_id, endpoint_id), SENDS_TO_ENDPOINT),
            (_places(space_id), SENDS_OF_SPACE),
        ):
            step = partial(self._count_send, key, limit)
            repeat_on_conflict(step, "Too many messages are sent just now.", (ConditionFailedError,))

    def _count_send(self, key: Key, limit: int) -> None:
        minute, second = divmod(int(self._clock().timestamp()), 60)
        has_room = Attr("sends_minute").eq(minute) & Attr("sends").lt(limit)
        try:
            self._table.write(update(key, {}, add={"sends": 1}, condition=has_room))
        except ConditionFailedError as failed:
            if failed.item is None:
                raise self.repository.not_found() from None
            if failed.item.get("sends_minute") == minute:
                raise TooManySendsError(
                    f"At most {limit} tests and verifications are sent in a minute. Try again in the next one.",
                    headers={"Retry-After": str(60 - second)},
                ) from None
            is_over = Attr("PK").exists() & (Attr("sends_minute").not_exists() | Attr("sends_minute").lt(minute))
            self._table.write(update(key, {"sends_minute": minute, "sends": 1}, condition=is_over))

    def rotate_secret(self, space_id: str, endpoint_id: str) -> str:
        """Returns a new secret. The old one also signs for one more day. Raises NotFoundError and ConflictError."""
        self.repository.get(space_id, endpoint_id)
        item, secret, now = self._secrets(space_id, endpoint_id), _new_secret(), self._clock()
        current, *older = item["secrets"]
        kept = [
            {"secret": secret},
            {**current, "expires_at": format_timestamp(now + ROTATION)},
            *(each for each in older if each["expires_at"] > format_timestamp(now)),
        ][:SECRETS_KEPT]
        changed = self._put_secrets(space_id, endpoint_id, kept, version=item["version"] + 1)
        try:
            self._table.write(changed)
        except ConditionFailedError as failed:
            if failed.item is None or failed.item["secrets"][0]["secret"] != secret:
                raise ConflictError("The secret is rotated by somebody else just now. Try again.") from None
        return secret

    def recipient(self, space_id: str, endpoint_id: str) -> Recipient:
        keys = self.repository.key(space_id, endpoint_id), _secret_key(space_id, endpoint_id)
        space_key = Key(f"space#{space_id}", space_id)
        found: Mapping[Key, Item] = self._table.get_many([*keys, space_key])
        endpoint = self.repository.load(found[keys[0]]) if keys[0] in found else None
        now = format_timestamp(self._clock())
        signing = [
            each["secret"]
            for each in found.get(keys[1], {"secrets": []})["secrets"]
            if each.get("expires_at", now) >= now
        ]
        return Recipient(endpoint, signing, space_key in found and "deleted_at" not in found[space_key])

    def note_success(self, space_id: str, endpoint: WebhookEndpoint) -> None:
        if endpoint.failing_since is not None:
            self._mark(space_id, endpoint, failing_since=None)

    def note_failure(self, space_id: str, endpoint: WebhookEndpoint, now: datetime) -> None:
        """Since when it fails; an endpoint that has for five days is disabled."""
        if endpoint.failing_since is None:
            self._mark(space_id, endpoint, failing_since=now)
        elif now - endpoint.failing_since >= DISABLED_AFTER:
            self.disable(space_id, endpoint.id, DisabledReason.FAILING)

    def disable(self, space_id: str, endpoint_id: str, reason: DisabledReason) -> None:
        changes = {"status": EndpointStatus.DISABLED, "disabled_reason": reason}
        is_enabled = Attr("status").eq(EndpointStatus.ENABLED.value)
        with suppress(NotFoundError, ConditionNotMetError):
            self.repository.update(space_id, endpoint_id, changes, condition=is_enabled)

    def _mark(self, space_id: str, endpoint: WebhookEndpoint, **values: datetime | None) -> None:
        # No change of the endpoint by anybody: neither its version nor the time of its change moves.
        as_read = Attr("version").eq(endpoint.version)
        with suppress(ConditionFailedError):  # deleted or changed since, and then a new count of days begins
            self._table.write(update(self.repository.key(space_id, endpoint.id), values, condition=as_read))

    def _secrets(self, space_id: str, endpoint_id: str) -> Item:
        item = self._table.get(_secret_key(space_id, endpoint_id))
        if item is None:
            raise self.repository.not_found()  # deleted just now
        return item

    @staticmethod
    def _put_secrets(space_id: str, endpoint_id: str, kept: list[dict[str, Any]], *, version: int) -> Write:
        unchanged = Attr("version").eq(version - 1) if version > 1 else Attr("PK").not_exists()
        return put(_secret_key(space_id, endpoint_id), {"secrets": kept, "version": version}, unchanged)


def _secret_key(space_id: str, endpoint_id: str) -> Key:
    return Key(f"webhook_endpoint_secret#{space_id}", endpoint_id)


def _places(space_id: str) -> Key:
    """Returns the key of the number of endpoints, which conditions check."""
    return Key(f"webhook_endpoint#{space_id}#places", "total")


def _new_secret() -> str:
    """Standard Webhooks asks for 24 to 64 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
