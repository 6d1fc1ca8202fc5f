"""Compares warm handler times and read units of pages in small and large spaces. Neither may grow with the space.

Trainings are compared at 100 and 100,000 items, inference logs of 30 days at 10,000 and 100,000 calls. The largest
sizes are options. A million logged calls take half an hour and several GB of memory, mostly to write them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from uuid import UUID

from functions.inference_logs import handler as logs
from functions.trainings import handler as trainings
from shared.dynamodb.repository import BUCKET_DIGITS
from shared.dynamodb.table import Item
from shared.observability import logger
from tests.fixtures.identity import Issuer
from tests.fixtures.inference_logs import call
from tests.load.emulated_store import FunctionUser, RecordedStore, emulated_store, write_items
from tests.load.harness import median_milliseconds, options, show

TRAININGS, CALLS = 100, 10_000
PERIOD = timedelta(days=30)
LIMIT = 1.2

Requests = Mapping[str, Callable[[], object]]


def add_trainings(user: FunctionUser, space_id: str, size: int) -> list[str]:
    """Stores trainings with their counters, one every ten minutes, and returns their ids."""
    now = user.resources.clock()
    # Counters of minutes and days give the position of a page.
    times = [int(now.timestamp() - 600 * age) * 1000 for age in range(size)]
    ids = [str(UUID(int=time << 80 | 7 << 76 | 2 << 62)) for time in times]
    counters: dict[str, int] = {"total": size}
    items: list[Item] = []
    for training_id in ids:
        for digits in BUCKET_DIGITS:
            bucket = f"{digits}#{training_id.replace('-', '')[:digits]}"
            counters[bucket] = counters.get(bucket, 0) + 1
        items.append(
            {
                "PK": f"training#{space_id}",
                "SK": training_id,
                "id": training_id,
                "created_at": now,
                "created_by": "bench",
                "updated_at": now,
                "version": 1,
                "name": "Training",
                "architecture": "lightgbm",
                "configuration": {"learning_rate": 0.05},
                "connectors": [{"connector_id": training_id, "target": "default"}],
                "data_model_id": training_id,
                "gpu_count": 0,
                "status": "succeeded",
            }
        )
    items += [{"PK": f"training#{space_id}#count", "SK": name, "items": number} for name, number in counters.items()]
    write_items(user.resources.table, items)
    return ids


def training_requests(user: FunctionUser, size: int) -> Requests:
    space_id = user.new_space()
    ids = add_trainings(user, space_id, size)
    get = partial(user.request, trainings.handler, "GET", space_id=space_id)
    return {
        "GET by id": get(f"/trainings/{ids[size // 3]}"),
        "page 1 of 10": get("/trainings", page="1", pageSize="10"),
        "last page of 10": get("/trainings", page=str(size // 10), pageSize="10"),
    }


def log_requests(user: FunctionUser, size: int) -> Requests:
    """Stores calls over 30 days with the rollups that the stream makes, and returns the requests to measure."""
    space_id, now = user.new_space(), user.resources.clock()
    stored = user.resources.inference_logs
    rows: list[Item] = []
    for number in range(size):
        made = call(
            now - PERIOD * number / size,
            user=f"user-{number % 10}",
            model=f"model-{number % 3}",
            type=("chat", "guard")[number % 2],
            status="error" if number % 997 == 0 else "success",
        )
        rows += stored.items(space_id, made)
    sums = stored.rollups.sums(space_id, rows)
    rollups = [{**key.values, **labels, **asdict(totals)} for key, labels, totals in sums]
    write_items(stored._table, [*rows, *rollups])
    get = partial(user.request, logs.handler, "GET", space_id=space_id)
    page = partial(get, "/inference-logs", page_size="20")
    return {
        "page 1": page(page="1"),
        "middle page": page(page=str(size // 40)),
        "last page": page(page=str(size // 20)),
        "a user's page 10": page(page="10", user="user-3"),
        "a model's page 10, of one type": page(page="10", model="model-1", type="guard"),
        "failed calls, 1 in 1,000": page(page="1", page_size="10", status="error"),
        "summary of 30 days": get("/inference-logs/summary"),
    }


def compare(
    title: str, user: FunctionUser, make: Callable[[FunctionUser, int], Requests], sizes: Sequence[int], rounds: int
) -> None:
    """Measures the requests in a space of each size and prints a table."""
    by_size = {size: make(user, size) for size in sizes}
    store = RecordedStore(user.resources.dynamodb)
    sides = {(name, size): send for size, requests in by_size.items() for name, send in requests.items()}
    times = median_milliseconds(sides, rounds)
    rows = []
    for name in by_size[sizes[0]]:
        small, large = (times[name, size] for size in sizes)
        usages = ("{} | {}".format(*store.usage(sides[name, size])) for size in sizes)
        rows.append((name, f"{small:.2f}", f"{large:.2f}", f"{large / small:.2f}", *usages))
    columns = ("", *(f"ms, {size:,}" for size in sizes), "ratio", *(f"units | requests, {size:,}" for size in sizes))
    show(f"{title} (at most {LIMIT}x the time, except for deep pages)", columns, rows)


def run(issuer: Issuer, largest_trainings: int, largest_logs: int, rounds: int) -> None:
    user = FunctionUser(issuer, trainings.app.state.resources)
    compare("Trainings", user, training_requests, (TRAININGS, largest_trainings), rounds)
    user = FunctionUser(issuer, logs.app.state.resources)
    compare("Inference logs", user, log_requests, (CALLS, largest_logs), rounds // 5)


def main() -> None:
    chosen = options(__doc__, trainings=100_000, logs=100_000, rounds=200)
    logger.setLevel("ERROR")
    with emulated_store() as issuer:
        run(issuer, chosen.trainings, chosen.logs, chosen.rounds)


if __name__ == "__main__":
    main()
