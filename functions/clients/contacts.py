"""Records contacts with customers in the ledger."""

import hashlib
from datetime import datetime

from shared.clock import Clock
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import ValidationFailedError
from shared.insights.ledger import Report, ReportedContact, require_past
from shared.insights.store import InsightPolicies, Insights
from shared.models.action import Action, channel_key
from shared.models.client_key import ClientName
from shared.models.contact import Contact, ContactCreate, ContactStatus
from shared.models.insight import InsightPolicy
from shared.spaces.members import SpaceContext


class ContactService:
    def __init__(self, table: Table, insights: Insights, clock: Clock) -> None:
        self._actions = Repository(table, Action, kind="action", clock=clock)
        self._policies = InsightPolicies(table, clock)
        self._insights = insights
        self._clock = clock

    def record(self, context: SpaceContext, request: ContactCreate) -> Contact:
        """Records what happened to a contact. The same report changes nothing the second time.

        Raises ValidationFailedError for an unknown action or insight and for a time in the future, and ConflictError
        for a contact with another action or channel.
        """
        policy, now = self._policies.get(context.space_id), self._clock()
        occurred_at = request.occurred_at or now
        require_past(occurred_at, now)
        report = Report(request.status, occurred_at, _end(request.status, occurred_at, policy))
        if request.insight_id is not None:
            key, reported = self._of_insight(context, request, request.insight_id, report)
        else:
            key, reported = self._of_customer(context, request, request.client_key or "", policy, report)
        return self._insights.ledger.record(context.space_id, key, reported)

    def _of_insight(
        self, context: SpaceContext, request: ContactCreate, insight_id: str, report: Report
    ) -> tuple[str, ReportedContact]:
        insight = self._insights.stored(context.space_id, insight_id)
        if insight is None or insight.action_id is None:
            raise ValidationFailedError.of("body.insight_id", "there is no such insight with an offer in the space")
        if request.action_id not in (None, insight.action_id):
            raise ValidationFailedError.of(
                "body.action_id", f"is not the insight's action: send {insight.action_id} or no action_id"
            )
        return insight.client_key, ReportedContact(
            request.contact_id or insight_id,
            report,
            action_id=insight.action_id,
            channel=request.channel,
            default_channel=insight.channel,
            group=insight.group,
        )

    def _of_customer(
        self, context: SpaceContext, request: ContactCreate, client_key: str, policy: InsightPolicy, report: Report
    ) -> tuple[str, ReportedContact]:
        key = policy.client_key.key_of(client_key)
        if not key:
            raise ValidationFailedError.of("body.client_key", "names nobody, as the policy's client_key compares keys")
        action = self._action(context, request.action_id)
        default = action.channel if action else None
        return ClientName("client_key", key).digest, ReportedContact(
            request.contact_id or _made_id(request, request.channel or default, report.occurred_at),
            report,
            action_id=request.action_id,
            channel=request.channel,
            default_channel=default,
            group=action.group or None if action else None,
        )

    def _action(self, context: SpaceContext, action_id: str | None) -> Action | None:
        if action_id is None:
            return None
        action = self._actions.get_many(context.space_id, [action_id]).get(action_id)
        if action is None:
            raise ValidationFailedError.of("body.action_id", "there is no such action; GET /actions lists them")
        return action


def _end(status: ContactStatus, occurred_at: datetime, policy: InsightPolicy) -> datetime | None:
    return occurred_at + policy.reservation if status is ContactStatus.RESERVED else None


def _made_id(request: ContactCreate, channel: str | None, occurred_at: datetime) -> str:
    """Returns an id that a repeated request gets, too."""
    parts = (request.action_id or "", channel_key(channel) if channel else "", occurred_at.isoformat())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
