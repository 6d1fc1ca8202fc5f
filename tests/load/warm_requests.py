"""CPU time of a warm GET by id, against a bare FastAPI + Mangum + boto3 function that reads one item, in turns.

Ours reads two items, a training and what its job has reported, and writes its log, as when deployed. The store answers
each request once; the timed repeats are given that answer again, so that what is timed is the function's own work, on
all of its threads. ``remembered``: the caller was let into the space within the last seconds (``admission_seconds``).
``looked up``: token, membership and space are checked for this very request.
"""

import os
import statistics
import time
from collections.abc import Callable
from logging import StreamHandler
from pathlib import Path
from typing import Any, TextIO, cast

import boto3
from fastapi import FastAPI, HTTPException
from mangum import Mangum
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable
from shared.aws.resources import Resources

from functions.spaces.service import SpaceService
from functions.trainings.handler import app, handler
from shared.models.space import SpaceCreate
from shared.observability import logger
from tests.fixtures.aws import TABLE
from tests.fixtures.identity import Issuer
from tests.load.emulated_store import LambdaContext, emulated_store, gateway_event
from tests.load.handler_latency import RecordedStore, fill

ROUNDS = 20
CALLS = 50
LIMIT = 1.5

Call = Callable[[], dict[str, Any]]


def bare_function(client: Any, space_id: str) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """What reads an item and answers it, and does nothing else."""
    bare = FastAPI()
    table = boto3.resource("dynamodb").Table(TABLE)
    own_client: Any = table.meta.client
    own_client._endpoint.http_session = client._endpoint.http_session

    @bare.get("/trainings/{id}")
    def get(id: str) -> dict[str, Any]:
        found = table.get_item(Key={"PK": f"training#{space_id}", "SK": id}, ConsistentRead=True)
        if "Item" not in found:
            raise HTTPException(404)
        return dict(found["Item"])

    return Mangum(bare, lifespan="off")


def measure(calls: dict[str, Call]) -> dict[str, float]:
    """Median milliseconds of CPU time a call."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in track(range(-1, ROUNDS), "calling", transient=True):
        for name, call in calls.items():
            began = time.process_time()
            for _ in range(CALLS):
                answer = call()
            spent = (time.process_time() - began) / CALLS
            if answer["statusCode"] != 200:
                raise SystemExit(f"{name}: {answer['body']}")
            if turn >= 0:
                times[name].append(spent * 1000)
    return {name: statistics.median(each) for name, each in times.items()}


def run(issuer: Issuer) -> RichTable:
    resources: Resources = app.state.resources
    RecordedStore(resources.dynamodb)
    token = issuer.token("bench", expires_in=3600)
    principal = resources.token_verifier.verify(token)
    space_id = SpaceService(resources).create(principal, SpaceCreate(name="b", description=""), None).id
    path = f"/trainings/{fill(space_id, 10)[3]}"
    bare = bare_function(resources.dynamodb, space_id)
    event = gateway_event("GET", path, token, space_id)

    def remembered() -> dict[str, Any]:
        return handler(event, LambdaContext())

    def looked_up() -> dict[str, Any]:
        resources.admissions._kept.clear()
        return handler(event, LambdaContext())

    found = measure({"bare": lambda: bare(event, LambdaContext()), "remembered": remembered, "looked up": looked_up})
    shown = RichTable(title=f"CPU time of a warm GET by id (remembered at most {LIMIT}x)")
    for column in ("", "ms", "ratio"):
        shown.add_column(column, justify="right" if column else "left")
    for name, spent in found.items():
        shown.add_row(name, f"{spent:.2f}", f"{spent / found['bare']:.2f}")
    return shown


def main() -> None:
    logger.setLevel("INFO")
    with Path(os.devnull).open("w") as nowhere, emulated_store() as issuer:
        cast("StreamHandler[TextIO]", logger.registered_handler).setStream(nowhere)
        shown = run(issuer)
    Console().print(shown)


if __name__ == "__main__":
    main()
