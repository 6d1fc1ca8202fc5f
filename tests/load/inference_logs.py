"""Inference logs of 30 days, few against many: handler time, read units and requests of pages and of a summary.

The store answers each request once; the timed repeats are given that answer again, so that what is timed is ours: the
emulated store sorts a whole partition at each query, which DynamoDB does not. What is read grows until every bucket has
calls of every kind, and no further. ``--rows 1000000`` takes half an hour
and several GB, most of it for writing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable
from shared.aws.clock import utc_now
from shared.aws.resources import Resources
from shared.store.table import Item

from functions.inference_logs.handler import app, handler
from functions.spaces.service import SpaceService
from shared.models.space import SpaceCreate
from shared.observability import logger
from tests.fixtures.identity import Issuer
from tests.fixtures.inference_logs import call
from tests.load.emulated_store import LambdaContext, emulated_store, gateway_event
from tests.load.handler_latency import RecordedStore

FEW, MANY = 10_000, 100_000
PERIOD = timedelta(days=30)
ROUNDS = 30
WARM_UP = 3


class CountingStore(RecordedStore):
    """Counts requests (each a round trip, some at the same time) and read units, which the emulator gets wrong.

    A unit is 4 KB read consistently; taken of the answer's JSON it is an upper bound, of what a filter leaves.
    """

    requests = 0
    read_units = 0

    def send(self, request: Any) -> Any:
        answer = super().send(request)
        self.requests += 1
        self.read_units += -(-len(answer.content) // 4096)
        return answer


def fill(resources: Resources, space_id: str, size: int, now: datetime) -> None:
    """Calls spread evenly, with the rollups that the stream would have made of them."""
    logs = resources.inference_logs
    rows: list[Item] = []
    for number in range(size):
        each = call(
            now - PERIOD * number / size,
            user=f"user-{number % 10}",
            model=f"model-{number % 3}",
            type=("chat", "guard")[number % 2],
            status="error" if number % 997 == 0 else "success",
        )
        rows += logs.items(space_id, each)
    sums = logs.rollups.sums(space_id, rows)
    rollups = [{**key.values, **says, **asdict(totals)} for key, says, totals in sums]
    _write(resources, [*rows, *rollups])


def _write(resources: Resources, items: list[Item]) -> None:
    batches = [items[start : start + 25] for start in range(0, len(items), 25)]
    with ThreadPoolExecutor(4) as pool:
        written = pool.map(resources.inference_logs._table.put_all, batches)
        for _ in track(written, f"writing {len(items):,} items", total=len(batches), transient=True):
            pass


def operations(space_id: str, size: int, token: str) -> dict[str, Callable[[], dict[str, object]]]:
    def get(path: str, **query: str) -> dict[str, object]:
        return gateway_event("GET", path, token, space_id, query or None)

    page = partial(get, "/inference-logs", page_size="20")
    return {
        "page 1": partial(page, page="1"),
        "middle page": partial(page, page=str(size // 40)),
        "last page": partial(page, page=str(size // 20)),
        "a user's page 10": partial(page, page="10", user="user-3"),
        "a model's page 10, of one type": partial(page, page="10", model="model-1", type="guard"),
        "failed calls, 1 in 1,000": partial(page, page="1", page_size="10", status="error"),
        "summary of 30 days": partial(get, "/inference-logs/summary"),
    }


def measure(
    calls: dict[tuple[str, int], Callable[[], dict[str, object]]], store: CountingStore
) -> dict[tuple[str, int], tuple[float, int, int]]:
    """Median handler milliseconds, read units and requests of interleaved calls."""
    times: dict[tuple[str, int], list[float]] = {name: [] for name in calls}
    read: dict[tuple[str, int], tuple[int, int]] = {}
    for turn in track(range(-WARM_UP, ROUNDS), "calling", transient=True):
        for name, make in calls.items():
            event = make()
            store.read_units = store.requests = 0
            began = time.perf_counter()
            answer = handler(event, LambdaContext())
            spent = time.perf_counter() - began
            if answer["statusCode"] != 200:
                raise SystemExit(f"{name}: {answer['body']}")
            read[name] = store.read_units, store.requests
            if turn >= 0:
                times[name].append(spent * 1000)
    return {name: (statistics.median(times[name]), *read[name]) for name in calls}


def run(issuer: Issuer, sizes: tuple[int, int]) -> RichTable:
    now = utc_now()
    resources: Resources = app.state.resources
    # Time stands still, so that repeats ask the store for the same.
    resources.clock = lambda: now
    token = issuer.token("bench", expires_in=7200)
    principal = resources.token_verifier.verify(token)
    calls: dict[tuple[str, int], Callable[[], dict[str, object]]] = {}
    for size in sizes:
        space_id = SpaceService(resources).create(principal, SpaceCreate(name="b", description=""), None).id
        fill(resources, space_id, size, now)
        calls |= {(name, size): make for name, make in operations(space_id, size, token).items()}
    found = measure(calls, CountingStore(resources.dynamodb))
    few, many = sizes
    shown = RichTable(title=f"Inference logs, {few:,} against {many:,} in 30 days")
    shown.add_column("operation")
    for column in (f"ms, {few:,}", f"ms, {many:,}", "ratio", *(f"units | requests, {size:,}" for size in sizes)):
        shown.add_column(column, justify="right")
    for name in dict.fromkeys(name for name, _ in calls):
        (small, *small_read), (large, *large_read) = found[name, few], found[name, many]
        reads = (f"{units} | {requests}" for units, requests in (small_read, large_read))
        shown.add_row(name, f"{small:.1f}", f"{large:.1f}", f"{large / small:.2f}", *reads)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.inference_logs", description=__doc__)
    parser.add_argument("--rows", type=int, default=MANY, help=f"how many are many ({MANY:,})")
    rows = parser.parse_args().rows
    logger.setLevel("ERROR")
    with emulated_store() as issuer:
        Console().print(run(issuer, (FEW, rows)))


if __name__ == "__main__":
    main()
