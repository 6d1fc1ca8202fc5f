"""What decision runs offered to customers or withheld from them, kept in the customers' ledgers.

A run stores no insights. The first reaction to an offer makes one of what is here (``POST /insights/{id}/reactions``).

- ``~contact#<insight>``: the contact that the run reserved has the offer, in ``offer``.
- ``~withheld#<insight>``: what the run withheld from a customer of the control arm, who has no contact.
"""

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from shared.dynamodb.table import Item, Key, Table
from shared.errors import ConflictError
from shared.insights.ledger import contact_key, is_reserved, ledger_partition, releases
from shared.models.base import Model

_OFFER = "offer"


class RunOffer(Model):
    """An offer of a run. ``band`` is the score band of its propensity, or ``None`` without a model."""

    run_id: str
    action_id: str
    is_withheld: bool = False
    channel: str | None = None
    group: str | None = None
    band: int | None = None
    checkpoint_id: str | None = None
    arm: str | None = None
    experiment_id: str | None = None

    @property
    def stored(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


def insight_id_of(run_id: str, customer: bytes) -> str:
    """Returns the id of a run's decision about a customer, and of its contact. A repeated step makes the same one.

    As other ids it begins with its time: that of the run.
    """
    digest = hashlib.sha256(run_id.encode() + customer).digest()
    return str(UUID(bytes=UUID(run_id).bytes[:7] + digest[:1] + bytes([0x80 | digest[8] & 0x3F]) + digest[1:8]))


def withheld_item(space_id: str, client_key: str, insight_id: str, offer: RunOffer) -> Item:
    """Returns the item of a withheld offer."""
    key = _withheld_key(space_id, client_key, insight_id)
    return {"PK": key.pk, "SK": key.sk, _OFFER: offer.stored}


def find_offer(table: Table, space_id: str, client_keys: Sequence[str], insight_id: str) -> tuple[str, RunOffer] | None:
    """Returns the offer of a run to a customer, with the key of the customer's ledger, if there is one.

    Raises ConflictError for an offer that was never to be sent, because its run failed or was stopped or cancelled.
    """
    keys = {
        place(space_id, client_key, insight_id): client_key
        for client_key in client_keys
        for place in (contact_key, _withheld_key)
    }
    found = {key: item for key, item in table.get_many(list(keys)).items() if _OFFER in item}
    if not found:
        return None
    key, item = next(iter(found.items()))
    offer = RunOffer.model_validate(item[_OFFER])
    is_unsent = offer.is_withheld or is_reserved(insight_id, item)
    if is_unsent and releases(table, space_id, [offer.run_id]):
        raise ConflictError("The run of this offer was cancelled, failed or was stopped, before the offer was sent.")
    return keys[key], offer


def _withheld_key(space_id: str, client_key: str, insight_id: str) -> Key:
    return Key(ledger_partition(space_id, client_key), f"~withheld#{insight_id}")
