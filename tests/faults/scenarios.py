"""What is drilled: each scenario answers what it found broken, and a line of what it did."""

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import boto3
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import ReconciliationError, clean_up, reconcile_jobs, settle_spaces
from functions.events.roll_up_inference_logs import roll_up_inference_logs
from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.list_scan_files import list_scan_files
from functions.workflows.connector_scan.scan_file import scan_file
from functions.workflows.training.check_training import check_training
from functions.workflows.training.register_checkpoints import register_checkpoints
from shared.aws.clock import new_id, utc_now
from shared.aws.invite_mails import InviteMails
from shared.aws.resources import Resources
from shared.connector_scans import OWN_FAILURES, ConnectorScans
from shared.models.connector import ScanScope, credentials_parameter
from shared.store.codec import encode_item
from shared.store.purges import GRACE
from tests.faults.boundary import ANSWERED, DEATHS, KILLS, Fault
from tests.faults.outside import Hooks, Mails, said
from tests.faults.recount import Recount, read
from tests.faults.storm import Client
from tests.faults.world import World
from tests.fixtures.arguments import add_argument
from tests.fixtures.audit import Stream, deliver, watch_table
from tests.fixtures.aws import BUCKET, LOGS_TABLE, TABLE, state_machine_arn
from tests.fixtures.evaluations import add_checkpoint, add_connector
from tests.fixtures.training_workflow import World as TrainingWorld
from tests.fixtures.trainings import add_benchmark, space_of, training_request
from tests.fixtures.webhooks import Receiver, received

REQUESTS = 14
TOLD_AGAIN = 20
SKEWS = (timedelta(minutes=-5), timedelta(), timedelta(minutes=5))
DAYS = (timedelta(days=-1), timedelta(), timedelta(days=1))
PLENTY = {"requests_per_minute": 10**6, "tokens_per_month": 10**9, "cost_per_day": 10**6, "concurrent_calls": 100}
GATEWAY_SECONDS = 29
TOKENS = ("token_parameter", "manager_token_parameter")
Outcome = tuple[str, list[str]]


def storm(world: World, seed: int) -> Outcome:
    """Clients at once, each at a worker of its own with a clock of its own, while every tenth call fails."""
    return _storm(world, seed, SKEWS, rate=0.1)


def skewed_clocks(world: World, seed: int) -> Outcome:
    """The same with clocks that are off by a day, and without faults."""
    return _storm(world, seed, DAYS, rate=0.0)


def _storm(world: World, seed: int, skews: Sequence[timedelta], rate: float) -> Outcome:
    dice = random.Random(seed)  # noqa: S311 - a drill's
    watch_table()
    calm = world.worker()
    owner = world.owner(calm)
    space_id = space_of(owner)
    world.upstream.script = said
    training = training_request(owner, calm.table)
    connector_id = training["connectors"][0]["connector_id"]
    checkpoint_id = add_checkpoint(calm.table, space_id).id
    evaluations = [
        {"benchmark_id": add_benchmark(owner, connector_id), "checkpoint_id": checkpoint_id, "gpu_count": 0}
        for _ in range(2)
    ]
    limits = {"space": PLENTY, "each_user": PLENTY, "prices": {"small": {"input": 1, "output": 10}}}
    owner.put(f"/spaces/{space_id}/limits", json=limits).raise_for_status()
    key = owner.post("/api-keys", json={"name": "Batch", "scopes": ["read", "write", "chat"], "limits": PLENTY})
    offered = _insights(owner)
    mails = Mails(dice, rate)
    clients = []
    for number, skew in enumerate(skews):
        worker = world.worker(skew)
        worker.__dict__["invite_mails"] = InviteMails(mails, "invites@example.com", None)
        http = world.client(worker, "alice", space_id)
        has_key = number == 0
        if has_key:
            http.headers["Authorization"] = f"Bearer {key.json()['key']}"
        own_dice = random.Random(f"{seed}/{number}")  # noqa: S311 - a drill's
        clients.append(Client(f"client {number}", http, own_dice, space_id, training, offered, evaluations, has_key))
    if rate:
        # Records that expire after a day protect nobody whose clock is off by one.
        for client in clients:
            client.others = [each.http for each in clients if each is not client]
    with world.boundary.failing(*ANSWERED, *KILLS, rate=rate), ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(lambda client: client.work(REQUESTS), clients))
        # The reconciler, too, has its share of faults, and then another round.
        with suppress(*OWN_FAILURES):
            _survives(partial(_reconcile, world, calm))
    broken = [each for client in clients for each in client.untruths()]
    broken += mails.untruths(owner.get(f"/spaces/{space_id}/invites", params={"limit": 100}).json()["data"])
    if not rate:
        broken += _miscounted(space_id, skews)
    with received(Receiver()) as receiver:
        owner.post("/webhook-endpoints", json={"url": receiver.url}).raise_for_status()
        broken += settled(world, calm, dice, Hooks(world, calm, receiver))
    answered, unanswered = sum(each.acknowledged for each in clients), sum(each.unanswered for each in clients)
    return f"{answered} requests answered, {unanswered} given up by their clients", broken


def _miscounted(space_id: str, skews: Sequence[timedelta]) -> list[str]:
    """What the space's limits count, against the calls that are logged: all of them while no clock is in another month.

    Faults shift it: limits are counted by writes of their own.
    """
    if len({(utc_now() + skew).month for skew in skews}) > 1:
        return []
    client = boto3.client("dynamodb")
    [usage] = Recount(read(client, TABLE)).partitions[f"limit_usage#{space_id}"].values()
    counted = usage["tokens_per_month"] - usage["new_tokens"] - usage["old_tokens"]
    logged = sum(item["total_tokens"] for item in read(client, LOGS_TABLE) if item["PK"].startswith(f"log#{space_id}#"))
    return [f"the limits count {counted} tokens, the calls took {logged}"] if counted != logged else []


def killed_training(world: World, seed: int) -> Outcome:
    """The worker dies after each write of a training's steps, and of a request that lets a benchmark join it then.

    Either the step comes again, or not, and the reconciler has to do with the workflow's being over.
    """
    calm = world.worker()
    owner = world.owner(calm)
    request = training_request(owner, calm.table)
    TrainingWorld(owner, calm, calm.table, request).upload("2026.csv")
    benchmark_ids = sorted(add_benchmark(owner, request["connectors"][0]["connector_id"]) for _ in range(2))
    broken: list[str] = []
    deaths = 0
    for comes_again in (True, False):
        for at in count(1):
            created = owner.post("/trainings", json={**request, "benchmark_ids": benchmark_ids[:1]}).json()
            training = TrainingWorld(owner, calm, calm.table, created)
            steps: tuple[Callable[[], Any], ...] = (
                partial(check_training, calm, training.event),
                partial(register_checkpoints, calm, training.put_model()),
                partial(owner.put, training.address, json={"benchmark_ids": benchmark_ids}),
            )
            with world.boundary.failing(Fault.LATE_KILLED, at=at):
                done = next((number for number, step in enumerate(steps) if not _survives(step)), len(steps))
            if done == len(steps):
                break
            deaths += 1
            for step in steps[done:] if comes_again else ():
                step()
            _end_executions()
            _reconcile(world, calm)
            shown = training.shown()
            rows = owner.get("/evaluations", params={"limit": 100}).json()["data"]
            evaluated = sorted(row["benchmark_id"] for row in rows if row["training_id"] == created["id"])
            succeeded = shown["status"] == "succeeded"
            if (len(shown["checkpoints"]), evaluated) != (succeeded, shown["benchmark_ids"] if succeeded else []):
                where = f"killed after write {at}, the step {'comes' if comes_again else 'does not come'} again"
                broken.append(
                    f"{where}: {shown['status']}, {len(shown['checkpoints'])} checkpoints, {evaluated} evaluated"
                )
    broken += settled(world, calm, random.Random(seed))  # noqa: S311
    return f"killed {deaths} times", broken


def killed_scan(world: World, seed: int) -> Outcome:
    """The worker dies after each write of the end of a scan, while another scan was asked for: that one still comes."""
    calm = world.worker()
    owner = world.owner(calm)
    space_id = space_of(owner)
    scans = ConnectorScans(calm)
    broken: list[str] = []
    deaths = 0
    for comes_again in (True, False):
        for at in count(1):
            connector_id = add_connector(calm.table, space_id)
            key = f"spaces/{space_id}/connectors/{connector_id}/customers.csv"
            calm.s3.put_object(Bucket=BUCKET, Key=key, Body=b"id,income\n1,10\n")
            scan = scans.request(space_id, connector_id, ScanScope.ALL)
            listed = list_scan_files(calm, {"space_id": space_id, "connector_id": connector_id, "scan_id": scan.id})
            [item] = json.loads(calm.s3.get_object(Bucket=BUCKET, Key=listed["list_key"])["Body"].read())
            scan_file(calm, {**listed, "file": item})
            asked = owner.post(f"/connectors/{connector_id}/scan", json={})
            if asked.status_code != 202:
                broken.append(f"a scan was refused: {asked.text}")
            with world.boundary.failing(Fault.LATE_KILLED, at=at):
                survived = _survives(partial(finish_scan, calm, listed))
            deaths += not survived
            if comes_again:
                finish_scan(calm, listed)
            elif not survived:
                boto3.client("stepfunctions").stop_execution(
                    executionArn=_execution("connector-scan", scan.id), error="Lost", cause="killed"
                )
            _reconcile(world, calm)
            following = scans.scans.connectors.get(space_id, connector_id).scan_id
            if following in (None, scan.id):
                where = f"killed after write {at}, the step {'comes' if comes_again else 'does not come'} again"
                broken.append(f"{where}: the scan that was asked for meanwhile is lost ({following})")
            else:
                scans.fail(space_id, connector_id, following, "The drill is over.")
            if survived:
                break
    broken += settled(world, calm, random.Random(seed))  # noqa: S311
    return f"killed {deaths} times", broken


def killed_request(world: World, seed: int) -> Outcome:
    """The worker dies after each write of a request that does more than one thing; the client repeats it, or not."""
    calm = world.worker()
    owner = world.owner(calm)
    space_id = space_of(owner)
    dying = world.client(world.worker(), "alice", space_id)
    calm.s3.create_bucket(Bucket="customer")
    keys = {"region": "us-east-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "a" * 40}
    foreign = {"name": "Foreign", "type": "aws-s3", "s3": {**keys, "bucket": "customer", "prefix": "in"}}

    def made(path: str, body: Any) -> str:
        answer = owner.post(path, json=body)
        answer.raise_for_status()
        return f"{path}/{answer.json()['id']}"

    def argument() -> str:
        place = f"/arguments/{add_argument(calm.table, space_id)}"
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
    deaths = 0
    dice = random.Random(seed)  # noqa: S311 - a drill's
    for make in requests:
        for at in count(1):
            method, path, body = make()
            sent = {"json": body, "headers": {"Idempotency-Key": new_id()} if method == "POST" else {}}
            with world.boundary.failing(Fault.LATE_KILLED, at=at):
                survived = _survives(partial(dying.request, method, path, **sent))
            if survived:
                break
            deaths += 1
            status = owner.request(method, path, **sent).status_code if dice.random() < 0.5 else 200
            if status >= 400 and (method, status) != ("DELETE", 404):
                broken.append(f"{method} {path}, killed after write {at}, was answered {status} when it came again")
    world.later += GRACE
    _reconcile(world, calm)
    found = Recount(read(calm.dynamodb, TABLE))
    broken += _secrets(found, calm)
    scanned = {scan["connector_id"] for _, _, scan in found.of("scan")}
    broken += [
        f"connector {sk} has moved and is not scanned"
        for _, sk, item in found.of("connector")
        if item["s3"]["prefix"] == "moved/" and sk not in scanned
    ]
    broken += settled(world, calm, dice)
    return f"killed {deaths} times", broken


def _secrets(found: Recount, resources: Resources) -> Iterator[str]:
    """Parameters that hold secrets are those that clusters and connectors name."""
    named = {item[name] for _, _, item in found.of("cluster") for name in TOKENS if item.get(name)}
    prefix = resources.settings.parameter_prefix
    named |= {
        credentials_parameter(prefix, sk) for _, sk, item in found.of("connector") if item.get("credentials_version")
    }
    pages = resources.ssm.get_paginator("describe_parameters").paginate()
    kept = {each["Name"] for page in pages for each in page["Parameters"]}
    yield from (f"the parameter {each} is named or kept only" for each in sorted(named ^ kept))


def silence(world: World, _seed: int) -> Outcome:
    """One AWS service after the other is silent, throttles or breaks: a 503 that says when to try again, in time."""
    calm = world.worker()
    owner = world.owner(calm)
    training = training_request(owner, calm.table)
    broken: list[str] = []
    asked = 0
    longest = 0.0
    for services in map(frozenset, ({"dynamodb"}, {"s3"}, {"sfn"}, {"sagemaker"})):
        for fault in (Fault.LOST, Fault.THROTTLED, Fault.BROKEN):
            # The SDK of a worker that has failed a lot repeats less: each begins anew.
            client = world.client(world.worker(), "alice", space_of(owner))
            running = owner.post("/trainings", json=training).json()
            requests: tuple[tuple[str, str, Any], ...] = (
                ("GET", "/data-models", None),
                ("POST", "/data-models", {"name": "Silent"}),
                ("POST", "/experts", {"name": "Loans", "description": "", "context": "long" * 50_000}),
                ("POST", "/trainings", training),
                ("DELETE", f"/trainings/{running['id']}", None),
            )
            for method, path, body in requests:
                before = world.boundary.seconds
                with world.boundary.failing(fault, services=services):
                    answer = client.request(method, path, json=body)
                waited = world.boundary.seconds - before
                longest, asked = max(longest, waited), asked + 1
                where = f"{method} {path} while {sorted(services)} {fault}"
                if answer.status_code >= 500 and (answer.status_code, "Retry-After" in answer.headers) != (503, True):
                    broken.append(f"{where}: {answer.status_code} {answer.text}")
                if waited >= GATEWAY_SECONDS:
                    broken.append(f"{where}: answered after {waited:.0f} s, beyond {GATEWAY_SECONDS} s")
    broken += settled(world, calm, random.Random(0))  # noqa: S311
    return f"{asked} requests, the longest answered after {longest:.0f} s", broken


SCENARIOS: dict[str, Callable[[World, int], Outcome]] = {
    "storm": storm,
    "skewed clocks": skewed_clocks,
    "killed training": killed_training,
    "killed scan": killed_scan,
    "killed request": killed_request,
    "silence": silence,
}


def settled(world: World, resources: Resources, dice: random.Random, hooks: Hooks | None = None) -> list[str]:
    """What is wrong after all events have been told, twice and in any order, and the reconciler has gone round.

    Where there are ``hooks`` the table tells of its writes, and an endpoint of webhooks hears of them. Every execution
    is ended from outside first, so that no job may be left.
    """
    _reconcile(world, resources, ends=True)
    if hooks is not None:
        _tell_of_writes(resources, dice, hooks)
        hooks.deliver(dice)
    _tell_of_calls(world, resources, dice)
    client = boto3.client("dynamodb")
    recount = Recount(read(client, TABLE), read(client, LOGS_TABLE))
    left = [f"the job {sk} has not ended" for sk in recount.partitions.get("job#open", {})]
    left += [f"what {pk} names remains" for pk in recount.partitions if pk.endswith("#purges")]
    return recount.problems() + left + (hooks.untruths(recount) if hooks else [])


def _reconcile(world: World, resources: Resources, *, ends: bool = False) -> None:
    """Its rounds within five minutes, and in five more, by which clocks are off; all executions end before each."""
    for _ in range(4 if ends else 2):
        if ends:
            _end_executions()
        world.later += timedelta(minutes=2, seconds=29)
        with suppress(ReconciliationError):
            reconcile_jobs(resources, 60)
        clean_up(resources)
        settle_spaces(resources)


def _end_executions() -> None:
    client = boto3.client("stepfunctions")
    for workflow in ("training", "evaluation", "connector-scan"):
        found = client.list_executions(stateMachineArn=state_machine_arn(workflow), statusFilter="RUNNING")
        for execution in found["executions"]:
            client.stop_execution(executionArn=execution["executionArn"], error="Lost", cause="The drill is over.")


def _tell_of_writes(resources: Resources, dice: random.Random, hooks: Hooks) -> None:
    """The table's stream: its records, then some of them again in any order, as after a batch that failed."""
    # Read from the start: whoever has begun before a transaction failed does not see what came after it in moto.
    records = Stream().read()
    for batch in (records, dice.sample(records, min(len(records), TOLD_AGAIN))):
        deliver(resources, batch)
        hooks.publish(batch)


def _tell_of_calls(world: World, resources: Resources, dice: random.Random) -> None:
    """The logs table's stream, with a worker that dies half-way and several that are handed the same rows."""
    rows = [item for item in read(boto3.client("dynamodb"), LOGS_TABLE) if item["PK"].startswith("log#")]
    records = [{"dynamodb": {"NewImage": encode_item(row)}} for row in rows]
    dice.shuffle(records)
    with world.boundary.failing(*KILLS, rate=0.2, services=frozenset({"dynamodb"})):
        _survives(lambda: roll_up_inference_logs({"Records": copy.deepcopy(records)}, resources))
    for batch in (records, dice.sample(records, len(records))):
        roll_up_inference_logs({"Records": batch}, resources)


def _insights(owner: TestClient) -> list[str]:
    group = owner.post("/action-groups", json={"name": "Loans", "description": ""}).json()
    offer = {"name": "Loan", "description": "", "priority": "high", "type": "offer", "group": group["id"]}
    owner.post("/actions", json={**offer, "status": "active"}).raise_for_status()
    clients = ({"customer_id": number} for number in range(3))
    return [owner.post("/insights", json={"client": client}).json()["id"] for client in clients]


def _survives(step: Callable[[], Any]) -> bool:
    survived = True
    try:
        step()
    except* DEATHS:
        # Where the worker had tasks at work, they die together.
        survived = False
    return survived


def _execution(workflow: str, name: str) -> str:
    return f"{state_machine_arn(workflow).replace(':stateMachine:', ':execution:')}:{name}"
