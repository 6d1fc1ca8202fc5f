"""Stores the ledger: the contacts with each customer and the reactions, by the time at which they happened.

All items of a customer are in one partition, ``insight_contact#<space>#<key>``:

- ``<time>#c#<contact>`` and ``<time>#r#<contact>``: a contact and a reaction in the order of time, for limits and
  suppression. A contact that is reported again moves.
- ``~contact#<contact>``: what was reported about a contact. Its place in time follows from that alone, so reports may
  arrive in any order and several times.
- ``~insight#<insight>`` and ``~argument#<argument>``: what was made for the customer, for the history and the erasure.
- ``~arm#<experiment>``: the customer's arm in an experiment (see ``exposures``).
- ``~withheld#<insight>``: an offer that a run withheld (see ``run_offers``).
- ``~ledger``: the version of the ledger. Each write raises it, so that a reservation fails if another was faster.
  So does the erasure of the customer while runs have decisions about them; it expires then.
- ``<id of a reaction>``: reactions of the time before there was a ledger. The migration gave their ledgers a version.

``insight_contact#<space>#~released``, ``<hold>`` ends all reservations under a hold, such as those of a run, by one
write.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.dynamodb.table import (
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    delete,
    put,
    repeat_on_conflict,
    update,
)
from shared.dynamodb.time_ordered_ids import id_prefix, milliseconds
from shared.errors import ConflictError, ContendedError, ValidationFailedError
from shared.models.action import channel_key
from shared.models.base import format_timestamp, parse_timestamp
from shared.models.contact import Contact, ContactStatus
from shared.models.insight import Reaction

# Clocks of clients may be ahead.
_CLOCKS_DIFFER = timedelta(minutes=5)
# The most that is reported about one contact.
REPORTS_LIMIT = 100
_BUSY = "Too many requests change the contacts of the same customer now."
# Of two reports with the same time, the later one here decides.
_ORDER = (ContactStatus.RESERVED, ContactStatus.SENT, ContactStatus.FAILED, ContactStatus.SEEN)
_LEDGERS, _HEAD = "insight_contact#", "~ledger"
_CONTACT = "~contact#"
_INSIGHT, _ARGUMENT = "~insight", "~argument"
# Reports of one contact agree on these.
_FIXED = ("action_id", "channel")
_NEXT = {"version": 1}


class LedgerChangedError(ContendedError):
    """Error raised when the ledger of a customer changed after it was read."""


@dataclass(frozen=True)
class Report:
    """What happened to a contact at a time."""

    status: ContactStatus
    occurred_at: datetime
    reserved_until: datetime | None = None


@dataclass(frozen=True)
class ReportedContact:
    """A report with what it is about. The ``default_channel`` holds if no report and no reaction names another.

    A reservation under a ``hold`` ends when the hold is released. The ``offer`` of a run is kept as it is.
    """

    contact_id: str
    report: Report
    action_id: str | None = None
    channel: str | None = None
    default_channel: str | None = None
    group: str | None = None
    hold: str | None = None
    offer: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ReportedReaction:
    """A customer's reaction to an action, with the channel on which the offer was made."""

    action_id: str
    reaction: Reaction
    occurred_at: datetime
    channel: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class PastReaction:
    contact_id: str
    action_id: str
    reaction: Reaction
    occurred_at: datetime


@dataclass(frozen=True)
class Mention:
    """An insight or an argument about the customer, with what finds its logged texts and its idempotency record."""

    kind: str
    entity_id: str
    correlation_id: str | None = None
    idempotency: str | None = None

    def write(self, space_id: str, client_key: str) -> Write:
        """Returns the write that stores it."""
        key = Key(ledger_partition(space_id, client_key), f"~{self.kind}#{self.entity_id}")
        return put(key, {"correlation_id": self.correlation_id, "idempotency": self.idempotency})


@dataclass(frozen=True)
class History:
    """The contacts and reactions of a customer in a period, and the version of the ledger before they were read."""

    version: int = 0
    contacts: list[Contact] = field(default_factory=list)
    reactions: list[PastReaction] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.contacts and not self.reactions

    def since(self, moment: datetime) -> bool:
        """Returns whether something has happened since a moment."""
        times = [each.occurred_at for each in self.contacts] + [each.occurred_at for each in self.reactions]
        return any(moment <= each for each in times)


def state_of(reports: Iterable[Report]) -> Report:
    """Returns the state of a contact: its status, and the time by which limits count it.

    The state depends on the reports only, not on the order in which they arrive. A message that was sent keeps the
    time of its sending when it is seen.
    """
    state: Report | None = None
    for report in sorted(reports, key=lambda each: (each.occurred_at, _ORDER.index(each.status))):
        arrived = state is not None and state.status in (ContactStatus.SENT, ContactStatus.SEEN)
        if report.status is ContactStatus.FAILED or not arrived:
            state = report
        elif state is not None and report.status is ContactStatus.SEEN:
            state = Report(report.status, state.occurred_at)
    if state is None:
        raise ValueError("there is no report")
    return state


def require_past(occurred_at: datetime, now: datetime) -> None:
    """Raises ValidationFailedError for what has not happened yet."""
    if occurred_at > now + _CLOCKS_DIFFER:
        raise ValidationFailedError.of("body.occurred_at", "lies in the future: report what has happened")


class Ledger:
    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, space_id: str, customers: Sequence[Sequence[str]], since: datetime) -> list[History]:
        """Returns what happened to each customer since this time, under any of the customer's keys.

        The version is the one of the first key. A ledger without a version is empty, so it is not read.
        """
        heads = {key: _head(space_id, key) for keys in customers for key in keys}
        found = self._table.get_many(list(heads.values()))
        versions = {key: int(found[head]["version"]) for key, head in heads.items() if head in found}
        histories = [self._history(space_id, keys, versions, since) for keys in customers]
        contacts = [contact for each in histories for contact in each.contacts]
        ended = releases(self._table, space_id, {each.hold for each in contacts if each.hold})
        for history in histories if ended else ():
            history.contacts[:] = [
                each for each in history.contacts if each.status is not ContactStatus.RESERVED or each.hold not in ended
            ]
        return histories

    def _history(self, space_id: str, keys: Sequence[str], versions: Mapping[str, int], since: datetime) -> History:
        history = History(versions.get(keys[0], 0))
        period = KeyCondition("SK").between(id_prefix(milliseconds(since)), "~")
        for key in keys:
            if key not in versions:
                continue
            for item in self._table.query(ledger_partition(space_id, key), condition=period):
                contact, reaction = contact_of(item), reaction_of(item)
                if contact is not None and contact.occurred_at >= since:
                    history.contacts.append(contact)
                if reaction is not None and reaction.occurred_at >= since:
                    history.reactions.append(reaction)
        return history

    def record(self, space_id: str, client_key: str, reported: ReportedContact) -> Contact:
        """Stores a report and returns the contact as it is then. A repeated report changes nothing.

        Raises ConflictError for a contact with another action or channel, and for too many reports.
        """

        def step() -> Contact:
            key = contact_key(space_id, client_key, reported.contact_id)
            before = self._table.get(key)
            after = _with_report(before or {}, reported)
            if after != before:
                self._table.transact([*_change(key, before, after), _next(space_id, client_key)])
            return _contact(reported.contact_id, after)

        return repeat_on_conflict(step, _BUSY, (TransactionFailedError,))

    def reservation(self, space_id: str, client_key: str, reported: ReportedContact, version: int) -> list[Write]:
        """Returns the writes of a new contact. They raise LedgerChangedError if this is not the ledger's version."""
        key = contact_key(space_id, client_key, reported.contact_id)
        unchanged = Attr("version").eq(version) if version else Attr("PK").not_exists()
        changed = LedgerChangedError(f"{_BUSY} Try again in a moment.", headers={"Retry-After": "1"})
        head = replace(_next(space_id, client_key, unchanged), error=changed)
        return [head, *_change(key, None, _with_report({}, reported))]

    def reaction(self, space_id: str, client_key: str, contact_id: str, reaction: ReportedReaction) -> list[Write]:
        """Returns the writes that store a reaction, or replace it. They fail if another request was faster."""
        key = contact_key(space_id, client_key, contact_id)
        before = self._table.get(key)
        stored = {**vars(reaction), "occurred_at": format_timestamp(reaction.occurred_at)}
        kept = {name: value for name, value in stored.items() if value is not None and name != "group"}
        after = {"group": reaction.group, **(before or {}), "action_id": reaction.action_id, "reaction": kept}
        return [*_change(key, before, after), _next(space_id, client_key)]

    def refuse_earlier_decisions(self, space_id: str, client_key: str, until: datetime) -> None:
        """Lets reservations by decisions of before fail, because the customer is erased. An empty ledger expires."""
        self._table.write(update(_head(space_id, client_key), {"expires_at": int(until.timestamp())}, add=_NEXT))


def ledger_partition(space_id: str, client_key: str) -> str:
    return f"{_LEDGERS}{space_id}#{client_key}"


def _head(space_id: str, client_key: str) -> Key:
    return Key(ledger_partition(space_id, client_key), _HEAD)


def is_head(item: Item) -> bool:
    """Returns whether an item of a ledger is its version, which says nothing about the customer."""
    return bool(item["SK"] == _HEAD)


def _next(space_id: str, client_key: str, condition: ConditionBase | None = None) -> Write:
    """Returns the write that raises the version of a ledger, which has something to keep from then on."""
    return update(_head(space_id, client_key), {"expires_at": None}, add=_NEXT, condition=condition)


def released(space_id: str, hold: str, now: datetime) -> Write:
    """Returns the write that ends all reservations under a hold: no limit counts them. What was sent still counts."""
    return put(_release(space_id, hold), {"released_at": now})


def releases(table: Table, space_id: str, holds: Collection[str]) -> dict[str, datetime]:
    """Returns when each of the holds was released, if it was."""
    found = table.get_many([_release(space_id, hold) for hold in sorted(holds)])
    return {key.sk: parse_timestamp(item["released_at"]) for key, item in found.items()}


def _release(space_id: str, hold: str) -> Key:
    # No digest of a customer is such a text.
    return Key(ledger_partition(space_id, "~released"), hold)


def contact_key(space_id: str, client_key: str, contact_id: str) -> Key:
    return Key(ledger_partition(space_id, client_key), f"{_CONTACT}{contact_id}")


def _with_report(item: Item, reported: ReportedContact) -> Item:
    """Returns the contact's item with one more report."""
    after = dict(item)
    for name in ("action_id", "channel", "default_channel", "group", "hold", "offer"):
        value, known = getattr(reported, name), item.get(name)
        if value is None:
            continue
        if known is None:
            after[name] = value
        elif name in _FIXED and not _is_same(name, known, value):
            raise ConflictError(f"This contact has another {name}: {known}. Send a new contact_id for another contact.")
    reports, report = item.get("reports", []), _stored(reported.report)
    if not any(each["status"] == report["status"] and each["occurred_at"] == report["occurred_at"] for each in reports):
        if len(reports) == REPORTS_LIMIT:
            raise ConflictError(f"This contact has {REPORTS_LIMIT} reports. Send a new contact_id for another contact.")
        after["reports"] = [*reports, report]
    return after


def _is_same(name: str, known: str, value: str) -> bool:
    return channel_key(known) == channel_key(value) if name == "channel" else known == value


def _stored(report: Report) -> Item:
    until = report.reserved_until
    return {
        "status": report.status.value,
        "occurred_at": format_timestamp(report.occurred_at),
        **({"reserved_until": format_timestamp(until)} if until else {}),
    }


def _report(stored: Item) -> Report:
    until = stored.get("reserved_until")
    moment = parse_timestamp(stored["occurred_at"])
    return Report(ContactStatus(stored["status"]), moment, parse_timestamp(until) if until else None)


def _change(key: Key, before: Item | None, after: Item) -> list[Write]:
    """Returns the writes that replace a contact's item and its places in time, if nobody else has changed it."""
    contact_id = key.sk.removeprefix(_CONTACT)
    old, new = _places(contact_id, before) if before else {}, _places(contact_id, after)
    version = before["version"] if before else 0
    unchanged = Attr("version").eq(version) if before else Attr("PK").not_exists()
    return [
        put(key, {**after, "version": version + 1}, unchanged),
        *(put(Key(key.pk, place), values) for place, values in new.items()),
        *(delete(Key(key.pk, place)) for place in old.keys() - new.keys()),
    ]


def _places(contact_id: str, item: Item) -> dict[str, Item]:
    """Returns the items in the order of time that follow from a contact's item."""
    contact, reaction = _contact(contact_id, item), item.get("reaction")
    values = {name: getattr(contact, name) for name in Contact.model_fields}
    places = {_place(contact.occurred_at, "c", contact_id): values}
    if reaction is not None:
        places[_place(parse_timestamp(reaction["occurred_at"]), "r", contact_id)] = reaction
    return places


def _place(moment: datetime, kind: str, contact_id: str) -> str:
    return f"{id_prefix(milliseconds(moment))}#{kind}#{contact_id}"


def _contact(contact_id: str, item: Item) -> Contact:
    reports = [_report(each) for each in item.get("reports", [])]
    channel, reaction = item.get("channel") or item.get("default_channel"), item.get("reaction")
    if reaction is not None:
        # A customer who reacted has seen the message. To one who ignored it, it was at least sent.
        ignored = reaction["reaction"] == Reaction.IGNORED
        status = ContactStatus.SENT if ignored else ContactStatus.SEEN
        reports.append(Report(status, parse_timestamp(reaction["occurred_at"])))
        channel = reaction.get("channel") or channel
    state = state_of(reports)
    return Contact(
        contact_id=contact_id,
        action_id=item.get("action_id"),
        channel=channel,
        group=item.get("group"),
        hold=item.get("hold"),
        occurred_at=state.occurred_at,
        reserved_until=state.reserved_until,
        status=state.status,
    )


def is_reserved(contact_id: str, item: Item) -> bool:
    """Returns whether nothing but its reservation was reported about a contact."""
    return _contact(contact_id, item).status is ContactStatus.RESERVED


def contact_of(item: Item) -> Contact | None:
    """Returns the contact of an item in the order of time, if it is one."""
    if _is_of_earlier_days(item):
        # A reaction of the time before there was a ledger is a contact, too.
        seen = {"contact_id": item["SK"], "occurred_at": item["created_at"], "status": ContactStatus.SEEN}
        return Contact.model_validate({**item, **seen})
    return Contact.model_validate(item) if "#c#" in item["SK"] and not item["SK"].startswith("~") else None


def reaction_of(item: Item) -> PastReaction | None:
    """Returns the reaction of an item in the order of time, if it is one."""
    place, _, contact_id = item["SK"].partition("#r#")
    if place.startswith("~") or not (contact_id or _is_of_earlier_days(item)):
        return None
    moment = parse_timestamp(item.get("occurred_at") or item["created_at"])
    return PastReaction(contact_id or item["SK"], item["action_id"], Reaction(item["reaction"]), moment)


def mention_of(item: Item) -> Mention | None:
    """Returns the mention of an insight or argument in an item, if it is one."""
    kind, _, entity_id = item["SK"].partition("#")
    if kind not in (_INSIGHT, _ARGUMENT):
        return None
    return Mention(kind.removeprefix("~"), entity_id, item.get("correlation_id"), item.get("idempotency"))


def missing_head(item: Item) -> Write | None:
    """Returns the write of the version of a ledger from the time before there was one, for one of its reactions."""
    if not item["PK"].startswith(_LEDGERS) or not _is_of_earlier_days(item):
        return None
    return put(Key(item["PK"], _HEAD), {"version": 1}, Attr("PK").not_exists())


def _is_of_earlier_days(item: Item) -> bool:
    return "#" not in item["SK"] and "created_at" in item
