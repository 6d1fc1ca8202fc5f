"""The architecture `auto`: how it weighs others, what it leaves out when time is short, and what it says about it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from functions.jobs.fitting import auto
from functions.jobs.fitting.auto import blend_weights, members_for
from functions.jobs.modelling.training import Session, Workspace
from shared.propensity.log_odds import mean
from tests.unit.jobs.fits import Recorder, examples, fit, session

pytestmark = pytest.mark.row("ML-2")


def loss(labels: "np.typing.NDArray[np.float32]", log_odds: "np.typing.NDArray[np.float64]") -> float:
    return float(np.logaddexp(0, np.where(labels == 1, -log_odds, log_odds)).mean())


def test_it_says_what_it_chose_and_why_and_is_better_than_its_members(tmp_path: Path) -> None:
    into = session(tmp_path)
    models = fit("auto", into)

    chosen, weighed = into.notes
    assert chosen.startswith("auto fitted additive_8, additive_0, xgboost, catboost_6, additive_catboost, catboost_4")
    assert "300 rows with" in chosen
    assert all(f"{member.name} 0." in weighed for member in members_for(300, 150, 0))
    folds = [np.arange(300) % 2 == fold for fold in range(2)]
    data = examples()
    log_odds = np.empty(300)
    for model, held in zip(models, folds, strict=True):
        log_odds[held] = model.log_odds(data.matrix[held])
    together = float(weighed.rpartition("together ")[2].rstrip("."))
    assert loss(data.labels, log_odds) == pytest.approx(together, abs=1e-3)
    alone = [float(part.split("(")[1].split()[0]) for part in weighed.split(", ") if "alone" in part]
    assert together < np.median(alone)


def test_members_that_the_minutes_do_not_reach_are_left_out_but_never_the_scorecard(tmp_path: Path) -> None:
    into = session(tmp_path)
    (model, _) = fit("auto", into, settings={"minutes": 1e-9})

    assert into.notes[0].startswith("auto fitted additive_8 with")
    assert "additive_0, xgboost, catboost_6, additive_catboost, catboost_4 did not fit into the 1e-09" in into.notes[0]
    assert model.columns
    assert not model.forest


def test_a_member_that_is_not_done_in_time_is_left_out_with_all_after_it(tmp_path: Path) -> None:
    now = 0.0

    class SlowCatBoost(Recorder):
        def record(self, name: str, value: float, step: int) -> None:
            nonlocal now
            now += 20 if name.startswith("catboost_6") else 0.001
            super().record(name, value, step)

    clock: Callable[[], float] = lambda: now  # noqa: E731 - reads the latest time
    into = Session(Workspace.open(tmp_path, "x"), SlowCatBoost(), 1000.0, clock=clock, began=0.0)
    fit("auto", into, settings={"minutes": 1})

    assert into.notes[0].startswith("auto fitted additive_8, additive_0, xgboost with")
    assert "catboost_6, additive_catboost, catboost_4 did not fit into the 1 minutes" in into.notes[0]


def test_more_rows_get_fewer_and_larger_models() -> None:
    few, rare, rarer, many, some, graphics = (
        [member.name for member in members_for(*each)]
        for each in (
            (1_000, 500, 0),
            (50_000, 300, 0),
            (50_000, 150, 0),
            (50_000, 25_000, 0),
            (99_999, 25_000, 1),
            (500_000, 250_000, 1),
        )
    )
    assert few == rare
    assert few[0] == many[0] == "additive_8"
    assert rarer == ["additive_8", "additive_0", "additive_catboost"]
    assert many == ["additive_8", "lightgbm", "catboost_8"]
    assert some == [*many, "xgboost"]
    assert graphics == [*some, "tabm"]


def test_weights_minimise_the_loss_and_are_never_negative() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=4_000)
    labels = (random.random(4_000) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    good, copy, wrong = truth + random.normal(size=4_000), truth + random.normal(size=4_000), -truth
    weights, bias = blend_weights(np.column_stack([good, copy, wrong]), labels)

    assert weights[2] == 0
    assert weights[0] == pytest.approx(weights[1], abs=0.1)
    assert abs(bias) < 0.1
    shrunk, _ = blend_weights(np.column_stack([good, copy, wrong]), labels, shrinkage=1e9)
    assert shrunk == pytest.approx([1 / 3] * 3, abs=1e-3)

    def objective(first: float, second: float) -> float:
        penalty = 45 * ((np.array([first, second, 0]) - 1 / 3) ** 2).sum()
        return loss(labels, first * good + second * copy + bias) * 4_000 + float(penalty)

    best = objective(*weights[:2])
    for step in (-0.01, 0.01):
        assert objective(weights[0] + step, weights[1]) > best
        assert objective(weights[0], weights[1] + step) > best


def test_columns_of_one_value_are_not_in_the_scorecard(tmp_path: Path) -> None:
    data = examples()
    data.matrix[:, 1:] = 0
    both = mean(fit("auto", session(tmp_path), data))
    assert both.width == 4
    assert {column.column for column in both.columns} == {0}


def test_a_network_is_left_out_of_a_container_without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "members_for", lambda *_: (auto.SCORECARD, auto.NETWORK, auto.STRAIGHT))
    into = session(tmp_path)
    (model, _) = fit("auto", into)

    assert into.notes[0].startswith("auto left tabm out. The training container has no PyTorch")
    assert into.notes[1].startswith("auto fitted additive_8, additive_0 with")
    assert "minutes" not in into.notes[1]
    assert not model.networks
