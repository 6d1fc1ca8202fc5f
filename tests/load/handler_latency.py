"""Warm handler time of GET by id and of lists of 10, in a space of 100 and in one of 100,000 items.

The store answers each request once; the timed repeats are given that answer again, so that what is timed is ours: the
emulated store sorts a whole partition at each query, which DynamoDB does not. What DynamoDB would charge (read units)
is shown beside the time.
"""

import socket
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any
from uuid import UUID

import boto3
from botocore.awsrequest import AWSResponse
from botocore.httpsession import URLLib3Session
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable
from shared.aws.clock import utc_now
from shared.aws.resources import Resources
from shared.store.codec import encode_item
from shared.store.repository import BUCKET_DIGITS

from functions.spaces.service import SpaceService
from functions.trainings.handler import app, handler
from shared.models.space import SpaceCreate
from shared.observability import logger
from tests.fixtures.aws import TABLE
from tests.fixtures.identity import Issuer
from tests.load.emulated_store import LambdaContext, emulated_store, gateway_event

SIZES = (100, 100_000)
ROUNDS = 200
# The first is answered by the store, and none of them is timed.
WARM_UP = 5
LIMIT = 1.2


class RecordedStore:
    """Stands between the store's client and the store: each request is sent once, then answered from the record."""

    def __init__(self, client: Any) -> None:
        self.units = 0.0
        # The emulated store sorts a whole partition at each query, which may take longer than we wait for DynamoDB.
        without_delay: Any = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        self._session = URLLib3Session(timeout=120, socket_options=without_delay)
        self._answers: dict[tuple[str, bytes], tuple[int, Any, bytes]] = {}
        client._endpoint.http_session = self
        client.meta.events.register("provide-client-params.dynamodb", self._ask_for_units)
        client.meta.events.register("after-call.dynamodb", self._count)

    def send(self, request: Any) -> AWSResponse:
        """As botocore's session does."""
        key = (str(request.headers["X-Amz-Target"]), bytes(request.body))
        if key not in self._answers:
            answer = self._session.send(request)
            self._answers[key] = (answer.status_code, answer.headers, answer.content)
        status, headers, content = self._answers[key]
        return AWSResponse(request.url, status, headers, _Body(content))

    def _ask_for_units(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def _count(self, parsed: dict[str, Any], **_: Any) -> None:
        capacity = parsed.get("ConsumedCapacity") or []
        for each in capacity if isinstance(capacity, list) else [capacity]:
            self.units += each["CapacityUnits"]


class _Body(BytesIO):
    """An answer's body, as urllib3 hands it over."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


def fill(space_id: str, size: int) -> list[str]:
    """Trainings written as the store writes them, with their counters, but in batches."""
    client = boto3.client("dynamodb")
    now = utc_now()
    # One every ten minutes: a page finds its place by counters of minutes and days.
    milliseconds = [int(now.timestamp() - 600 * age) * 1000 for age in range(size)]
    ids = [str(UUID(int=each << 80 | 7 << 76 | 2 << 62)) for each in milliseconds]
    counters: dict[str, int] = {"total": size}
    requests = []
    for each in ids:
        for digits in BUCKET_DIGITS:
            bucket = f"{digits}#{each.replace('-', '')[:digits]}"
            counters[bucket] = counters.get(bucket, 0) + 1
        requests.append(
            {
                "PK": f"training#{space_id}",
                "SK": each,
                "id": each,
                "created_at": now,
                "created_by": "bench",
                "updated_at": now,
                "version": 1,
                "name": "Training",
                "architecture": "lightgbm",
                "configuration": {"learning_rate": 0.05},
                "connectors": [{"connector_id": each, "target": "default"}],
                "data_model_id": each,
                "gpu_count": 0,
                "status": "succeeded",
            }
        )
    requests += [{"PK": f"training#{space_id}#count", "SK": name, "items": n} for name, n in counters.items()]
    batches = [requests[start : start + 25] for start in range(0, len(requests), 25)]

    def write(batch: list[dict[str, Any]]) -> None:
        items: list[Any] = [{"PutRequest": {"Item": encode_item(item)}} for item in batch]
        client.batch_write_item(RequestItems={TABLE: items})

    with ThreadPoolExecutor(4) as pool:
        for _ in track(pool.map(write, batches), f"writing {size:,} items", total=len(batches), transient=True):
            pass
    return ids


def measure(calls: dict[str, Callable[[], dict[str, object]]], store: RecordedStore) -> dict[str, tuple[float, float]]:
    """Median handler milliseconds and read units of interleaved calls."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    units: dict[str, float] = {}
    for turn in track(range(-WARM_UP, ROUNDS), "calling", transient=True):
        for name, make in calls.items():
            event = make()
            store.units = 0.0
            began = time.perf_counter()
            answer = handler(event, LambdaContext())
            spent = time.perf_counter() - began
            if answer["statusCode"] != 200:
                raise SystemExit(f"{name}: {answer['body']}")
            if turn >= 0:
                times[name].append(spent * 1000)
                units[name] = store.units
    return {name: (statistics.median(times[name]), units[name]) for name in calls}


OPERATIONS = ("GET by id", "list of 10, page 1", "list of 10, last page")


def requests(space_id: str, ids: list[str], token: str) -> dict[str, Callable[[], dict[str, object]]]:
    """The calls to time in one space, by operation and size."""

    def get() -> dict[str, object]:
        return gateway_event("GET", f"/trainings/{ids[len(ids) // 3]}", token, space_id)

    def page(number: int) -> dict[str, object]:
        return gateway_event("GET", "/trainings", token, space_id, {"page": str(number), "pageSize": "10"})

    calls: tuple[Callable[[], dict[str, object]], ...] = (get, partial(page, 1), partial(page, len(ids) // 10))
    return {f"{name}|{len(ids)}": call for name, call in zip(OPERATIONS, calls, strict=True)}


def run(issuer: Issuer) -> RichTable:
    resources: Resources = app.state.resources
    store = RecordedStore(resources.table._client)
    token = issuer.token("bench", expires_in=3600)
    principal = resources.token_verifier.verify(token)
    calls: dict[str, Callable[[], dict[str, object]]] = {}
    for size in SIZES:
        space_id = SpaceService(resources).create(principal, SpaceCreate(name="b", description=""), None).id
        calls |= requests(space_id, fill(space_id, size), token)
    found = measure(calls, store)
    shown = RichTable(title=f"Warm handler, {SIZES[0]:,} against {SIZES[1]:,} items (at most {LIMIT}x)")
    for column in ("operation", *(f"ms, {size:,}" for size in SIZES), "ratio", *(f"read units, {s:,}" for s in SIZES)):
        shown.add_column(column, justify="left" if column == "operation" else "right")
    for name in OPERATIONS:
        (small, small_units), (large, large_units) = (found[f"{name}|{size}"] for size in SIZES)
        shown.add_row(
            name, f"{small:.2f}", f"{large:.2f}", f"{large / small:.2f}", f"{small_units:.1f}", f"{large_units:.1f}"
        )
    return shown


def main() -> None:
    logger.setLevel("ERROR")
    with emulated_store() as issuer:
        Console().print(run(issuer))


if __name__ == "__main__":
    main()
