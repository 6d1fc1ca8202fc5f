"""Finds what is stored about one customer."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.dynamodb.repository import is_identifier
from shared.dynamodb.table import Item, Table
from shared.dynamodb.time_ordered_ids import made_at
from shared.errors import ValidationFailedError
from shared.insights.ledger import contact_of, ledger_partition, mention_of, reaction_of, releases
from shared.insights.store import InsightPolicies
from shared.models.client_history import ClientEvent, ClientEventKind
from shared.models.client_key import ClientName, digest_of
from shared.models.contact import ContactStatus
from shared.models.insight import InsightPolicy
from shared.models.persona import Persona


@dataclass(frozen=True)
class Customer:
    """A customer with the keys under which data may be stored, the current key first."""

    space_id: str
    key: str
    digests: tuple[str, ...]
    policy: InsightPolicy

    def is_described_by(self, persona: Persona) -> bool:
        names = [rule.name_of(persona.data or {}) for rule in self.policy.client_keys]
        if names[0] is None:
            return persona.id == self.key
        return any(name is not None and name.digest in self.digests for name in names)


class Customers:
    def __init__(self, table: Table, policies: InsightPolicies) -> None:
        self._table = table
        self._policies = policies

    def named(self, space_id: str, text: str) -> Customer:
        """Returns the customer with this key in any spelling. Raises ValidationFailedError for a text without a key."""
        policy = self._policies.get(space_id)
        keys = [rule.key_of(text) for rule in policy.client_keys]
        if not keys[0]:
            raise ValidationFailedError.of("path.key", "names nobody, as the policy's client_key compares keys")
        digests = [ClientName("client_key", key).digest for key in keys if key]
        # The keys of the time before policies had a rule.
        former = [digest_of("object", text), digest_of("object", keys[0]), *([text] if is_identifier(text) else [])]
        return Customer(space_id, keys[0], tuple(dict.fromkeys([*digests, *former])), policy)

    def items(self, customer: Customer) -> Iterator[tuple[str, Item]]:
        """Yields the items of the ledgers, each with its client key."""
        for digest in customer.digests:
            for item in self._table.query(ledger_partition(customer.space_id, digest)):
                yield digest, item

    def with_releases(self, customer: Customer, events: list[ClientEvent]) -> list[ClientEvent]:
        """Returns the events, and when reservations of runs ended."""
        found = releases(self._table, customer.space_id, {each.hold for each in events if each.hold})
        return [each.model_copy(update={"released_at": found.get(each.hold or "")}) for each in events]


def events_of(item: Item) -> Iterator[ClientEvent]:
    """Yields what an item of a ledger says about the customer."""
    contact, reaction, mention = contact_of(item), reaction_of(item), mention_of(item)
    if contact is not None:
        yield ClientEvent(
            kind=ClientEventKind.CONTACT,
            id=contact.contact_id,
            occurred_at=contact.occurred_at,
            action_id=contact.action_id,
            channel=contact.channel,
            hold=contact.hold if contact.status is ContactStatus.RESERVED else None,
            reserved_until=contact.reserved_until,
            status=contact.status,
        )
    if reaction is not None:
        yield ClientEvent(
            kind=ClientEventKind.REACTION,
            id=reaction.contact_id,
            occurred_at=reaction.occurred_at,
            action_id=reaction.action_id,
            reaction=reaction.reaction,
        )
    if mention is not None:
        yield ClientEvent(
            kind=ClientEventKind(mention.kind), id=mention.entity_id, occurred_at=made_at(mention.entity_id)
        )
