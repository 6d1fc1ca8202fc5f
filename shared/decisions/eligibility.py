"""Finds the rules that forbid to offer actions to a client."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shared.insights.conditions import ClientConditions, Failed
from shared.insights.ledger import History
from shared.models.action import Action, ActionStatus, channel_key
from shared.models.action_group import ActionGroup
from shared.models.contact import Contact
from shared.models.insight import ContactLimit, InsightPolicy, LimitPeriod, Reaction, Rule


@dataclass(frozen=True)
class Removal:
    """The rule that forbids to offer an action. ``failed`` is the condition that does not hold, if one does not."""

    rule: Rule
    text: str
    failed: Failed | None = None

    @property
    def condition(self) -> str | None:
        return self.failed.condition if self.failed else None

    @property
    def reason(self) -> str:
        """Returns the reason as a sentence."""
        if self.failed is None:
            return self.text
        return f"{self.text} condition `{self.failed.condition}` {self.failed.reason}."


@dataclass(frozen=True)
class Offered:
    """An offer that a limit may forbid."""

    action_id: str | None
    channel: str | None
    group: str | None


@dataclass(frozen=True)
class Engagement:
    """The past contacts of a client, compared with the policy of the space.

    ``groups`` are the groups of the actions, and ``channels`` the channels of all candidates. Clients with the same
    history share an engagement.
    """

    policy: InsightPolicy
    history: History
    now: datetime
    groups: Mapping[str, ActionGroup]
    channels: Sequence[str]
    _last: dict[tuple[str, Reaction], datetime] = field(init=False, default_factory=dict)
    # The contacts that each limit of the policy counts.
    uses: list[tuple[ContactLimit, int]] = field(init=False, default_factory=list)
    _full: list[ContactLimit] = field(init=False, default_factory=list)
    _removals: dict[str, tuple[Removal | None, Removal | None]] = field(init=False, default_factory=dict)
    _usable: dict[str, list[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for past in self.history.reactions:
            place = (past.action_id, past.reaction)
            self._last[place] = max(past.occurred_at, self._last.get(place, past.occurred_at))
        counted = [each for each in self.history.contacts if each.counts(self.now) and not self._is_exempt(each)]
        for limit in self.policy.contact_limits:
            begin = begin_of(limit, self.policy.time_zone, self.now)
            made = sum(begin <= each.occurred_at and _concerns(limit, each) for each in counted)
            self.uses.append((limit, made))
            if made >= limit.contacts:
                self._full.append(limit)

    def usable_channels(self, action: Action) -> list[str]:
        """Returns the channels on which an action may be offered: its own, or those on which no limit forbids it."""
        if action.id not in self._usable:
            open_ones = [channel for channel in self.channels if self._reached(action, channel) is None]
            self._usable[action.id] = [action.channel] if action.channel else open_ones
        return self._usable[action.id]

    def removal(self, action: Action, client: ClientConditions) -> Removal | None:
        """Returns the first rule that forbids to offer the action to the client."""
        if action.id not in self._removals:
            self._removals[action.id] = _ineligible(action, self.now, self.policy), self.engaged(action)
        ineligible, engaged = self._removals[action.id]
        return ineligible or self._fails_condition(action, client) or engaged

    def _fails_condition(self, action: Action, client: ClientConditions) -> Removal | None:
        group = self.groups.get(action.group)
        for owner, conditions in (("Its", action.conditions), ("Its group's", group.conditions if group else ())):
            failed = client.failed(conditions)
            if failed is not None:
                return Removal(Rule.CONDITION, owner, failed)
        return None

    def engaged(self, action: Action) -> Removal | None:
        """Returns the rule about contacts and reactions that forbids to offer the action, if one does."""
        channels = [action.channel] if action.channel else self.channels
        return self._suppressed(action) or self._contacted_enough(action, channels)

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

    def _contacted_enough(self, action: Action, channels: Sequence[str]) -> Removal | None:
        # An offer without any channel counts towards the limits over all channels.
        reached = [self._reached(action, channel) for channel in channels] or [self._reached(action, None)]
        limit = reached[0]
        if limit is None or None in reached:
            return None
        where = (
            f"on {channels[0]}" if len(channels) == 1 else "on every channel in use" if channels else "of all channels"
        )
        return Removal(Rule.CONTACT_LIMIT, f"The client has reached the contact limit {where}: {_described(limit)}.")

    def _reached(self, action: Action, channel: str | None) -> ContactLimit | None:
        offer = Offered(action.id, channel, action.group or None)
        if self._is_exempt(offer):
            return None
        return next((limit for limit in self._full if _concerns(limit, offer)), None)

    def _is_exempt(self, contact: Contact | Offered) -> bool:
        exempt = self.policy.exempt
        return (
            contact.action_id in exempt.actions
            or contact.group in exempt.groups
            or _is_one_of(contact.channel, exempt.channels)
        )


def begin_of(limit: ContactLimit, time_zone: str, now: datetime) -> datetime:
    """Returns the first moment whose contacts the limit counts."""
    if limit.period is LimitPeriod.ROLLING:
        # A contact of exactly this many days ago no longer counts.
        return now - timedelta(days=limit.days) + timedelta.resolution
    zone = ZoneInfo(time_zone)
    first = now.astimezone(zone).date() - timedelta(days=limit.days - 1)
    return datetime.combine(first, time.min, zone).astimezone(UTC)


def _concerns(limit: ContactLimit, contact: Contact | Offered) -> bool:
    return (
        limit.action_id in (None, contact.action_id)
        and limit.group in (None, contact.group)
        and (limit.channel is None or _is_one_of(contact.channel, [limit.channel]))
    )


def _is_one_of(channel: str | None, channels: Collection[str]) -> bool:
    return channel is not None and channel_key(channel) in map(channel_key, channels)


def _described(limit: ContactLimit) -> str:
    """Returns the limit in words."""
    days = f"{limit.days} days" if limit.period is LimitPeriod.ROLLING else f"{limit.days} calendar days"
    about = [f"on {limit.channel}" if limit.channel else "on all channels"]
    if limit.action_id:
        about.append("about this action")
    if limit.group:
        about.append("about its group")
    return f"{limit.contacts} contacts in {days} {' '.join(about)}"


def _ineligible(action: Action, now: datetime, policy: InsightPolicy) -> Removal | None:
    if action.status is not ActionStatus.ACTIVE:
        return Removal(Rule.INELIGIBLE, f"Its status is {action.status}, not active.")
    if action.start_date and now < action.start_date:
        return Removal(Rule.INELIGIBLE, f"It does not start before {action.start_date:%Y-%m-%d %H:%M} UTC.")
    if action.value and action.value.currency != policy.currency:
        asked = f"not in {policy.currency}, the currency of the policy" if policy.currency else "the policy has none"
        return Removal(Rule.INELIGIBLE, f"Its value is in {action.value.currency}, {asked}.")
    if action.end_date and now > action.end_date:
        return Removal(Rule.INELIGIBLE, f"It ended on {action.end_date:%Y-%m-%d %H:%M} UTC.")
    return None
