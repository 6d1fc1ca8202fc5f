"""A scenario in which one tenant does to the service all that a tenant can, while another tenant works.

The loud tenant's requests may fail, but never as a failure of ours. The quiet tenant's responses must be as always.
Both have functions of their own, as in AWS, and take turns: the scenario measures what they share, and no processor.
"""

import io
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

from functions.events import authorize
from functions.events.connector_scan import connector_scan
from functions.events.deliver_webhooks import WebhookDeliverer, deliver_webhooks
from shared.clock import new_id
from shared.resources import Resources
from tests.faults.aftermath import problems_afterwards
from tests.faults.boundary import seeded
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.killed_workers import Outcome
from tests.fixtures.evaluations import add_connector
from tests.fixtures.upstream import FakeUpstream, Refusal, served
from tests.fixtures.webhooks import FakeSqs, Receiver, received

ROUNDS = 30
LONG = "x" * 1100
ODD_ANSWERS = (b"", b"[" * 9000, b'{"choices": 5}', b'{"choices": [{"message": {"content": "\\ud83d"}}]}', b"\xff\xfe")
DEAD = "http://127.0.0.1:9/v1"
EXPECTED = {
    "POST /chats": 201,
    "GET /chats": 200,
    "POST /data-models": 201,
    "GET /data-models": 200,
    "GET /models": 200,
}


def neighbour(platform: EmulatedPlatform, seed: int, rounds: int = ROUNDS) -> Outcome:
    """Measures a tenant's requests alone, and then beside a tenant who floods the service in so many rounds."""
    server = platform.upstream
    server.script = partial(_answer, server)
    more = {"default_cluster_url": server.url, "upstream_timeout_seconds": 0.5}
    platform.settings = platform.settings.model_copy(update=more)
    queue = FakeSqs(platform.now)
    worker = platform.worker(sqs=queue)
    quiet = _Tenant(platform, "quiet", worker)
    with ExitStack() as stack:
        own = stack.enter_context(served(FakeUpstream()))
        receiver = stack.enter_context(received(Receiver()))
        loud = _Loud(platform, own, seeded(seed))
        endpoint = quiet.client.post("/webhook-endpoints", json={"url": receiver.url}).json()["id"]
        alone = [seconds for _ in range(rounds // 2) for seconds in quiet.work()]
        beside: list[float] = []
        for _ in range(rounds):
            loud.attack()
            beside += quiet.work()
        # Half before and half after, because the speed of a machine drifts.
        alone += [seconds for _ in range(rounds // 2) for seconds in quiet.work()]
        quiet.client.post(f"/webhook-endpoints/{endpoint}/test").raise_for_status()
        problems = [*loud.problems, *quiet.problems, *_poisoned_batches(worker, queue, receiver)]
    problems += problems_afterwards(platform, worker, seeded(seed))
    shares = [_percentile(beside, share) / _percentile(alone, share) for share in (50, 99)]
    return f"{loud.sent} attacks; beside them p50 is {shares[0]:.2f} and p99 {shares[1]:.2f} times as long", problems


def _answer(server: FakeUpstream, body: dict[str, Any]) -> Any:
    """Returns the answer of the shared server: it fails for bad requests, and takes too long for long ones."""
    asked = str(body["messages"][-1]["content"])
    server.silence_seconds = 1 if asked.startswith("long") else 0
    return Refusal(500) if asked.startswith("bad") else "Hello."


def _percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


def _poisoned_batches(worker: Resources, queue: FakeSqs, receiver: Receiver) -> list[str]:
    """Hands functions batches with a message of each tenant, of which one can never be handled."""
    problems = []
    poison = {"messageId": "poison", "body": json.dumps({"due_at": "never"})}
    failed = deliver_webhooks({"Records": [poison, *queue.take()]}, WebhookDeliverer(worker))
    if failed != ["poison"] or "webhook_endpoint.test" not in receiver.types:
        problems.append(f"a poisoned batch of webhooks: {failed} failed, and {receiver.types} were received")
    space_id = new_id()
    connector_id = add_connector(worker.table, space_id)
    detail = {
        "bucket": {"name": "any"},
        "object": {
            "key": f"spaces/{space_id}/connectors/{connector_id}/a.csv", "etag": "1", "size": 1, "sequencer": "0A",
        },
    }  # fmt: skip
    good = {"messageId": "good", "body": json.dumps({"detail-type": "Object Created", "detail": detail})}
    odd = {"messageId": "poison", "body": json.dumps({"detail-type": "Object Created", "detail": {"object": [[]]}})}
    answer = connector_scan({"Records": [odd, good]}, worker)
    if answer != {"batchItemFailures": [{"itemIdentifier": "poison"}]}:
        problems.append(f"a poisoned batch of file events: {answer}")
    return problems


class _Tenant:
    """A tenant with a space, who uses the deployment's language models, in functions of its own."""

    def __init__(self, platform: EmulatedPlatform, name: str, worker: Resources) -> None:
        self.client = platform.client(worker, name)
        space = self.client.post("/spaces", json={"name": name, "description": ""}).json()
        self.client.headers["X-Space-Id"] = space["id"]
        self.problems: list[str] = []

    def work(self) -> list[float]:
        """Sends each request once, and returns their times. Unexpected responses become problems."""
        bodies: dict[str, Any] = {
            "POST /chats": {"messages": [{"role": "user", "content": "Hello"}], "model": "small"},
            "POST /data-models": {"name": "Churn"},
        }
        times = []
        for request, status in EXPECTED.items():
            began = time.perf_counter()
            response = self.client.request(*request.split(" "), json=bodies.get(request))
            times.append(time.perf_counter() - began)
            if response.status_code != status:
                self.problems.append(f"the quiet tenant's {request} got {response.status_code}: {response.text}")
        return times


@dataclass
class _Loud:
    """A tenant who floods the service with requests of every kind that once did harm."""

    platform: EmulatedPlatform
    own: FakeUpstream
    dice: random.Random
    sent: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._worker = self.platform.worker()
        self._client = _Tenant(self.platform, "loud", self._worker).client
        attacks: list[Callable[[], None]] = [
            self._bad_tokens, self._strange_ids, self._bad_bodies, self._bad_requests_to_the_shared_server,
            self._long_requests_to_the_shared_server, self._own_cluster,
        ]  # fmt: skip
        self.dice.shuffle(attacks)
        self._attacks = itertools.cycle(attacks)

    def attack(self) -> None:
        next(self._attacks)()

    def _send(self, method: str, path: str, body: Any = None) -> None:
        """Sends a request whose response may be any but a failure of ours."""
        printed = io.StringIO()
        with redirect_stdout(printed):
            response = self._client.request(method, path, json=body)
        self.sent += 1
        if '"Failures"' in printed.getvalue() or '"ServerErrors"' in printed.getvalue():
            self.problems.append(f"{method} {path[:50]} counts as a failure of ours: {response.text}")

    def _chat(self, text: str, **more: Any) -> None:
        body = {"messages": [{"role": "user", "content": f"{text} {self.dice.random()}"}], "model": "small", **more}
        self._send("POST", "/chats", body)

    def _bad_tokens(self) -> None:
        event = {"authorizationToken": "Bearer x.y.z", "methodArn": "arn:aws:execute-api:us-east-1:0:a/api/GET/actions"}
        with patch.object(authorize, "_resources", return_value=self._worker):
            answer = authorize.handler(event, None)
        if answer["policyDocument"]["Statement"][0]["Effect"] != "Deny":
            self.problems.append("the authorizer allows a bad token")
        self.sent += 1

    def _strange_ids(self) -> None:
        for path in ("/checkpoints/aliases/{}", "/trainings/{}?include_deleted=true", "/actions/{}", "/chats/{}"):
            self._send("GET", path.format(LONG))
        self._send("POST", f"/checkpoints/{LONG}/predictions", {"rows": [{}]})

    def _bad_bodies(self) -> None:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"$schema": "https://other.example/s"}}}
        self._send("POST", "/experts", {"name": "Loans", "description": "", "tools": [tool]})
        self._send("POST", "/data-models", {"name": 5})
        self._send("GET", f"/data-models?after={LONG}")

    def _bad_requests_to_the_shared_server(self) -> None:
        for _ in range(5):
            self._chat("bad")

    def _long_requests_to_the_shared_server(self) -> None:
        self._chat("long", stream=True)

    def _own_cluster(self) -> None:
        for address, answer in ((DEAD, b""), *((self.own.url, each) for each in ODD_ANSWERS)):
            self._send("POST", "/clusters", {"ingress_url": address, "manager_url": address})
            self.own.script = lambda _, answer=answer: answer  # type: ignore[misc]
            self._chat("odd")
            self._chat("odd", stream=True, guard_enabled=self.dice.random() < 0.5)
            self._send("GET", "/models")
            self._send("GET", "/clusters")
            self._send("DELETE", "/clusters")
