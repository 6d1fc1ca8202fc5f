"""Rows of a leaderboard share a rank where a paired test can't tell them apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.models.checkpoint import Checkpoint
from shared.propensity.influences import ScoredRows
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_result, add_score
from tests.fixtures.scored_rows import scored_rows
from tests.fixtures.trainings import add_benchmark, space_of

pytestmark = pytest.mark.row("Y-2")
ROWS = 2000
Evaluated = Callable[..., Checkpoint]


class Bench:
    """The rows of a benchmark, and models that see their signal through noise."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._signal = self._random.normal(size=ROWS)
        self._positive = self._random.random(ROWS) < 1 / (1 + np.exp(-1.5 * self._signal))

    def model(self, noise: float) -> ScoredRows:
        return scored_rows(self._positive, self._signal + noise * self._random.normal(size=ROWS))


@pytest.fixture
def benchmark(client: TestClient, table: Table) -> str:
    return add_benchmark(client, add_connector(table, space_of(client)))


@pytest.fixture
def evaluated(client: TestClient, table: Table, benchmark: str) -> Evaluated:
    """Returns a function that stores a checkpoint with a result of these scores."""

    def make(rows: ScoredRows, benchmark_id: str = benchmark, **fields: Any) -> Checkpoint:
        checkpoint = add_checkpoint(table, space_of(client), **fields)
        add_result(table, space_of(client), checkpoint, benchmark_id, rows)
        return checkpoint

    return make


def ranks(client: TestClient, benchmark: str, metric: str = "roc_auc", **query: Any) -> dict[str, int]:
    order = {"order_by_metric.benchmark_id": benchmark, "order_by_metric.metric_name": metric}
    response = client.get("/leaderboards", params={"benchmarks": benchmark, "limit": 100, **order, **query})
    assert response.status_code == 200, response.text
    return {row["id"]: row["rank"] for row in response.json()["data"]}


@pytest.mark.parametrize("metric", ["roc_auc", "gini", "log_loss", "ks", "accuracy", "f1", "precision", "recall"])
def test_a_rank_is_shared_where_a_paired_test_finds_no_difference(
    client: TestClient, benchmark: str, evaluated: Evaluated, metric: str
) -> None:
    bench = Bench()
    best = bench.model(0.3)
    nearly = ScoredRows(best.positive, np.clip(best.probabilities + 1e-9, 0, 1), best.called)
    far = bench.model(4.0)
    first, copy, close, last = (evaluated(rows) for rows in (best, best, nearly, far))

    found = ranks(client, benchmark, metric)

    assert found == {first.id: 1, copy.id: 1, close.id: 1, last.id: 4}
    assert ranks(client, benchmark, metric, **{"order_by_metric.direction": "asc"}) == found
    assert ranks(client, benchmark, metric, name="churn") == found


def test_a_test_of_pairs_tells_apart_what_intervals_do_not(
    client: TestClient, benchmark: str, evaluated: Evaluated
) -> None:
    bench = Bench()
    better = bench.model(0.6)
    log_odds = np.log(better.probabilities / (1 - better.probabilities))
    slightly = scored_rows(better.positive, log_odds + 0.35 * np.random.default_rng(3).normal(size=ROWS))
    first, second = evaluated(better), evaluated(slightly)

    page = client.get("/leaderboards", params={"benchmarks": benchmark}).json()["data"]

    assert [(row["id"], row["rank"]) for row in page] == [(first.id, 1), (second.id, 2)]
    assert {row["rank_test"] for row in page} == {"paired_bootstrap"}
    upper, lower = (row["intervals"][benchmark]["roc_auc"] for row in page)
    assert upper["method"] == "delong"
    assert upper["low"] < lower["high"]


def test_a_rank_is_shared_across_pages(client: TestClient, benchmark: str, evaluated: Evaluated) -> None:
    rows = Bench().model(1.0)
    models = [
        evaluated(ScoredRows(rows.positive, np.clip(rows.probabilities + 1e-12 * each, 0, 1), rows.called))
        for each in range(3)
    ]
    worst = evaluated(Bench().model(9.0))
    order = {"order_by_metric.benchmark_id": benchmark, "order_by_metric.metric_name": "log_loss"}
    found: dict[str, int] = {}
    after = ""
    while True:
        query: dict[str, str | int] = {"benchmarks": benchmark, "limit": 1, "after": after, **order}
        page = client.get("/leaderboards", params=query).json()
        found |= {row["id"]: row["rank"] for row in page["data"]}
        if not page["has_more"]:
            break
        after = page["data"][-1]["id"]
    assert found == {**{each.id: 1 for each in models}, worst.id: 4}


def test_a_result_without_replicates_is_ranked_by_its_value(
    client: TestClient, table: Table, benchmark: str, evaluated: Evaluated
) -> None:
    measured = evaluated(Bench().model(1.0))
    value = client.get("/leaderboards", params={"benchmarks": benchmark}).json()["data"][0]["order_value"]
    older = add_checkpoint(table, space_of(client))
    add_score(table, space_of(client), older, benchmark, roc_auc=value - 1e-6)

    page = client.get("/leaderboards", params={"benchmarks": benchmark}).json()["data"]

    assert [(row["id"], row["rank"], row["rank_test"]) for row in page] == [
        (measured.id, 1, "paired_bootstrap"),
        (older.id, 2, "values"),
    ]


def test_averages_over_other_benchmarks_are_not_tested(
    client: TestClient, table: Table, benchmark: str, evaluated: Evaluated
) -> None:
    other = add_benchmark(client, add_connector(table, space_of(client)))
    easy, hard = Bench(1), Bench(2)
    both = easy.model(0.5), hard.model(0.5)
    whole, copy = (evaluated(both[0]) for _ in range(2))
    for checkpoint in (whole, copy):
        add_result(table, space_of(client), checkpoint, other, both[1])
    partly = evaluated(both[0])
    # The worst result of the second benchmark counts for the one without a result: it is the same value here.
    page = client.get("/leaderboards").json()["data"]
    found = {row["id"]: (row["rank"], row["rank_test"], row["coverage"]) for row in page}
    assert found[whole.id] == found[copy.id] == (1, "paired_bootstrap", 1.0)
    assert found[partly.id] == (1, "values", 0.5)
    weaker = evaluated(easy.model(0.5000001))
    page = client.get("/leaderboards").json()["data"]
    assert next(row["rank_test"] for row in page if row["id"] == weaker.id) == "values"


@pytest.mark.row("LB-1")
def test_a_page_reads_as_much_far_down_as_on_a_small_leaderboard(
    client: TestClient, table: Table, benchmark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Bench().model(1.0)
    space_id = space_of(client)
    for each in range(60):
        add_score(table, space_id, add_checkpoint(table, space_id), benchmark, roc_auc=0.9 - each / 1000)
    add_result(table, space_id, add_checkpoint(table, space_id), benchmark, rows)
    read: list[int] = []
    original = Table.get_many

    def counted(self: Table, keys: Any, *arguments: Any, **named: Any) -> Any:
        found = original(self, keys, *arguments, **named)
        read.append(sum(1 for key in found if key.pk.startswith("score#")))
        return found

    monkeypatch.setattr(Table, "get_many", counted)
    after, costs = "", []
    for _ in range(5):
        read.clear()
        page = client.get("/leaderboards", params={"benchmarks": benchmark, "after": after}).json()
        after = page["data"][-1]["id"]
        costs.append(sum(read))
    # Ten results and the counters of their values; further down also the 20 results above and their counters.
    assert costs == [20, 40, 60, 60, 60]


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
@pytest.mark.parametrize("name", ["", "churn"])
def test_equal_values_have_the_ranks_of_one_long_page_on_pages_of_any_size(
    client: TestClient,
    benchmark: str,
    evaluated: Evaluated,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    name: str,
) -> None:
    # Fewer than there are equal rows.
    monkeypatch.setattr("functions.leaderboards.service.COMPARED_ROWS", 3)
    monkeypatch.setattr("functions.leaderboards.shared_ranks.COMPARED_ROWS", 3)
    positive = np.arange(ROWS) % 2 == 0

    def wrong_on(first: int, count: int) -> None:
        right = positive.copy()
        right[first : first + count] ^= True
        evaluated(scored_rows(positive, np.where(right, 2.0, -2.0)))

    # Equal values of two kinds: a worse row is wrong where the first kind is, so only those are surely better.
    for kind in (0, 0, 1000, 0, 1000, 0):
        wrong_on(kind, 60)
    for count in (65, 70, 75, 80, 40):
        wrong_on(0, count)
    whole = ranks(client, benchmark, metric, name=name)
    assert sorted(whole.values())[:2] == [1, 2]
    assert len(set(whole.values())) > 3

    for limit in (1, 2, 3, 5):
        for direction in ("asc", "desc"):
            order = {"order_by_metric.direction": direction, "name": name, "limit": limit}
            found: dict[str, int] = {}
            while len(found) < len(whole):
                found |= ranks(client, benchmark, metric, **order, after=next(reversed(found), ""))
            assert found == whole, (limit, direction)
