"""The scenarios of the fault-injection test. Each returns a summary and the problems that it found."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from fastapi.testclient import TestClient

from shared.clock import utc_now
from shared.connectors.scans import OWN_FAILURES
from tests.faults.aftermath import problems_afterwards, reconcile, survives
from tests.faults.batch_runs import batch_runs
from tests.faults.boundary import KILLS, WITHOUT_KILLS, Fault, seeded
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.external_services import UnreliableMails, WebhookPath, complete
from tests.faults.interleavings import late_commits, late_events, late_uploads
from tests.faults.killed_workers import Outcome, killed_request, killed_scan, killed_training
from tests.faults.limit_checks import PLENTY, wrong_limits, wrong_logs
from tests.faults.lost_responses import lost_responses
from tests.faults.machines import machines
from tests.faults.neighbour import neighbour
from tests.faults.storm_client import CONTACT_LIMIT, StormClient
from tests.fixtures.audit import watch_table
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.trainings import add_benchmark, space_of, training_request
from tests.fixtures.webhooks import Receiver, received

REQUESTS = 14
SKEWS = (timedelta(minutes=-5), timedelta(), timedelta(minutes=5))
DAYS = (timedelta(days=-1), timedelta(), timedelta(days=1))
GATEWAY_SECONDS = 29


def storm(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Runs concurrent clients, each with its own worker and clock, while every tenth call fails."""
    return _storm(platform, seed, SKEWS, rate=0.1)


def skewed_clocks(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Runs concurrent clients with clocks that are wrong by a day, and without faults."""
    return _storm(platform, seed, DAYS, rate=0.0)


def _storm(platform: EmulatedPlatform, seed: int, skews: Sequence[timedelta], rate: float) -> Outcome:
    dice = seeded(seed)
    watch_table()
    worker = platform.worker()
    owner = platform.owner(worker)
    space_id = space_of(owner)
    platform.upstream.script = complete
    training = training_request(owner, worker.table)
    connector_id = training["connectors"][0]["connector_id"]
    checkpoint_id = add_checkpoint(worker.table, space_id).id
    evaluations = [
        {"benchmark_id": add_benchmark(owner, connector_id), "checkpoint_id": checkpoint_id, "gpu_count": 0}
        for _ in range(2)
    ]
    limits = {"space": PLENTY, "each_user": PLENTY, "prices": {"small": {"input": 1, "output": 10}}}
    owner.put(f"/spaces/{space_id}/limits", json=limits).raise_for_status()
    owner.put(f"/spaces/{space_id}/review-rules", json={"max_unsupported_claims": None}).raise_for_status()
    key = owner.post(
        "/api-keys", json={"name": "Batch", "scopes": ["read", "write", "chat", "arguments:approve"], "limits": PLENTY}
    )
    offered = _insights(owner)
    policy = {"contact_limits": [{"contacts": CONTACT_LIMIT, "days": 7}], "reservation_minutes": 60 * 24 * 7}
    owner.put("/insights/policy", json=policy).raise_for_status()
    mails = UnreliableMails(dice, rate)
    clients = []
    for number, skew in enumerate(skews):
        own_worker = platform.worker(skew, ses=mails)
        http = platform.client(own_worker, "alice", space_id)
        has_key = number == 0
        if has_key:
            http.headers["Authorization"] = f"Bearer {key.json()['key']}"
        own_dice = seeded(f"{seed}/{number}")
        clients.append(
            StormClient(
                f"client {number}",
                http,
                platform.boundary,
                own_dice,
                space_id,
                training,
                offered,
                evaluations,
                has_key,
            )
        )
    if rate:
        # Idempotency records expire after a day, so they do not protect clients with clocks that are wrong by a day.
        for client in clients:
            client.others = [each.http for each in clients if each is not client and not each.has_key]
    with platform.boundary.failing(*WITHOUT_KILLS, *KILLS, rate=rate), ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(lambda client: client.work(REQUESTS), clients))
        # The reconciler gets faults too. Its rounds without faults follow.
        with suppress(*OWN_FAILURES):
            survives(partial(reconcile, platform, worker))
    broken = [each for client in clients for each in client.problems()]
    broken += mails.problems(owner.get(f"/spaces/{space_id}/invites", params={"limit": 100}).json()["data"])
    broken += wrong_logs(platform, space_id, is_exact=False)
    # Budgets of a month restart when a clock passes its end.
    if len({(utc_now() + skew).month for skew in skews}) == 1:
        broken += wrong_limits(space_id, is_exact=not rate)
    with received(Receiver()) as receiver:
        owner.post("/webhook-endpoints", json={"url": receiver.url}).raise_for_status()
        broken += problems_afterwards(platform, worker, dice, WebhookPath(platform, receiver))
    completed, given_up = sum(each.acknowledged for each in clients), sum(each.given_up for each in clients)
    return f"{completed} requests completed, {given_up} given up by their clients", broken


def _insights(owner: TestClient) -> list[str]:
    group = owner.post("/action-groups", json={"name": "Loans", "description": ""}).json()
    offer = {"name": "Loan", "description": "", "priority": "high", "type": "offer", "group": group["id"]}
    owner.post("/actions", json={**offer, "status": "active"}).raise_for_status()
    clients = ({"customer_id": number} for number in range(3))
    return [owner.post("/insights", json={"client": client}).json()["id"] for client in clients]


def silence(platform: EmulatedPlatform, _seed: int) -> Outcome:
    """Makes each AWS service time out, throttle or fail. Requests must return 503 with Retry-After in time."""
    worker = platform.worker()
    owner = platform.owner(worker)
    training = training_request(owner, worker.table)
    broken: list[str] = []
    sent = 0
    longest = 0.0
    for services in map(frozenset, ({"dynamodb"}, {"s3"}, {"sfn"}, {"sagemaker"})):
        for fault in (Fault.LOST, Fault.THROTTLED, Fault.BROKEN):
            # After many failures the SDK of a worker repeats less, so each fault gets a new worker.
            client = platform.client(platform.worker(), "alice", space_of(owner))
            running = owner.post("/trainings", json=training).json()
            requests: tuple[tuple[str, str, Any], ...] = (
                ("GET", "/data-models", None),
                ("POST", "/data-models", {"name": "Silent"}),
                ("POST", "/experts", {"name": "Loans", "description": "", "context": "long" * 50_000}),
                ("POST", "/trainings", training),
                ("DELETE", f"/trainings/{running['id']}", None),
            )
            for method, path, body in requests:
                before = platform.boundary.seconds
                with platform.boundary.failing(fault, services=services):
                    response = client.request(method, path, json=body)
                waited = platform.boundary.seconds - before
                longest, sent = max(longest, waited), sent + 1
                where = f"{method} {path} while {sorted(services)} {fault}"
                if response.status_code >= 500 and (response.status_code, "Retry-After" in response.headers) != (
                    503,
                    True,
                ):
                    broken.append(f"{where}: {response.status_code} {response.text}")
                if waited >= GATEWAY_SECONDS:
                    broken.append(f"{where}: response after {waited:.0f} s, beyond {GATEWAY_SECONDS} s")
    broken += problems_afterwards(platform, worker, seeded(0))
    return f"{sent} requests, the longest took {longest:.0f} s", broken


SCENARIOS: dict[str, Callable[[EmulatedPlatform, int], Outcome]] = {
    "storm": storm,
    "skewed clocks": skewed_clocks,
    "killed training": killed_training,
    "killed scan": killed_scan,
    "killed request": killed_request,
    "lost responses": lost_responses,
    "machines": machines,
    "batch runs": batch_runs,
    "late events": late_events,
    "late uploads": late_uploads,
    "late commits": late_commits,
    "silence": silence,
    "neighbour": neighbour,
}
