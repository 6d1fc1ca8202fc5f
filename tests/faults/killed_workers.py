"""Scenarios that kill a worker after each of its writes, one by one."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import boto3

from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.list_scan_files import list_scan_files
from functions.workflows.connector_scan.scan_file import scan_file
from functions.workflows.training.check_training import check_training
from functions.workflows.training.register_checkpoints import register_checkpoints
from shared.clock import new_id
from shared.dynamodb.cleanup_list import GRACE
from shared.models.connector import ScanScope, credentials_parameter
from shared.resources import Resources
from tests.faults.aftermath import end_executions, problems_afterwards, reconcile, survives
from tests.faults.boundary import Fault, seeded
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.stored_items import StoredItems, read_items
from tests.fixtures.arguments import add_argument
from tests.fixtures.aws import BUCKET, TABLE, state_machine_arn
from tests.fixtures.evaluations import add_connector
from tests.fixtures.training_workflow import World as TrainingWorld
from tests.fixtures.trainings import add_benchmark, space_of, training_request

TOKENS = ("token_parameter", "manager_token_parameter")
Outcome = tuple[str, list[str]]


def killed_training(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Kills the worker after each write of a training's steps, and of a request that adds a benchmark afterwards.

    The step is repeated, or the workflow ends and the reconciler must repair the training.
    """
    worker = platform.worker()
    owner = platform.owner(worker)
    request = training_request(owner, worker.table)
    TrainingWorld(owner, worker, worker.table, request).upload("2026.csv")
    benchmark_ids = sorted(add_benchmark(owner, request["connectors"][0]["connector_id"]) for _ in range(2))
    broken: list[str] = []
    kills = 0
    for is_repeated in (True, False):
        for at in count(1):
            training = TrainingWorld(owner, worker, worker.table, {**request, "benchmark_ids": benchmark_ids[:1]})
            steps: tuple[Callable[[], Any], ...] = (
                partial(check_training, worker, training.event),
                partial(register_checkpoints, worker, training.put_model()),
                partial(owner.put, training.address, json={"benchmark_ids": benchmark_ids}),
            )
            with platform.boundary.failing(Fault.LATE_KILLED, at=at):
                done = next((number for number, step in enumerate(steps) if not survives(step)), len(steps))
            if done == len(steps):
                break
            kills += 1
            for step in steps[done:] if is_repeated else ():
                step()
            end_executions()
            reconcile(platform, worker)
            shown = training.shown()
            rows = owner.get("/evaluations", params={"limit": 100}).json()["data"]
            evaluated = sorted(row["benchmark_id"] for row in rows if row["training_id"] == training.training["id"])
            succeeded = shown["status"] == "succeeded"
            if (len(shown["checkpoints"]), evaluated) != (succeeded, shown["benchmark_ids"] if succeeded else []):
                where = f"killed after write {at}, the step is {'' if is_repeated else 'not '}repeated"
                broken.append(
                    f"{where}: {shown['status']}, {len(shown['checkpoints'])} checkpoints, {evaluated} evaluated"
                )
    broken += problems_afterwards(platform, worker, seeded(seed))
    return f"killed {kills} times", broken


def killed_scan(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Kills the worker after each write of a scan's last step. Another scan was requested before and must start."""
    worker = platform.worker()
    owner = platform.owner(worker)
    space_id = space_of(owner)
    scans = worker.connector_scans
    broken: list[str] = []
    kills = 0
    for is_repeated in (True, False):
        for at in count(1):
            connector_id = add_connector(worker.table, space_id)
            key = f"spaces/{space_id}/connectors/{connector_id}/customers.csv"
            worker.s3.put_object(Bucket=BUCKET, Key=key, Body=b"id,income\n1,10\n")
            scan = scans.request(space_id, connector_id, ScanScope.ALL)
            listed = list_scan_files(worker, {"space_id": space_id, "connector_id": connector_id, "scan_id": scan.id})
            [item] = json.loads(worker.s3.get_object(Bucket=BUCKET, Key=listed["list_key"])["Body"].read())
            scan_file(worker, {**listed, "file": item})
            requested = owner.post(f"/connectors/{connector_id}/scan", json={})
            if requested.status_code != 202:
                broken.append(f"a scan was refused: {requested.text}")
            with platform.boundary.failing(Fault.LATE_KILLED, at=at):
                survived = survives(partial(finish_scan, worker, listed))
            kills += not survived
            if is_repeated:
                finish_scan(worker, listed)
            elif not survived:
                boto3.client("stepfunctions").stop_execution(
                    executionArn=execution_arn("connector-scan", scan.id), error="Lost", cause="killed"
                )
            reconcile(platform, worker)
            following = scans.scans.connectors.get(space_id, connector_id).scan_id
            if following in (None, scan.id):
                where = f"killed after write {at}, the step is {'' if is_repeated else 'not '}repeated"
                broken.append(f"{where}: the requested scan is lost ({following})")
            else:
                scans.fail(space_id, connector_id, following, "The test is over.")
            if survived:
                break
    broken += problems_afterwards(platform, worker, seeded(seed))
    return f"killed {kills} times", broken


def killed_request(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Kills the worker after each write of requests with several writes. The client repeats about half of them."""
    worker = platform.worker()
    owner = platform.owner(worker)
    space_id = space_of(owner)
    dying = platform.client(platform.worker(), "alice", space_id)
    worker.s3.create_bucket(Bucket="customer")
    keys = {"region": "us-east-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "a" * 40}
    foreign = {"name": "Foreign", "type": "aws-s3", "s3": {**keys, "bucket": "customer", "prefix": "in"}}

    def made(path: str, body: Any) -> str:
        response = owner.post(path, json=body)
        response.raise_for_status()
        return f"{path}/{response.json()['id']}"

    def argument() -> str:
        place = f"/arguments/{add_argument(worker.table, space_id)}"
        owner.put(place, json={"argument_thinking": "Changed."}).raise_for_status()
        owner.post(f"{place}/comments", json={"text": "A comment."}).raise_for_status()
        return place

    chat = {"messages": [{"role": "user", "content": "Hello"}]}
    requests: tuple[Callable[[], tuple[str, str, Any]], ...] = (
        lambda: ("POST", "/connectors", foreign),
        lambda: ("PUT", made("/connectors", foreign), {"s3": {"prefix": "moved"}}),
        lambda: ("DELETE", made("/connectors", foreign), None),
        lambda: ("DELETE", made("/chats", chat), None),
        lambda: ("DELETE", argument(), None),
        lambda: ("PUT", "/clusters", {"token": new_id()}),
        lambda: ("DELETE", made("/spaces", {"name": "Gone", "description": ""}), None),
    )
    broken: list[str] = []
    kills = 0
    dice = seeded(seed)
    for make in requests:
        for at in count(1):
            method, path, body = make()
            sent = {"json": body, "headers": {"Idempotency-Key": new_id()} if method == "POST" else {}}
            with platform.boundary.failing(Fault.LATE_KILLED, at=at):
                survived = survives(partial(dying.request, method, path, **sent))
            if survived:
                break
            kills += 1
            status = owner.request(method, path, **sent).status_code if dice.random() < 0.5 else 200
            if status >= 400 and (method, status) != ("DELETE", 404):
                broken.append(f"{method} {path}, killed after write {at}, returned {status} when it was repeated")
    platform.elapsed += GRACE
    reconcile(platform, worker)
    found = StoredItems(read_items(worker.dynamodb, TABLE))
    broken += _secrets(found, worker)
    scanned = {scan["connector_id"] for _, _, scan in found.of("scan")}
    broken += [
        f"connector {sk} has moved and is not scanned"
        for _, sk, item in found.of("connector")
        if item["s3"]["prefix"] == "moved/" and sk not in scanned
    ]
    broken += problems_afterwards(platform, worker, dice)
    return f"killed {kills} times", broken


def _secrets(found: StoredItems, resources: Resources) -> Iterator[str]:
    """Finds secrets that no cluster or connector names, and names without a secret."""
    named = {item[name] for _, _, item in found.of("cluster") for name in TOKENS if item.get(name)}
    prefix = resources.settings.parameter_prefix
    named |= {
        credentials_parameter(prefix, sk) for _, sk, item in found.of("connector") if item.get("credentials_version")
    }
    pages = resources.ssm.get_paginator("describe_parameters").paginate()
    stored = {each["Name"] for page in pages for each in page["Parameters"]}
    yield from (f"the parameter {each} is only named, or only stored" for each in sorted(named ^ stored))


def execution_arn(workflow: str, name: str) -> str:
    return f"{state_machine_arn(workflow).replace(':stateMachine:', ':execution:')}:{name}"
