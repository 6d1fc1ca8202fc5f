"""Brings every item of the tables to the newest version, and adds what later releases expect beside old items.

``python -m functions.migration [--dry-run] TABLE…``; operators run it as ``python -m infra.operations migrate``.
It exits with 1 if the tables hold what this release cannot read: then this release must not be deployed to them.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import boto3
from botocore.exceptions import ClientError

from shared.audit.store import missing_entries
from shared.dynamodb.codec import decode_item, encode
from shared.dynamodb.schemas import SCHEMA_VERSION, SCHEMAS, Upgrades, kind_of, newest, upgraded, version_of
from shared.dynamodb.table import ConditionFailedError, Item, Table, TransactionFailedError
from shared.insights.ledger import missing_head
from shared.webhooks.deliveries import missing_place


class Migration:
    """Counts what it finds by ``(kind, version)``: what it changed (or would), and what it cannot read."""

    def __init__(self, client: Any, schemas: Upgrades = SCHEMAS) -> None:
        self._client = client
        self._schemas = schemas
        self.current: Counter[str] = Counter()
        self.older: Counter[tuple[str, int]] = Counter()
        self.unreadable: Counter[tuple[str, int]] = Counter()
        self.heads = 0
        # Somebody wrote them during the run, so that they may still be old.
        self.busy = 0

    def run(self, table: str, *, dry_run: bool) -> None:
        """Reads the whole table, and writes its old items unless it only looks."""
        for item in self._items(table):
            kind, version = kind_of(item), version_of(item)
            if kind not in self._schemas or version > newest(kind, self._schemas):
                self.unreadable[kind, version] += 1
            elif version == newest(kind, self._schemas):
                self.current[kind] += 1
            else:
                self.older[kind, version] += 1
                if not dry_run and self._list(table, item):
                    self._migrate(table, item)
            self._complete(table, item, dry_run=dry_run)

    def _list(self, table: str, item: Item) -> bool:
        """Gives an old item its entries in lists that did not exist. Returns whether it is as it was read."""
        writes = [*missing_place(item), *missing_entries(item)]
        try:
            if writes:
                Table(self._client, table).transact(writes)
        except TransactionFailedError:
            self.busy += 1
            return False
        return True

    def _complete(self, table: str, item: Item, *, dry_run: bool) -> None:
        """Gives the ledger of an old reaction its version, without which nobody reads the ledger."""
        head = missing_head(item)
        if head is None or dry_run:
            return
        with suppress(ConditionFailedError):
            Table(self._client, table).write(head)
            self.heads += 1

    def _items(self, table: str) -> Iterator[Item]:
        for page in self._client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
            yield from map(decode_item, page["Items"])

    def _migrate(self, table: str, old: Item) -> None:
        """Changes only the attributes that differ, and only while they are as they were read."""
        new = {**upgraded(old, self._schemas), SCHEMA_VERSION: newest(kind_of(old), self._schemas)}
        changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        names = {f"#n{position}": name for position, name in enumerate(changed)}
        values: dict[str, Any] = {}
        sets, removes, unchanged = [], [], []
        for mark, name in names.items():
            if name in new:
                values[f":new{mark[2:]}"] = encode(new[name])
                sets.append(f"{mark} = :new{mark[2:]}")
            else:
                removes.append(mark)
            if name in old:
                values[f":old{mark[2:]}"] = encode(old[name])
                unchanged.append(f"{mark} = :old{mark[2:]}")
            else:
                unchanged.append(f"attribute_not_exists({mark})")
        parts = [f"SET {', '.join(sets)}", *([f"REMOVE {', '.join(removes)}"] if removes else [])]
        try:
            self._client.update_item(
                TableName=table,
                Key={name: encode(old[name]) for name in ("PK", "SK")},
                UpdateExpression=" ".join(parts),
                # An item that was deleted during the run stays so.
                ConditionExpression=" AND ".join(["attribute_exists(PK)", *unchanged]),
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            self.busy += 1

    def lines(self, *, dry_run: bool) -> Iterator[str]:
        """Yields what an operator reads."""
        yield f"{self.current.total()} items have the newest version"
        for (kind, version), count in sorted(self.older.items()):
            verb = "would become" if dry_run else "became"
            yield f"{count} of kind {kind}, version {version}, {verb} version {newest(kind, self._schemas)}"
        if self.heads:
            yield f"{self.heads} ledgers of earlier days got a version"
        if self.busy:
            yield f"{self.busy} of these were written during the run: repeat the command"
        for (kind, version), count in sorted(self.unreadable.items()):
            yield f"{count} of kind {kind}, version {version}, cannot be read: a newer release wrote them"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("tables", nargs="+")
    options = parser.parse_args(arguments)
    migration = Migration(boto3.client("dynamodb"))
    for table in options.tables:
        migration.run(table, dry_run=options.dry_run)
    for line in migration.lines(dry_run=options.dry_run):
        sys.stdout.write(f"{line}\n")
    return 1 if migration.unreadable or migration.busy else 0


if __name__ == "__main__":
    raise SystemExit(main())
