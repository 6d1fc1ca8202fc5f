"""Decides for many customers as decision runs do, compares a sample with single requests, and allocates offers.

The speed is that of one processor, by its own time: rows of a table become decided rows, over 50 actions with
conditions, 10 models and the ledgers of all customers. DynamoDB answers that no customer has a ledger, and its own time
is left out; boto3's part counts. The allocation is that of the run's last step, over random scores.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import polars as pl
from botocore.awsrequest import AWSResponse, HeadersDict

from functions.actions.service import ActionService
from functions.insights.handler import app, handler
from functions.workflows.decision_run.allocation import OptionLimit, Values, allocate
from shared.checkpoints.aliases import CheckpointAliases
from shared.decisions.moments import Moments
from shared.decisions.runs import NOTHING, DecisionWork, Offers
from shared.decisions.scoring import PropensityScorer
from shared.decisions.snapshots import kept, references
from shared.models.action import ActionCreate, ActionPriority
from shared.models.insight import Wording
from shared.observability import logger
from shared.propensity.scorers import Scorers
from shared.runs.work import Batch
from shared.spaces.members import SpaceContext
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_model
from tests.fixtures.trained_models import customers, packed, train_model
from tests.load.emulated_store import FunctionUser, emulated_store
from tests.load.harness import options, peak_mb, show

ACTIONS, MODELS, BATCH = 50, 10, 25_000
GOAL, GAP_GOAL = 2000, 0.005
PRIORITIES = list(ActionPriority)


def add_actions(user: FunctionUser, folder: Path) -> None:
    """Stores actions with conditions and channels, which share the models."""
    table = user.resources.table
    models = [add_model(table, user.space_id, packed(folder)).id for _ in range(MODELS)]
    service, scope = ActionService(table), SpaceContext(user.space_id, user.principal.user_id, is_owner=True)
    for index in range(ACTIONS):
        offer = {
            "name": f"Offer {index}",
            "description": "An offer of the bank.",
            "priority": PRIORITIES[index % len(PRIORITIES)],
            "status": "active",
            "type": "offer",
            "channel": ("email", "phone", "sms")[index % 3],
            "conditions": [f"client.age >= {18 + index}", 'client.city != "Brest"'],
            "model_id": models[index % MODELS],
        }
        service.create(scope, ActionCreate.model_validate(offer), None)


def without_ledgers(client: Any) -> None:
    """Makes a client of DynamoDB answer, without a call, that the asked items do not exist."""

    class Body:
        @staticmethod
        def stream(**_: Any) -> Any:
            yield b'{"Responses":{},"UnprocessedKeys":{}}'

    def answer(**_: Any) -> AWSResponse:
        headers = HeadersDict({"content-type": "application/x-amz-json-1.0"})
        return AWSResponse("https://dynamodb", 200, headers, Body())  # type: ignore[arg-type]

    client.meta.events.register("before-send.dynamodb.BatchGetItem", answer)


def compare_decisions(rows: int, sampled: int) -> None:
    with tempfile.TemporaryDirectory() as base, emulated_store() as issuer:
        folder = train_model(Path(base), "lightgbm", {})
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        boto3.client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        user = FunctionUser(issuer, app.state.resources)
        add_actions(user, folder)
        resources, space = user.resources, user.space_id
        moment = Moments(resources.table, resources.clock).read(space, [])
        checkpoints = CheckpointAliases(resources.table).checkpoints(space, references(moment))
        choices = {"dry_run": True, "limits": [], "wording": Wording.NONE}
        offers = Offers(kept(moment, checkpoints, {}, **choices))
        propensities = PropensityScorer(offers.snapshot, resources.s3, Scorers(), offers.snapshot)
        padding = {f"note_{place}": pl.lit(f"value {place}") for place in range(15)}
        table = customers(rows).drop("bought").with_columns(**padding).with_row_index("customer_id", 1)
        sample = table.sample(min(sampled, rows), seed=1)
        requests = [
            user.request(handler, "POST", "/insights", body={"client": row, "wording": "none"})
            for row in sample.to_dicts()
        ]
        online = {str(row): json.loads(send()) for row, send in zip(sample["customer_id"], requests, strict=True)}
        without_ledgers(resources.dynamodb)
        work = DecisionWork(space, offers, resources.insights.ledger, propensities, "0")
        work.work(_batch(table.head(100)))
        began, spent, differ = time.perf_counter(), time.process_time(), 0
        for start in range(0, rows, BATCH):
            decided = work.work(_batch(table.slice(start, BATCH))).table
            for row in decided.filter(pl.col("client_key").is_in(list(online))).iter_rows(named=True):
                differ += not _is_equal(offers, row, online[row["client_key"]])
        spent, took = time.process_time() - spent, time.perf_counter() - began
    memory = peak_mb()
    show(
        f"Decisions about {rows:,} customers, {ACTIONS} actions, {MODELS} models (at least {GOAL:,} a second a core)",
        ("a second a core", "seconds", "sampled", "different", "memory, MB"),
        [(f"{rows / spent:,.0f}", f"{took:.1f}", f"{len(online):,}", str(differ), f"{memory:,.0f}")],
    )
    if differ:
        raise SystemExit("Decisions differ from those of single requests.")


def _batch(rows: pl.DataFrame) -> Batch:
    return Batch(rows, pl.Series(range(rows.height)), "customers", 0)


def _is_equal(offers: Offers, row: dict[str, Any], insight: dict[str, Any]) -> bool:
    best: dict[str, Any] = next((each for each in insight["candidates"] if each["rank"] == 1), {})
    action = None if row["best"] == NOTHING else offers.actions[row["best"]].id
    removed = [each["action_id"] for each in insight["candidates"] if each["removed_by"]]
    ours = [action.id for action, code in zip(offers.actions, row["removed"], strict=True) if code]
    found = (action, row["channel"] or "", row["propensity"], sorted(ours))
    return found == (insight["action_id"], insight["best_channel"], best.get("propensity"), sorted(removed))


def compare_allocation(rows: int) -> None:
    random = np.random.default_rng(0)
    scale = random.uniform(5, 200, ACTIONS) * random.choice([0.5, 0.75, 1, 1.5, 2], ACTIONS)
    values: Values = random.beta(1.2, 8, (rows, ACTIONS)) * scale
    # Acceptance rates are the same for all customers.
    values[:, ::7] = 5.0
    values[random.random(values.shape) < 0.4] = -np.inf
    limits = [
        OptionLimit(f"action {each}", (each,), int(rows * random.uniform(0.002, 0.03)), rows // 1000 * (each % 9 == 0))
        for each in range(40)
    ]
    limits += [OptionLimit(f"channel {each}", tuple(range(each, ACTIONS, 4)), rows // 5) for each in range(3)]
    began = time.process_time()
    found = allocate(values, limits)
    spent = time.process_time() - began
    title = f"An allocation of {rows:,} customers and {ACTIONS} actions (gap at most {GAP_GOAL:.1%}, 120 seconds)"
    show(title, ("seconds of one core", "gap", "offers"), [
        (f"{spent:.1f}", f"{found.gap:.4%}", f"{int((found.choice != NOTHING).sum()):,}")])  # fmt: skip


def main() -> None:
    asked = options(__doc__, rows=50_000, sample=200, allocated=1_000_000)
    logger.setLevel("ERROR")
    compare_decisions(asked.rows, asked.sample)
    compare_allocation(asked.allocated)


if __name__ == "__main__":
    main()
