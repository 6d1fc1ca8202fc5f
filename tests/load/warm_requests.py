"""Compares the CPU time of a warm GET by id with a bare FastAPI + Mangum + boto3 function that reads one item.

Our function reads two items, a training and the progress that its job reported, and writes its log. Repeated reads are
recorded, so the time is the function's own work on all its threads. *Remembered* uses a cached authentication. *Looked
up* checks token, membership and space for this request.
"""

import os
import statistics
import time
from logging import StreamHandler
from pathlib import Path
from typing import Any, TextIO, cast

import boto3
from fastapi import FastAPI, HTTPException
from mangum import Mangum

from functions.trainings.handler import app, handler
from shared.observability import logger
from tests.fixtures.aws import TABLE
from tests.fixtures.identity import Issuer
from tests.load.emulated_store import FunctionUser, Handler, RecordedStore, emulated_store
from tests.load.handler_latency import add_trainings
from tests.load.harness import milliseconds, options, show, take_turns

CALLS = 50
LIMIT = 1.5


def bare_function(client: Any, space_id: str) -> Handler:
    """Returns a function that reads one item and does nothing else."""
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


def run(issuer: Issuer, rounds: int) -> None:
    user = FunctionUser(issuer, app.state.resources)
    resources = user.resources
    RecordedStore(resources.dynamodb)
    path = f"/trainings/{add_trainings(user, user.space_id, 10)[3]}"
    bare = bare_function(resources.dynamodb, user.space_id)
    remembered = user.request(handler, "GET", path)

    def looked_up() -> None:
        resources.authentication._cache._kept.clear()
        remembered()

    sides = {"bare": user.request(bare, "GET", path), "remembered": remembered, "looked up": looked_up}
    measures = {name: milliseconds(send, calls=CALLS, clock=time.process_time) for name, send in sides.items()}
    times = {name: statistics.median(values) for name, values in take_turns(measures, rounds).items()}
    rows = [(name, f"{spent:.2f}", f"{spent / times['bare']:.2f}") for name, spent in times.items()]
    show(f"CPU time of a warm GET by id (remembered at most {LIMIT}x)", ("", "ms", "ratio"), rows)


def main() -> None:
    rounds = options(__doc__, rounds=20).rounds
    logger.setLevel("INFO")
    with Path(os.devnull).open("w") as nowhere, emulated_store() as issuer:
        cast("StreamHandler[TextIO]", logger.registered_handler).setStream(nowhere)
        run(issuer, rounds)


if __name__ == "__main__":
    main()
