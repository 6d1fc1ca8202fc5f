"""Erases a customer: what is stored about them, in tables, files, exports and logs.

The ledger is removed last, because it says where the rest is. So a request that ends early can be sent again.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from functions.clients.customers import Customer, Customers
from shared.arguments.store import Arguments
from shared.clock import Clock, new_id
from shared.connectors.storage import ConnectorStorage, ConnectorStorages
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Key, Table, TransactionFailedError, delete, repeat_on_conflict
from shared.errors import NotFoundError, UnavailableError
from shared.inference_logs.store import InferenceLogs
from shared.insights.ledger import Mention, contact_of, is_head, ledger_partition, mention_of, reaction_of
from shared.insights.store import ACTION_COLUMN, EXPORTS_FOLDER, TARGET, Insights
from shared.models.client_history import NAMED_OUTPUTS, ClientErasure
from shared.models.client_key import ClientName
from shared.models.connector import Connector
from shared.models.inference_log import CallType
from shared.models.persona import Persona
from shared.personas.store import Personas
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from functions.clients.run_traces import RunTraces

# A request ends after 29 seconds.
SECONDS = 20.0
# Exports end at 32 MB, after a row of up to 100 KB.
FILE_BYTES = 33 * 2**20
_TYPES = (CallType.INSIGHT, CallType.ARGUMENT)


class UnfinishedError(UnavailableError):
    """Error raised when the same request has to be sent again."""

    is_theirs = True


@dataclass
class Found:
    """What the ledgers say about a customer: each insight and argument with its places, and the other places.

    ``heads`` have the ledgers' versions, and say nothing.
    """

    places: list[Key] = field(default_factory=list)
    heads: list[Key] = field(default_factory=list)
    mentions: dict[str, tuple[Mention, list[Key]]] = field(default_factory=dict)
    contacts: int = 0
    reactions: int = 0


class Eraser:
    def __init__(
        self,
        table: Table,
        customers: Customers,
        insights: Insights,
        logs: InferenceLogs,
        storages: ConnectorStorages,
        runs: "RunTraces",
        s3: "S3Client",
        clock: Clock,
    ) -> None:
        self._table = table
        self._customers = customers
        self._insights = insights
        self._logs = logs
        self._storages = storages
        self._runs = runs
        self._s3 = s3
        self._clock = clock
        self._arguments = Arguments(table, clock)
        self._personas = Personas(table, clock)
        self._connectors = Repository(table, Connector, kind="connector", clock=clock)
        self._erasures = Repository(table, ClientErasure, kind="client_erasure", clock=clock)

    def erase(self, context: SpaceContext, text: str) -> ClientErasure:
        """Erases the customer with this key and returns what was erased, which the audit log keeps.

        Raises NotFoundError for an unknown customer, and UnavailableError if a repeated request is needed.
        """
        deadline = time.monotonic() + SECONDS
        customer, personas = self._with_personas(self._customers.named(context.space_id, text))
        # Before the ledgers are read, so that no run reserves a contact after that.
        is_in_runs = self._runs.leave_out(customer)
        found = self._found(customer)
        outputs = self._runs.outputs(customer.space_id, lambda: _require_time(deadline))
        if not (found.places or found.mentions or personas or is_in_runs or outputs):
            raise NotFoundError("Nothing is stored about a customer with this key in the space.")
        exports = self._erase_exports(customer, self._features(customer, found), deadline)
        texts, erased = 0, {"insight": 0, "argument": 0}
        for mention, places in found.mentions.values():
            _require_time(deadline)
            texts += self._erase_mention(context.space_id, mention)
            erased[mention.kind] += 1
            # A repeated request goes on with the rest.
            self._table.delete_all(places)
        self._erase_personas(context.space_id, personas)
        self._table.delete_all(found.places if is_in_runs else [*found.places, *found.heads])
        now = self._clock()
        return self._erasures.create(
            context.space_id,
            ClientErasure(
                id=new_id(),
                created_at=now,
                updated_at=now,
                arguments=erased["argument"],
                contacts=found.contacts,
                created_by=context.user_id,
                exports=exports,
                insights=erased["insight"],
                logged_texts=texts,
                has_more_outputs=len(outputs) > NAMED_OUTPUTS,
                outputs=outputs[:NAMED_OUTPUTS],
                personas=len(personas),
                reactions=found.reactions,
            ),
        )

    def _with_personas(self, customer: Customer) -> tuple[Customer, list[Persona]]:
        """Returns the customer's personas, and the customer with the keys that their ids are."""
        items = self._table.query(self._personas.repository.key(customer.space_id, "").pk)
        named = [each for each in map(self._personas.repository.load, items) if customer.is_described_by(each)]
        keys = [key for each in named for key in (each.id, ClientName("persona", each.id).digest)]
        return replace(customer, digests=tuple(dict.fromkeys([*customer.digests, *keys]))), named

    def _found(self, customer: Customer) -> Found:
        found = Found()
        for digest, item in self._customers.items(customer):
            place = Key(ledger_partition(customer.space_id, digest), item["SK"])
            mention, reaction = mention_of(item), reaction_of(item)
            if is_head(item):
                found.heads.append(place)
            elif mention is None:
                found.places.append(place)
            elif mention.entity_id in found.mentions:
                found.mentions[mention.entity_id] = (mention, [*found.mentions[mention.entity_id][1], place])
            else:
                found.mentions[mention.entity_id] = (mention, [place])
            found.contacts += contact_of(item) is not None
            if reaction is not None:
                found.reactions += 1
                # Insights of the time before there was a ledger are known by their reactions only.
                insight_id = self._insights.reacted(customer.space_id, reaction.contact_id)
                if insight_id is not None:
                    found.mentions.setdefault(insight_id, (Mention("insight", insight_id), []))
        return found

    def _erase_personas(self, space_id: str, personas: Sequence[Persona]) -> None:
        for persona in personas:
            with suppress(NotFoundError):  # somebody deleted it before
                self._personas.delete(space_id, persona.id, None)
        if personas:
            ids = {persona.id for persona in personas}
            records = self._table.query(f"persona#{space_id}#idempotency")
            self._table.delete_all([Key(each["PK"], each["SK"]) for each in records if each["entity"]["id"] in ids])

    def _features(self, customer: Customer, found: Found) -> list[dict[str, Any]]:
        """Returns the features of the insights with a reaction, because exports hold them."""
        ids = [each.entity_id for each, _ in found.mentions.values() if each.kind == "insight"]
        stored = (self._insights.stored(customer.space_id, insight_id) for insight_id in ids)
        return [
            self._insights.features(each)
            for each in stored
            if each and each.reaction is not None and not each.erased_at
        ]

    def _erase_exports(self, customer: Customer, features: Sequence[dict[str, Any]], deadline: float) -> int:
        """Removes the customer's rows from the files of exported reactions, with all earlier versions of the files."""
        changed = 0
        items = self._table.query(self._connectors.key(customer.space_id, "").pk)
        for connector in filter(lambda each: each.is_managed, map(self._connectors.load, items)):
            storage = self._storages.open(customer.space_id, connector)
            for version in storage.files(EXPORTS_FOLDER):
                _require_time(deadline)
                if version.size_bytes > FILE_BYTES:
                    continue  # no export is as large, so somebody uploaded it
                lines = storage.beginning(version, version.size_bytes).splitlines(keepends=True)
                kept = [line for line in lines if not _is_about(line, customer, features)]
                if len(kept) < len(lines):
                    self._replace(storage, version.file, kept)
                    changed += 1
        return changed

    def _replace(self, storage: ConnectorStorage, file: str, lines: Sequence[bytes]) -> None:
        if lines:
            storage.write(file, b"".join(lines))
        else:
            storage.delete(file)
        self._erase_versions(storage.bucket, storage.key(file), keeps_latest=bool(lines))

    def _erase_versions(self, bucket: str, prefix: str, *, keeps_latest: bool) -> None:
        for page in self._s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            old = [
                {"Key": each["Key"], "VersionId": each["VersionId"]}
                for each in found
                if not (keeps_latest and each["IsLatest"])
            ]
            if old:
                answer = self._s3.delete_objects(Bucket=bucket, Delete={"Objects": old, "Quiet": True})  # type: ignore[typeddict-item]
                if answer.get("Errors"):
                    raise UnavailableError(f"Some files could not be erased: {answer['Errors'][0].get('Message')}")

    def _erase_mention(self, space_id: str, mention: Mention) -> int:
        """Erases an insight or an argument, and returns the number of its logged texts."""
        if mention.kind == "insight":
            repeat_on_conflict(
                lambda: self._erase_insight(space_id, mention),
                "The insights of this customer change too often now.",
                (TransactionFailedError,),
            )
        else:
            self._erase_argument(space_id, mention)
        return self._logs.forget_texts(space_id, mention.correlation_id, _TYPES) if mention.correlation_id else 0

    def _erase_insight(self, space_id: str, mention: Mention) -> None:
        stored = self._insights.stored(space_id, mention.entity_id)
        if stored is None or stored.erased_at is not None:
            return
        if "object_key" in stored.answer or "object_key" in stored.features:
            prefix = f"spaces/{space_id}/insights/{stored.id}/"
            self._erase_versions(self._storages.bucket, prefix, keeps_latest=False)
        self._insights.erase(space_id, stored, mention.idempotency)

    def _erase_argument(self, space_id: str, mention: Mention) -> None:
        with suppress(NotFoundError):  # somebody deleted it before
            self._arguments.delete(space_id, mention.entity_id, None)
        if mention.idempotency is not None:
            self._table.write(delete(Key(f"argument#{space_id}#idempotency", mention.idempotency)))


def _is_about(line: bytes, customer: Customer, features: Sequence[dict[str, Any]]) -> bool:
    """Returns whether a line of an export is about the customer. Lines of other files are not."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(row, dict):
        return False
    own = {name: value for name, value in row.items() if name not in (TARGET, ACTION_COLUMN)}
    names = [rule.name_of(own) for rule in customer.policy.client_keys]
    return own in features or any(name is not None and name.digest in customer.digests for name in names[:1])


def _require_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise UnfinishedError(
            "There is more about this customer than one request can erase. Send the same request again.",
            headers={"Retry-After": "1"},
        )
