"""An insight over 50 actions on 20 models, against scoring the same client with the libraries directly.

Timed is the warm handler's whole answer without a language model: reading actions, policy, contacts and models' names,
scoring, arbitration, contributions, storing. The store answers reads from a record (see ``handler_latency``), and
writes too; the libraries are given rows that are encoded already, and one thread, with which they are fastest.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable
from shared.aws.resources import Resources
from shared.store.members import Scope

from functions.actions.service import ActionService
from functions.insights.arbitration import Contender, arbitrate
from functions.insights.handler import app, handler
from functions.spaces.service import SpaceService
from shared.http.tokens import Principal
from shared.models.action import ActionCreate, ActionPriority
from shared.models.space import SpaceCreate
from shared.observability import logger
from shared.propensity.checkpoints import Scorer
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_model
from tests.fixtures.trained_models import packed, train_model
from tests.load.emulated_store import LambdaContext, emulated_store, gateway_event
from tests.load.handler_latency import RecordedStore

ACTIONS, MODELS = 50, 20
ARCHITECTURES = ("lightgbm", "xgboost")
CLIENT = {"id": 1, "age": 40, "city": "Lyon", "active": True, "joined": "2021-05-01"}
ROUNDS = 200
WARM_UP = 5
LIMIT = 3.0
CONTENDERS = (100, 1000)
WRITES = ("PutItem", "TransactWriteItems", "BatchWriteItem")


class RecordedWrites(RecordedStore):
    """Answers writes from the record, too: no two of them are alike, as each has ids of its own."""

    def send(self, request: Any) -> Any:
        target = str(request.headers["X-Amz-Target"])
        if target.rpartition(".")[2] not in WRITES:
            return super().send(request)
        body, request.body = request.body, b""
        if (target, b"") not in self._answers:
            request.body = body
            answer = self._session.send(request)
            self._answers[target, b""] = (answer.status_code, answer.headers, answer.content)
            request.body = b""
        return super().send(request)


def fill(resources: Resources, principal: Principal, folders: list[Path]) -> str:
    """A space with the actions, each on one of the models: every architecture's model, stored so often."""
    table = resources.table
    space_id = SpaceService(resources).create(principal, SpaceCreate(name="b", description=""), None).id
    archives = [packed(folder) for folder in folders]
    models = [add_model(table, space_id, archives[index % len(archives)]).id for index in range(MODELS)]
    service, scope = ActionService(table), Scope(space_id, principal.user_id)
    priorities = list(ActionPriority)
    for index in range(ACTIONS):
        offer = {
            "name": f"Offer {index}",
            "description": "An offer of the bank, in a sentence or two that say what the client gets from it.",
            "priority": priorities[index % len(priorities)],
            "status": "active",
            "type": "offer",
            "channel": ("email", "phone")[index % 2],
            "model_id": models[index % MODELS],
        }
        service.create(scope, ActionCreate.model_validate(offer), None)
    return space_id


def insight(token: str, space_id: str) -> None:
    event = gateway_event("POST", "/insights", token, space_id) | {"body": json.dumps({"client": CLIENT})}
    answer = handler(event, LambdaContext())
    body = json.loads(answer["body"])
    if answer["statusCode"] != 200 or {each["score_source"] for each in body["candidates"]} != {"model"}:
        raise SystemExit(f"no insight by models: {answer['body'][:1000]}")


def libraries(folders: list[Path]) -> Callable[[], None]:
    """The models' own files in their own libraries, and an encoded row for each."""
    import lightgbm
    import xgboost

    models: list[list[Callable[[], Any]]] = []
    for index in range(MODELS):
        folder = folders[index % len(folders)]
        checkpoint = Scorer(folder).checkpoint
        row = checkpoint.features.encode_rows([CLIENT])
        members: list[Callable[[], Any]] = []
        for name in checkpoint.model_files:
            if checkpoint.architecture == "lightgbm":
                tree = lightgbm.Booster(model_file=folder / name)
                members.append(partial(tree.predict, row, num_threads=1))
            else:
                forest = xgboost.Booster({"nthread": 1}, model_file=folder / name)
                members.append(partial(forest.inplace_predict, row))
        models.append(members)

    def score() -> None:
        for members in models:
            np.mean([predict() for predict in members], axis=0)

    return score


def measure(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of interleaved calls."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in track(range(-WARM_UP, rounds), "deciding", transient=True):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn >= 0:
                times[name].append((time.perf_counter() - began) * 1000)
    return times


def decisions(rounds: int) -> RichTable:
    with tempfile.TemporaryDirectory() as base:
        folders = [train_model(Path(base) / name, name, {}) for name in ARCHITECTURES]
        with emulated_store() as issuer:
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            boto3.client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
            resources: Resources = app.state.resources
            token = issuer.token("bench", expires_in=7200)
            space_id = fill(resources, resources.token_verifier.verify(token), folders)
            now = resources.clock()
            resources.clock = lambda: now
            began = time.perf_counter()
            insight(token, space_id)
            first = time.perf_counter() - began
            RecordedWrites(resources.dynamodb)
            direct = libraries(folders)
            times = measure({"insight": lambda: insight(token, space_id), "libraries": direct}, rounds)
    shown = RichTable(title=f"An insight over {ACTIONS} actions on {MODELS} models of 5; the first took {first:.1f} s")
    for column in ("", "insight, ms", "libraries, ms", "ratio", "at most"):
        shown.add_column(column, justify="right")
    for name, percent in (("p50", 50), ("p99", 99)):
        ours, theirs = (statistics.quantiles(times[each], n=100)[percent - 1] for each in ("insight", "libraries"))
        shown.add_row(name, f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}", f"{LIMIT:g}")
    return shown


def arbitration(rounds: int) -> RichTable:
    random = np.random.default_rng(1)
    priorities = list(ActionPriority)
    few, many = (
        [
            Contender(str(index), float(value), priorities[index % len(priorities)])
            for index, value in enumerate(random.random(size))
        ]
        for size in CONTENDERS
    )
    times = measure({"few": lambda: void(arbitrate(few)), "many": lambda: void(arbitrate(many))}, rounds)
    each = [statistics.median(times[name]) * 1000 / size for name, size in zip(times, CONTENDERS, strict=True)]
    shown = RichTable(title="Arbitration: microseconds for each action")
    for column in (*(f"of {size:,}" for size in CONTENDERS), "ratio"):
        shown.add_column(column, justify="right")
    shown.add_row(*(f"{value:.2f}" for value in each), f"{each[1] / each[0]:.2f}")
    return shown


def void(_: object) -> None:
    """Lets go of an answer."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.insight_latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"measured insights ({ROUNDS})")
    rounds = parser.parse_args().rounds
    logger.setLevel("ERROR")
    console = Console()
    console.print(decisions(rounds))
    console.print(arbitration(rounds))


if __name__ == "__main__":
    main()
