"""Compares an insight over 50 actions with 20 models with LightGBM, which scores the same client directly.

The measured time is the whole warm response with ``wording: none``. It reads actions, policy, contacts and the names of
models, scores, arbitrates, explains and stores. Reads and writes get recorded responses. LightGBM gets encoded rows and
one thread, with which it is fastest.
"""

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import lightgbm
import numpy as np

from functions.actions.service import ActionService
from functions.insights.handler import app, handler
from shared.decisions.arbitration import Contender, arbitrate
from shared.models.action import ActionCreate, ActionPriority
from shared.observability import logger
from shared.propensity.checkpoints import Scorer
from shared.spaces.members import SpaceContext
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_model
from tests.fixtures.trained_models import packed, train_model
from tests.load.emulated_store import FunctionUser, RecordedStore, emulated_store
from tests.load.harness import median_milliseconds, milliseconds, options, percentile, show, take_turns

ACTIONS, MODELS = 50, 20
ARCHITECTURES = ("auto", "lightgbm", "xgboost")
CLIENT = {"id": 1, "age": 40, "city": "Lyon", "active": True, "joined": "2021-05-01"}
LIMIT = 2.0
FEW, MANY = 100, 1000
PRIORITIES = list(ActionPriority)
WEIGHTS = [0.5, 0.75, 1.0, 1.5, 2.0]


def add_actions(user: FunctionUser, folders: list[Path]) -> None:
    """Stores copies of one model for each architecture, and actions, each with one of these copies."""
    table = user.resources.table
    archives = [packed(folder) for folder in folders]
    models = [add_model(table, user.space_id, archives[index % len(archives)]).id for index in range(MODELS)]
    service, scope = ActionService(table), SpaceContext(user.space_id, user.principal.user_id, is_owner=True)
    for index in range(ACTIONS):
        offer = {
            "name": f"Offer {index}",
            "description": "An offer of the bank, in a sentence or two that describe the client's benefit.",
            "priority": PRIORITIES[index % len(PRIORITIES)],
            "status": "active",
            "type": "offer",
            "channel": ("email", "phone")[index % 2],
            "model_id": models[index % MODELS],
        }
        service.create(scope, ActionCreate.model_validate(offer), None)


def library(folders: list[Path]) -> Callable[[], None]:
    """Returns a function that scores an encoded row with each model's trees in LightGBM."""
    models: list[Callable[[], Any]] = []
    for index in range(MODELS):
        folder = folders[index % len(folders)]
        row = Scorer(folder).checkpoint.features.encode_rows([CLIENT])
        trees = lightgbm.Booster(model_file=folder / "trees.txt")
        models.append(partial(trees.predict, row, num_threads=1))

    def score() -> None:
        for predict in models:
            predict()

    return score


def compare_insights(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as base, emulated_store() as issuer:
        folders = [train_model(Path(base) / name, name, {}) for name in ARCHITECTURES]
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        boto3.client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        user = FunctionUser(issuer, app.state.resources)
        add_actions(user, folders)
        insight = user.request(handler, "POST", "/insights", body={"client": CLIENT, "wording": "none"})
        candidates = json.loads(insight())["candidates"]
        if {candidate["score_source"] for candidate in candidates} != {"model"}:
            raise SystemExit(f"No insight by models: {candidates}")
        RecordedStore(user.resources.dynamodb, records_writes=True)
        sides = {"insight": milliseconds(insight), "LightGBM": milliseconds(library(folders))}
        times = take_turns(sides, rounds, warm_up=5)
    rows = []
    for percent in (50, 99):
        ours, theirs = (percentile(values, percent) for values in times.values())
        rows.append((f"p{percent}", f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"))
    title = f"An insight over {ACTIONS} actions on {MODELS} models (at most {LIMIT:g}x)"
    show(title, ("", "insight, ms", "LightGBM, ms", "ratio"), rows)


def compare_arbitration(rounds: int) -> None:
    random = np.random.default_rng(1)
    sides = {
        size: partial(
            arbitrate,
            [
                Contender(str(index), float(value), WEIGHTS[index % len(WEIGHTS)])
                for index, value in enumerate(random.random(size))
            ],
        )
        for size in (FEW, MANY)
    }
    few, many = (spent * 1000 / size for size, spent in median_milliseconds(sides, rounds).items())
    columns = ("", f"of {FEW:,}", f"of {MANY:,}", "ratio")
    show("Arbitration", columns, [("µs for each action", f"{few:.2f}", f"{many:.2f}", f"{many / few:.2f}")])


def main() -> None:
    rounds = options(__doc__, rounds=200).rounds
    logger.setLevel("ERROR")
    compare_insights(rounds)
    compare_arbitration(rounds)


if __name__ == "__main__":
    main()
