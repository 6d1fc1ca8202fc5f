"""Compares limits on random ledgers with an independent sum of what was reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.clock import new_id
from shared.decisions.eligibility import Engagement, begin_of
from shared.dynamodb.table import Table
from shared.insights.conditions import ClientConditions
from shared.insights.ledger import History, Ledger, Report, ReportedContact
from shared.models.action import Action
from shared.models.contact import ContactStatus
from shared.models.insight import ContactExemptions, ContactLimit, InsightPolicy, LimitPeriod

SPACE = "a-space"
# In each zone the clocks change within a day of this time: forward, back, at midnight, and by a whole day.
EDGES = {
    "Europe/Berlin": datetime(2026, 3, 29, 1, tzinfo=UTC),
    "America/New_York": datetime(2026, 11, 1, 6, tzinfo=UTC),
    "Africa/Cairo": datetime(2026, 4, 23, 22, tzinfo=UTC),
    "Pacific/Apia": datetime(2011, 12, 30, 10, tzinfo=UTC),
    "UTC": datetime(2026, 2, 28, 23, tzinfo=UTC),
}
CHANNELS = ("sms", "email")
HELD = timedelta(hours=5)


@dataclass(frozen=True)
class Said:
    """One report of a random ledger. The contact's number decides its action, channel and group."""

    contact: int
    status: ContactStatus
    minutes: int

    @property
    def about(self) -> dict[str, Any]:
        return {
            "action_id": f"action-{self.contact % 2}",
            "channel": CHANNELS[self.contact % 3 % 2],
            "group": f"group-{self.contact % 4 // 2}",
        }


def happened(said: Said, edge: datetime) -> datetime:
    return edge + timedelta(minutes=said.minutes)


def moment_that_counts(reports: Sequence[Said], edge: datetime, now: datetime) -> datetime | None:
    """Returns when a contact counts, or ``None`` if it does not.

    Of reports with the same time a failure comes after a sending, and being seen comes last.
    """
    order = [ContactStatus.RESERVED, ContactStatus.SENT, ContactStatus.FAILED, ContactStatus.SEEN]
    ranked = {(happened(said, edge), order.index(said.status)) for said in reports}
    failures = [place for place in ranked if order[place[1]] is ContactStatus.FAILED]
    left = [place for place in ranked if not failures or place > max(failures)]
    arrived = [moment for moment, rank in left if order[rank] in (ContactStatus.SENT, ContactStatus.SEEN)]
    if arrived:
        return min(arrived)
    reserved = [moment for moment, rank in left if order[rank] is ContactStatus.RESERVED]
    return max(reserved) if reserved and now < max(reserved) + HELD else None


def expected_count(reports: list[Said], limit: ContactLimit, zone: str, edge: datetime, now: datetime) -> int:
    count = 0
    today = now.astimezone(ZoneInfo(zone)).date()
    wanted = {"action_id": limit.action_id, "channel": limit.channel, "group": limit.group}
    for number in {said.contact for said in reports}:
        own = [said for said in reports if said.contact == number]
        moment = moment_that_counts(own, edge, now)
        if moment is None or any(value not in (None, own[0].about[name]) for name, value in wanted.items()):
            continue
        if limit.period is LimitPeriod.CALENDAR:
            count += (today - moment.astimezone(ZoneInfo(zone)).date()).days < limit.days
        else:
            count += now - moment < timedelta(days=limit.days)
    return count


def read(ledger: Ledger, key: str, now: datetime) -> History:
    (history,) = ledger.read(SPACE, [[key]], now - timedelta(days=10))
    return history


def is_removed(policy: InsightPolicy, history: History, now: datetime, about: dict[str, str]) -> bool:
    fields: dict[str, Any] = {"priority": "low", "status": "active", "type": "offer", "description": "", "name": "A"}
    times = {"created_at": now, "updated_at": now}
    action = Action(id=about["action_id"], channel=about["channel"], group=about["group"], **fields, **times)
    return Engagement(policy, history, now, {}, CHANNELS).removal(action, ClientConditions({}, now)) is not None


NEAR_MIDNIGHT = [
    midnight - 1440 * day + shift for midnight, day, shift in product((-120, 0, -1380), range(4), (-60, -30, 0, 30, 59))
]
REPORTS = st.lists(
    st.builds(
        Said,
        contact=st.integers(0, 5),
        status=st.sampled_from(ContactStatus),
        # Many reports are near a local midnight, share a minute, or are exactly some days old.
        minutes=st.one_of(st.integers(-4000, 600), st.sampled_from(NEAR_MIDNIGHT)),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.row("LG-2", "LG-4")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reports=REPORTS,
    repeated=st.lists(st.integers(0, 11), max_size=4),
    zone=st.sampled_from(sorted(EDGES)),
    hours=st.integers(0, 30),
    days=st.integers(1, 3),
)
def test_limits_on_a_random_ledger_equal_an_independent_sum(
    table: Table, reports: list[Said], repeated: list[int], zone: str, hours: int, days: int
) -> None:
    ledger, key, edge = Ledger(table), new_id(), EDGES[zone]
    for said in (*reports, *(reports[number % len(reports)] for number in repeated)):
        moment = happened(said, edge)
        until = moment + HELD if said.status is ContactStatus.RESERVED else None
        ledger.record(SPACE, key, ReportedContact(f"c{said.contact}", Report(said.status, moment, until), **said.about))
    now = edge + timedelta(hours=hours)
    about, history = reports[0].about, read(ledger, key, now)
    for period, names in product(LimitPeriod, ([], ["channel"], ["action_id"], ["group"], ["channel", "group"])):
        scope: dict[str, Any] = {name: about[name] for name in names}
        limit = ContactLimit(contacts=0, days=days, period=period, **scope)
        made = expected_count(reports, limit, zone, edge, now)
        for contacts in (made, made + 1):
            policy = InsightPolicy(contact_limits=[limit.model_copy(update={"contacts": contacts})], time_zone=zone)
            assert is_removed(policy, history, now, about) == (contacts == made)


@pytest.mark.row("LG-4")
def test_exempt_contacts_do_not_count_and_exempt_offers_are_always_made(table: Table) -> None:
    ledger, key, now = Ledger(table), new_id(), EDGES["UTC"]
    sent = Report(ContactStatus.SENT, now - timedelta(hours=1))
    about: dict[str, Any] = {"action_id": "service", "channel": "E-Mail", "group": "legal"}
    ledger.record(SPACE, key, ReportedContact("c", sent, **about))
    limit = ContactLimit(contacts=1, days=7)
    other = {"action_id": "offer", "channel": "email", "group": "sales"}
    assert is_removed(InsightPolicy(contact_limits=[limit]), read(ledger, key, now), now, other)
    for exempt in ({"actions": ["service"]}, {"groups": ["legal"]}, {"channels": ["email"]}, {"actions": ["offer"]}):
        policy = InsightPolicy(contact_limits=[limit], exempt=ContactExemptions(**exempt))
        assert not is_removed(policy, read(ledger, key, now), now, other), exempt


@pytest.mark.row("LG-4")
@pytest.mark.parametrize(
    ("zone", "now", "days", "begin"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 12, tzinfo=UTC), 1, datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 3, 30, 12, tzinfo=UTC), 1, datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 3, 30, 12, tzinfo=UTC), 2, datetime(2026, 3, 28, 23, tzinfo=UTC)),
        # At midnight the clocks go to one.
        ("Africa/Cairo", datetime(2026, 4, 24, 12, tzinfo=UTC), 1, datetime(2026, 4, 23, 22, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(2026, 5, 1, 18, 29, tzinfo=UTC), 1, datetime(2026, 4, 30, 18, 30, tzinfo=UTC)),
    ],
)
def test_a_calendar_day_begins_at_local_midnight(zone: str, now: datetime, days: int, begin: datetime) -> None:
    assert begin_of(ContactLimit(contacts=1, days=days, period=LimitPeriod.CALENDAR), zone, now) == begin


@pytest.mark.row("LG-4")
@settings(max_examples=1500)
@given(
    zone=st.sampled_from(sorted(EDGES)),
    hours=st.integers(0, 60),
    days=st.integers(1, 3),
    minutes=st.one_of(st.integers(-5800, 3600), st.sampled_from(NEAR_MIDNIGHT)),
)
def test_calendar_days_are_local_dates_when_the_clocks_change(zone: str, hours: int, days: int, minutes: int) -> None:
    now, moment, there = EDGES[zone] + timedelta(hours=hours), EDGES[zone] + timedelta(minutes=minutes), ZoneInfo(zone)
    begin = begin_of(ContactLimit(contacts=1, days=days, period=LimitPeriod.CALENDAR), zone, now)
    between = now.astimezone(there).date() - moment.astimezone(there).date()
    assert (moment >= begin) == (between.days < days)
