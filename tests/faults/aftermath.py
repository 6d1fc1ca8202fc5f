"""Lets the platform finish its work after faults, and checks the stored data."""

import copy
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import boto3

from functions.events.reconcile_jobs import ReconciliationError, clean_up, move_memberships, reconcile_jobs
from functions.events.roll_up_inference_logs import roll_up_inference_logs
from shared.dynamodb.cleanup_list import GRACE
from shared.dynamodb.codec import encode_item
from shared.resources import Resources
from tests.faults.boundary import DEATHS, KILLS, killed_early
from tests.faults.consistency import find_problems
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.external_services import WebhookPath
from tests.faults.stored_items import StoredItems, read_items, read_keys, read_running_jobs
from tests.fixtures.audit import Stream, deliver
from tests.fixtures.aws import BUCKET, LOGS_TABLE, TABLE, WORKFLOWS, state_machine_arn

REPEATED_RECORDS = 20


def problems_afterwards(
    platform: EmulatedPlatform, resources: Resources, dice: random.Random, webhooks: WebhookPath | None = None
) -> list[str]:
    """Ends all executions, runs the reconciler, processes the tables' streams, and returns the problems.

    The records of streams come twice and in any order. Writes of entities are processed only with ``webhooks``. No job
    may remain open after the end of its execution.
    """
    reconcile(platform, resources, ends=True)
    # Everything on a cleanup list is due then, also what clocks that are five minutes ahead have noted.
    platform.elapsed += GRACE + timedelta(minutes=5)
    reconcile(platform, resources)
    if webhooks is not None:
        deliver_writes(resources, dice, webhooks)
        webhooks.deliver(dice)
    _process_calls(platform, resources, dice)
    client = boto3.client("dynamodb")
    keys = read_keys(boto3.client("s3"), BUCKET)
    running = read_running_jobs(resources.sagemaker)
    items = StoredItems(read_items(client, TABLE), read_items(client, LOGS_TABLE), keys, running)
    left = [f"the job {sk} has not ended" for sk in items.partitions.get("job#open", {})]
    left += [f"the data that {pk} names remains" for pk in items.partitions if pk.endswith("#purges")]
    return find_problems(items) + left + (webhooks.problems(items) if webhooks else [])


def reconcile(platform: EmulatedPlatform, resources: Resources, *, ends: bool = False) -> None:
    """Runs the reconciler for five minutes.

    With ``ends`` all executions end before each round, and the reconciler runs for ten minutes, because clocks may be
    five minutes behind.
    """
    for _ in range(4 if ends else 2):
        if ends:
            end_executions()
        platform.elapsed += timedelta(minutes=2, seconds=29)
        with suppress(ReconciliationError):
            reconcile_jobs(resources, 60)
        clean_up(resources)
        move_memberships(resources)


def end_executions() -> None:
    client = boto3.client("stepfunctions")
    for workflow in WORKFLOWS:
        found = client.list_executions(stateMachineArn=state_machine_arn(workflow), statusFilter="RUNNING")
        for execution in found["executions"]:
            client.stop_execution(executionArn=execution["executionArn"], error="Lost", cause="The test is over.")


def deliver_writes(resources: Resources, dice: random.Random, webhooks: WebhookPath | None = None) -> None:
    """Processes the table's stream, and then some of its records again in any order, as after a failed batch."""
    # This reader starts at the first record, because in moto an older one misses records after a failed transaction.
    records = Stream().read()
    for batch in (records, dice.sample(records, min(len(records), REPEATED_RECORDS))):
        deliver(resources, batch)
        if webhooks is not None:
            webhooks.publish(batch)


def _process_calls(platform: EmulatedPlatform, resources: Resources, dice: random.Random) -> None:
    """Processes the logs table's stream by a worker that may be killed, and then twice without faults."""
    rows = [item for item in read_items(boto3.client("dynamodb"), LOGS_TABLE) if item["PK"].startswith("log#")]
    records = [{"dynamodb": {"NewImage": encode_item(row)}} for row in rows]
    dice.shuffle(records)
    with platform.boundary.failing(*KILLS, rate=0.2, services=frozenset({"dynamodb"})):
        survives(lambda: roll_up_inference_logs({"Records": copy.deepcopy(records)}, resources))
    for batch in (records, dice.sample(records, len(records))):
        roll_up_inference_logs({"Records": batch}, resources)


def survives(step: Callable[[], Any]) -> bool:
    """Runs a step and returns whether its worker was not killed."""
    survived = True
    try:
        with killed_early():
            step()
    except* DEATHS:
        # A kill of several concurrent tasks raises a group of errors.
        survived = False
    return survived
