"""Restores a table of any time in the last 35 days into a new table.

DynamoDB restores items, keys and indexes. This module enables the stream, the expiry of items, backups and deletion
protection of the new table. The stage uses the old table until it is deployed with the new one.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import boto3

# For each table: the output of the data stack with its name, and the setting that replaces it.
TABLES = {"entities": ("TableName", "restored_entities"), "logs": ("LogsTableName", "restored_logs")}
EXPIRY = "expires_at"
SEGMENTS = 8
POLL_SECONDS = 10


@dataclass(frozen=True)
class Restored:
    """Restored table. The stage is deployed with its stream."""

    source: str
    name: str
    stream_arn: str


def table_of(session: boto3.Session, stage: str, table: str) -> str:
    """Returns the name of the stage's own table ``entities`` or ``logs``."""
    output, _ = TABLES[table]
    [stack] = session.client("cloudformation").describe_stacks(StackName=f"inference-{stage}-data")["Stacks"]
    return next(one["OutputValue"] for one in stack["Outputs"] if one["OutputKey"] == output)


def restore(
    session: boto3.Session,
    source: str,
    target: str,
    at: datetime | None,
    *,
    report: Callable[[str], None] = print,
    poll_seconds: float = POLL_SECONDS,
) -> Restored:
    """Restores ``source`` of the time ``at`` (default: the latest possible) into the new table ``target`` and waits."""
    dynamodb = session.client("dynamodb")
    moment: dict[str, Any] = {"RestoreDateTime": at} if at else {"UseLatestRestorableTime": True}
    dynamodb.restore_table_to_point_in_time(SourceTableName=source, TargetTableName=target, **moment)
    started = time.monotonic()

    def wait() -> Any:
        while (table := dynamodb.describe_table(TableName=target)["Table"])["TableStatus"] != "ACTIVE":
            report(f"{target}: {table['TableStatus'].lower()} for {time.monotonic() - started:.0f} s")
            time.sleep(poll_seconds)
        return table

    wait()
    stream = dynamodb.describe_table(TableName=source)["Table"]["StreamSpecification"]
    dynamodb.update_table(TableName=target, StreamSpecification=stream)
    wait()
    dynamodb.update_table(TableName=target, DeletionProtectionEnabled=True)
    table = wait()
    dynamodb.update_time_to_live(TableName=target, TimeToLiveSpecification={"AttributeName": EXPIRY, "Enabled": True})
    dynamodb.update_continuous_backups(
        TableName=target, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    return Restored(source, target, table["LatestStreamArn"])


def recount(session: boto3.Session, table: str) -> Counter[str]:
    """Reads every item of a table and returns how many there are of each kind."""
    dynamodb = session.client("dynamodb")

    def kinds(segment: int) -> Iterator[str]:
        pages = dynamodb.get_paginator("scan").paginate(
            TableName=table,
            Segment=segment,
            TotalSegments=SEGMENTS,
            ProjectionExpression="PK",
            ConsistentRead=True,
        )
        return (item["PK"]["S"].partition("#")[0] for page in pages for item in page["Items"])

    with ThreadPoolExecutor(SEGMENTS) as pool:
        return sum(pool.map(lambda segment: Counter(kinds(segment)), range(SEGMENTS)), Counter())


def compared(now: Mapping[str, int], then: Mapping[str, int]) -> Iterator[str]:
    """Yields a line for each kind with the counts of the table in use and of the restored table."""
    yield f"{'kind':24} {'in use':>10} {'restored':>10} {'difference':>10}"
    for kind in (*sorted({*now, *then}), None):
        held, found = (sum(each.values()) if kind is None else each.get(kind, 0) for each in (now, then))
        yield f"{kind or 'all':24} {held:10} {found:10} {found - held:+10}"
