"""Scenarios with random orders: what comes late meets what was exported, deleted, or made again before it came."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from random import Random
from threading import Lock
from typing import Any
from unittest.mock import patch
from uuid import UUID

from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import clean_up
from functions.workflows.connector_scan.fail_scan import fail_scan
from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.list_scan_files import list_scan_files
from functions.workflows.connector_scan.scan_file import scan_file
from shared.connectors.scans import OWN_FAILURES
from shared.dynamodb.cleanup_list import GRACE
from shared.errors import JobFailedError, NotFoundError
from shared.models.connector import managed_prefix
from shared.resources import Resources
from tests.faults.aftermath import deliver_writes, problems_afterwards, survives
from tests.faults.boundary import DEATHS, KILLS, WITHOUT_KILLS, seeded
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.killed_workers import Outcome
from tests.fixtures.audit import watch_table
from tests.fixtures.aws import BUCKET
from tests.fixtures.connectors import Lab
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_member
from tests.fixtures.trainings import space_of

# So many that few files share a connector: the event of another file would have it cleaned, too.
CONNECTORS, STEPS = 12, 60
ROUNDS = 6
# A request ends within 29 seconds. A late reaction meets others, which are late themselves.
LATE, DEPTH = timedelta(seconds=29), 3


def late_events(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Delivers events of S3 late, twice and in any order, while connectors are deleted and every fifth call fails."""
    dice, worker = seeded(seed), platform.worker()
    lab = Lab(platform.owner(worker), worker)
    connectors = [lab.connector() for _ in range(CONNECTORS)]
    waiting: list[dict[str, Any]] = []
    running: list[Callable[[], Any]] = []

    def upload() -> None:
        waiting.append(lab.put(dice.choice(connectors), f"{dice.randrange(3)}.csv"))

    def deliver() -> None:
        for event in dice.sample(waiting, min(3, len(waiting))):
            if _is_handled(lab, event) and dice.random() < 0.8:
                waiting.remove(event)

    def scan() -> None:
        connector_id = dice.choice(connectors)
        with suppress(NotFoundError):
            event = {"space_id": lab.space_id, "connector_id": connector_id, "scan_id": lab.running(connector_id)}
            if event["scan_id"] is not None:
                running.extend(partial(step, worker, event) for step in (_scan_files, finish_scan))

    def go_on() -> None:
        if running:
            step = running.pop(0)
            with suppress(JobFailedError, KeyError, *OWN_FAILURES):
                survives(step)

    def clean() -> None:
        platform.elapsed += GRACE
        clean_up(worker)

    def delete() -> None:
        survives(partial(lab.client.delete, f"/connectors/{dice.choice(connectors)}"))

    for _ in range(STEPS):
        with platform.boundary.failing(*WITHOUT_KILLS, *KILLS * 3, rate=0.25):
            dice.choice([deliver, deliver, deliver, go_on, delete, delete])()
        dice.choice([upload, upload, scan, clean])()
    for event in waiting:
        lab.deliver(event)
    gone = sum(lab.client.get(f"/connectors/{each}").status_code == 404 for each in connectors)
    return f"{gone} of {len(connectors)} connectors deleted", problems_afterwards(platform, worker, dice)


def _is_handled(lab: Lab, event: dict[str, Any]) -> bool:
    """Delivers an event. The message of a worker that was killed comes again, like one that failed."""
    try:
        return lab.deliver(event) == []
    except DEATHS:
        return False


def _scan_files(worker: Resources, event: dict[str, Any]) -> None:
    listed = list_scan_files(worker, event)
    event["list_key"] = listed["list_key"]
    content = worker.s3.get_object(Bucket=BUCKET, Key=listed["list_key"])["Body"].read()
    for item in json.loads(content):
        scan_file(worker, {**listed, "file": item})


def late_uploads(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Lets files arrive at any call of a scan that succeeds or fails, while every tenth call fails."""
    dice, worker = seeded(seed), platform.worker()
    lab = Lab(platform.owner(worker), worker)
    connector_id, waiting, busy = lab.connector(), list[dict[str, Any]](), Lock()
    where, broken, arrived = (lab.space_id, connector_id), list[str](), 0

    def upload() -> dict[str, Any]:
        return lab.put(connector_id, f"{dice.randrange(4)}.csv", f"income\n{dice.randrange(9)}\n".encode())

    def arrive(**_: Any) -> None:
        nonlocal arrived
        if dice.random() < 0.1 and busy.acquire(blocking=False):
            arrived += 1
            event = upload()
            if lab.deliver(event):
                waiting.append(event)
            busy.release()

    worker.dynamodb.meta.events.register("before-call.dynamodb", arrive)
    for _ in range(ROUNDS):
        with busy:
            lab.deliver(*waiting, upload())
            waiting.clear()
            identity = {"space_id": lab.space_id, "connector_id": connector_id, "scan_id": lab.running(connector_id)}
        if identity["scan_id"] is None:  # the content was known
            continue
        failure = {**identity, "error": "States.Timeout", "cause": ""}
        failing = partial(fail_scan, worker, failure)
        steps: list[Callable[[], Any]] = [failing, failing, partial(_scan, worker, identity)]
        step = dice.choice(steps)
        with platform.boundary.failing(*WITHOUT_KILLS, rate=0.1), suppress(JobFailedError, *OWN_FAILURES):
            step()
        step()
        # A message of a failed event comes again and has the files scanned. No file arrives between these reads.
        with busy:
            if not waiting and lab.running(connector_id) is None and (left := worker.catalog.pending(*where)):
                broken.append(f"{sorted(left)} wait for a scan, which has not started")
    with busy:
        lab.deliver(*waiting)
        return f"{arrived} files arrived", broken + problems_afterwards(platform, worker, dice)


def _scan(worker: Resources, identity: dict[str, Any]) -> None:
    event = dict(identity)
    _scan_files(worker, event)
    finish_scan(worker, event)


def late_commits(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Lets transactions of reactions wait while others are stored and exported, and makes removed keys again."""
    dice, worker = seeded(seed), platform.worker()
    watch_table()
    owner = platform.owner(worker)
    space_id, me = space_of(owner), platform.client(worker, "bob")
    bob_id = me.get("/me").json()["id"]
    checkpoint = add_checkpoint(worker.table, space_id).id
    export = _Export(owner, add_connector(worker.table, space_id), worker)
    waiting, depth, removed, began = _insights(owner), 0, 0, platform.elapsed

    def react(reaction: str) -> None:
        if waiting:
            owner.post(f"/insights/{waiting.pop()}/reactions", json={"reaction": reaction}).raise_for_status()

    def meet_others(params: Any, **_: Any) -> None:
        nonlocal depth, began
        if b"insight_reaction#" not in params["body"] or depth == DEPTH:
            return
        began = began if depth else platform.elapsed
        depth += 1
        others: list[Callable[[], None]] = [partial(react, "accepted"), export.go_on, pass_time]
        for step in dice.choices(others, k=dice.randrange(5)):
            step()
        depth -= 1

    def pass_time() -> None:
        most = (began + LATE - platform.elapsed).total_seconds() if depth else 40
        platform.elapsed += timedelta(seconds=dice.uniform(0, most))

    def make_again() -> None:
        nonlocal removed
        path = "/checkpoints/aliases/best"
        with platform.boundary.failing(*WITHOUT_KILLS, rate=0.3):
            for method, body in (("PUT", {"checkpoint_id": checkpoint}), ("DELETE", None)):
                owner.request(method, path, json=body)
        add_member(worker.table, me, space_id, [])
        owner.delete(f"/spaces/{space_id}/members/{bob_id}").raise_for_status()
        removed += 1

    worker.dynamodb.meta.events.register("before-call.dynamodb.TransactWriteItems", meet_others)
    with _ids_of(platform, dice):
        steps: list[Callable[[], None]] = [partial(react, "rejected"), export.go_on, make_again, pass_time]
        while waiting:
            dice.choice(steps)()
        platform.elapsed += timedelta(minutes=5)
        export.go_on()
    broken = export.problems(len(_INSIGHTS))
    deliver_writes(worker, dice)
    rows = owner.get("/audit-logs", params={"entity_id": bob_id, "limit": 100}).json()["data"]
    if (found := sum(row["action"] == "deleted" for row in rows)) != removed:
        broken.append(f"a member was removed {removed} times, the audit log has {found} deletions")
    return f"{export.rows} rows in {export.files} exports", broken + problems_afterwards(platform, worker, dice)


_INSIGHTS = range(25)


def _insights(owner: TestClient) -> list[str]:
    offer = {"name": "Loan", "description": "", "priority": "high", "type": "offer", "status": "active"}
    owner.post("/actions", json=offer).raise_for_status()
    return [owner.post("/insights", json={"client": {"number": number}}).json()["id"] for number in _INSIGHTS]


@contextmanager
def _ids_of(platform: EmulatedPlatform, dice: Random) -> Iterator[None]:
    """Gives the ids of reactions the platform's time."""

    def new_id() -> str:
        milliseconds = int(platform.now().timestamp() * 1000)
        return str(UUID(int=milliseconds << 80 | 7 << 76 | 0b10 << 62 | dice.getrandbits(62)))

    with patch("shared.insights.store.new_id", new_id):
        yield


class _Export:
    """An export of reactions that continues after its last row."""

    def __init__(self, owner: TestClient, connector_id: str, worker: Resources) -> None:
        self.rows = self.files = 0
        self._owner = owner
        self._connector_id = connector_id
        self._worker = worker
        self._after = ""
        self._numbers: Counter[int] = Counter()

    def go_on(self) -> None:
        body = {"connector_id": self._connector_id, "after": self._after}
        export = self._owner.post("/insights/exports", json=body).json()
        self._after = export["last"] or self._after
        if export["file"]:
            prefix = managed_prefix(space_of(self._owner), self._connector_id)
            found = self._worker.s3.get_object(Bucket=BUCKET, Key=f"{prefix}{export['file']}")
            self._numbers.update(json.loads(line)["number"] for line in found["Body"].read().splitlines())
            self.rows, self.files = self._numbers.total(), self.files + 1

    def problems(self, total: int) -> list[str]:
        counts = {number: self._numbers[number] for number in range(total) if self._numbers[number] != 1}
        return [f"the reaction of client {number} was exported {count} times" for number, count in counts.items()]
