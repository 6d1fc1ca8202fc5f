"""Finds the rules that forbid to offer actions to a client."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.insights.store import Contact
from shared.models.action import Action, ActionStatus, channel_key
from shared.models.insight import ContactLimit, InsightPolicy, Reaction, Rule


@dataclass(frozen=True)
class Removal:
    """The rule that forbids to offer an action, and the reason as a sentence."""

    rule: Rule
    reason: str


@dataclass(frozen=True)
class Engagement:
    """The past contacts of a client, compared with the policy of the space."""

    policy: InsightPolicy
    contacts: Collection[Contact]
    now: datetime
    _last: dict[tuple[str, Reaction], datetime] = field(init=False, default_factory=dict)
    _full: dict[str, ContactLimit] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for contact in self.contacts:
            place = (contact.action_id, contact.reaction)
            self._last[place] = max(contact.created_at, self._last.get(place, contact.created_at))
        for limit in self.policy.contact_limits:
            begin = self.now - timedelta(days=limit.days)
            channel = channel_key(limit.channel)
            made = sum(
                each.channel is not None and channel_key(each.channel) == channel and each.created_at > begin
                for each in self.contacts
            )
            if made >= limit.contacts:
                self._full.setdefault(channel, limit)

    def open_channels(self, channels: Iterable[str]) -> list[str]:
        """Returns the channels that have not reached the client's contact limit."""
        return [channel for channel in channels if channel_key(channel) not in self._full]

    def removal(self, action: Action, channels: Collection[str]) -> Removal | None:
        """Returns the first rule that forbids to offer the action. ``channels`` are the channels of all candidates."""
        return (
            _ineligible(action, self.now)
            or self._suppressed(action)
            or self._contacted_enough(action.channel, channels)
        )

    def _suppressed(self, action: Action) -> Removal | None:
        for reaction in Reaction:
            days = getattr(self.policy.suppression_days, reaction)
            last = self._last.get((action.id, reaction))
            if last is not None and self.now < last + timedelta(days=days):
                until = (last + timedelta(days=days)).date()
                return Removal(
                    Rule.SUPPRESSED,
                    f"The client {reaction} it on {last.date()}. "
                    f"The policy suppresses it for {days} days, until {until}.",
                )
        return None

    def _contacted_enough(self, channel: str | None, channels: Collection[str]) -> Removal | None:
        wanted = [channel] if channel else channels
        if not wanted or self.open_channels(wanted):
            return None
        limit = self._full[channel_key(next(iter(wanted)))]
        where = f"on {limit.channel}" if len(wanted) == 1 else "on every channel in use"
        return Removal(
            Rule.CONTACT_LIMIT,
            f"The client has reached the contact limit {where}: "
            f"{limit.contacts} contacts in {limit.days} days on {limit.channel}.",
        )


def _ineligible(action: Action, now: datetime) -> Removal | None:
    if action.status is not ActionStatus.ACTIVE:
        return Removal(Rule.INELIGIBLE, f"Its status is {action.status}, not active.")
    if action.start_date and now < action.start_date:
        return Removal(Rule.INELIGIBLE, f"It does not start before {action.start_date:%Y-%m-%d %H:%M} UTC.")
    if action.end_date and now > action.end_date:
        return Removal(Rule.INELIGIBLE, f"It ended on {action.end_date:%Y-%m-%d %H:%M} UTC.")
    return None
