"""Rules of webhooks: who may report, and what a report may change."""

import contextlib
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from boto3.dynamodb.conditions import Attr
from pydantic import ValidationError

from functions.webhooks.secrets import WebhookSecrets
from shared.clock import Clock, utc_now
from shared.dynamodb.repository import is_identifier
from shared.dynamodb.table import Key, Table, Write, put
from shared.errors import ConflictError, Detail, NotFoundError, UnauthenticatedError, ValidationFailedError
from shared.evaluations.store import Evaluations
from shared.jobs.store import Jobs
from shared.models.job_reference import JobKind, JobReference
from shared.models.job_status import JobStatus
from shared.models.webhook import Progress, WebhookMessage, WebhookReceipt
from shared.trainings.store import Trainings
from shared.webhooks.signature import TOLERANCE, SignatureError, verify

# Far longer than a message is accepted for: five minutes before and after.
REMEMBERED = timedelta(hours=1)


class AlreadyReceivedError(ConflictError):
    """The same message came before."""


@dataclass(frozen=True)
class Sender:
    """What is known of a message besides its body: its own id, and when it was sent."""

    message_id: str
    sent_at: datetime


def authenticate(secrets: WebhookSecrets, headers: Mapping[str, str], body: bytes, now: datetime) -> Sender:
    """Returns the sender of a message with a Standard Webhooks signature, or with the secret itself as bearer token.

    Raises UnauthenticatedError saying what is wrong.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _from_bearer(secrets, token.strip(), headers, body, now)
    reason = "the webhook can't be verified"
    for candidates in (secrets.known, secrets.refreshed):
        for secret in candidates():
            try:
                message_id = verify(secret, headers, body, now)
            except SignatureError as error:
                reason = str(error)
            else:
                return Sender(message_id, datetime.fromtimestamp(int(headers["webhook-timestamp"]), now.tzinfo))
    raise UnauthenticatedError(f"The message is not proven to come from one of our jobs: {reason}.")


def _from_bearer(secrets: WebhookSecrets, token: str, headers: Mapping[str, str], body: bytes, now: datetime) -> Sender:
    """Authenticates a service that can't sign. Without an id of the message, its body is its id."""
    for candidates in (secrets.known, secrets.refreshed):
        if any(hmac.compare_digest(token.encode(), secret.strip().encode()) for secret in candidates()):
            break
    else:
        raise UnauthenticatedError("The bearer token is not the webhook secret.")
    sent = headers.get("webhook-timestamp", str(int(now.timestamp())))
    try:
        sent_at = datetime.fromtimestamp(int(sent), now.tzinfo)
    except (ValueError, OverflowError, OSError):
        raise UnauthenticatedError("The header webhook-timestamp is not a unix time in seconds.") from None
    if abs(now - sent_at) > TOLERANCE:
        raise UnauthenticatedError("The message's time is more than five minutes off.")
    return Sender(headers.get("webhook-id") or hashlib.sha256(body).hexdigest(), sent_at)


class WebhookService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock
        self._jobs = Jobs(table, clock)
        self._trainings = Trainings(table, clock)
        self._evaluations = Evaluations(table, clock)

    def receive(self, message: WebhookMessage, sender: Sender) -> WebhookReceipt:
        """Handles a message once.

        A job may report that it runs, and its series so far. How it ended is for its workflow to find out, so a
        message about that changes nothing. Raises NotFoundError for an id that is neither a job's nor, with
        ``payload.space_id``, a connector's.
        """
        job = self._jobs.find(message.id)
        if job is not None:
            # A repeated delivery is answered like the first.
            with contextlib.suppress(AlreadyReceivedError):
                self._apply(job, message, sender)
        elif not self._is_connector(message):
            raise NotFoundError("There is nothing with this id that takes messages.")
        return WebhookReceipt(id=message.id)

    def _apply(self, job: JobReference, message: WebhookMessage, sender: Sender) -> None:
        remember = self._remember(sender)
        tells_it_runs = message.status in (None, JobStatus.RUNNING)
        if job.kind is JobKind.TRAINING and tells_it_runs:
            at = min(message.timestamp or sender.sent_at, self._clock())
            progress = _progress(message)
            self._trainings.report(job.space_id, job.id, at, progress.metrics, progress.estimate, also=[remember])
            return
        # Before the message is remembered: after an interruption, the repeated message advances it.
        if job.kind is JobKind.EVALUATION and tells_it_runs:
            self._evaluations.advance(job.space_id, job.id, JobStatus.RUNNING)
        self._table.transact([remember])

    def _remember(self, sender: Sender) -> Write:
        digest = hashlib.sha256(sender.message_id.encode()).hexdigest()
        expires_at = int((self._clock() + REMEMBERED).timestamp())
        repeated = AlreadyReceivedError("This message was received before.")
        return put(Key(f"webhook#{digest}", digest), {"expires_at": expires_at}, Attr("PK").not_exists(), repeated)

    def _is_connector(self, message: WebhookMessage) -> bool:
        space_id = message.payload.get("space_id")
        # Anything else may name another kind of item, or be too long for a key.
        if not (isinstance(space_id, str) and is_identifier(space_id)):
            return False
        return self._table.get(Key(f"connector#{space_id}", message.id)) is not None


def _progress(message: WebhookMessage) -> Progress:
    try:
        return Progress.model_validate(message.payload)
    except ValidationError as error:
        details = [
            Detail(".".join(("body.payload", *(str(part) for part in problem["loc"]))), problem["msg"])
            for problem in error.errors(include_url=False)[:100]
        ]
    raise ValidationFailedError(f"{details[0].field}: {details[0].message}", details)
