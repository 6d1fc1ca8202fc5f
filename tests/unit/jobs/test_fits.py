"""What every architecture does: stop, resume, repeat itself exactly, and become one model."""

from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pytest
import xgboost

from functions.jobs.fitting.base import Examples, TrainingStoppedError
from functions.jobs.modelling.training import Workspace
from shared.errors import JobFailedError
from shared.propensity.errors import CheckpointError
from shared.propensity.log_odds import LogOddsModel, mean
from tests.fixtures.trained_models import HERE
from tests.unit.jobs.fits import Recorder, examples, fit, session

BOOSTING = ("lightgbm", "xgboost", "catboost")
pytestmark = pytest.mark.row("ML-1")


@pytest.mark.parametrize("architecture", BOOSTING)
def test_a_stopped_fit_goes_on_from_the_round_it_reached(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(TrainingStoppedError):
        fit(architecture, session(tmp_path, Recorder(stop_after=40)))
    rest = Recorder()
    models = fit(architecture, session(tmp_path, rest))

    # The first model was done; the second had ten of its thirty rounds.
    assert [(name, step) for name, _, step in rest.records] == [
        ("validation_log_loss_2", step) for step in range(11, 31)
    ]
    whole = fit(architecture, session(tmp_path / "whole"))
    matrix = examples().matrix
    assert np.abs(mean(models).predict(matrix) - mean(whole).predict(matrix)).mean() < 0.03
    np.testing.assert_array_equal(models[0].predict(matrix), whole[0].predict(matrix))


@pytest.mark.parametrize("architecture", ["additive_catboost", "auto"])
def test_a_stopped_fit_of_several_parts_repeats_only_the_part_that_was_not_done(
    tmp_path: Path, architecture: str
) -> None:
    whole = Recorder()
    models = fit(architecture, session(tmp_path / "whole", whole))
    first = Recorder(stop_after=len(whole.records) - 5)
    with pytest.raises(TrainingStoppedError):
        fit(architecture, session(tmp_path, first))
    rest = Recorder()
    again = fit(architecture, session(tmp_path, rest))

    assert len(rest.records) < len(whole.records) / 2
    matrix = examples().matrix
    assert np.abs(mean(models).predict(matrix) - mean(again).predict(matrix)).mean() < 0.02


@pytest.mark.parametrize("architecture", HERE)
def test_a_done_fit_is_not_repeated_and_other_work_in_the_folder_is_not_used(tmp_path: Path, architecture: str) -> None:
    models = fit(architecture, session(tmp_path))
    again = Recorder()
    assert fit(architecture, session(tmp_path, again)) == models
    assert again.records == []

    Workspace.open(tmp_path, "other work")
    assert list(tmp_path.glob("member-*")) == []


@pytest.mark.row("ML-6")
@pytest.mark.parametrize("architecture", HERE)
def test_the_same_data_and_seed_give_the_same_bytes(tmp_path: Path, architecture: str) -> None:
    one, two = (mean(fit(architecture, session(tmp_path / name))).files() for name in ("one", "two"))
    assert one == two


@pytest.mark.row("ML-3")
@pytest.mark.parametrize("architecture", HERE)
def test_all_folds_become_one_model_whose_contributions_are_exact(tmp_path: Path, architecture: str) -> None:
    models = fit(architecture, session(tmp_path), count=3)
    matrix = examples().matrix
    together = LogOddsModel.of_files(mean(models).files())
    log_odds = np.mean([model.log_odds(matrix) for model in models], axis=0)

    np.testing.assert_allclose(together.log_odds(matrix), log_odds, atol=1e-12)
    found = together.contributions(matrix)
    np.testing.assert_allclose(found.sum(axis=1), log_odds, atol=1e-10)
    assert np.ptp(found[:, -1]) == 0
    assert np.mean((together.predict(matrix) >= 0.5) == (examples().labels == 1)) > 0.75


@pytest.mark.parametrize("architecture", BOOSTING)
def test_the_rounds_after_the_best_one_are_not_kept(tmp_path: Path, architecture: str) -> None:
    recorder = Recorder()
    settings = {"n_estimators": 300, "learning_rate": 0.5, "early_stopping_rounds": 5}
    (first, _) = fit(architecture, session(tmp_path, recorder), settings=settings)

    losses = [loss for name, loss, _ in recorder.records if name == "validation_log_loss"]
    assert len(losses) < 300
    assert first.forest.count("\nTree=") == int(np.argmin(losses)) + 1 == len(losses) - 5
    held = np.arange(300) % 2 == 0
    chances, labels = first.predict(examples().matrix[held]), examples().labels[held]
    assert -np.log(np.where(labels == 1, chances, 1 - chances)).mean() == pytest.approx(min(losses), abs=1e-6)


@pytest.mark.row("ML-3")
@pytest.mark.parametrize("gaps_in_numbers", [True, False])
@pytest.mark.parametrize("nan_mode", ["Min", "Max"])
def test_trees_of_catboost_are_converted_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gaps_in_numbers: bool, nan_mode: str
) -> None:
    fitted: list[tuple[Any, catboost.Pool]] = []

    class Spy(catboost.CatBoost):  # type: ignore[misc]
        def __init__(self, parameters: dict[str, Any]) -> None:
            super().__init__({**parameters, "nan_mode": nan_mode})

        def fit(self, pool: catboost.Pool, **options: Any) -> Any:
            fitted.append((self, pool))
            return super().fit(pool, **options)

    monkeypatch.setattr(catboost, "CatBoost", Spy)
    data = examples(600)
    if not gaps_in_numbers:
        data.matrix[:, 1] = np.nan_to_num(data.matrix[:, 1])
    (model, _) = fit("catboost", session(tmp_path), data)

    library, pool = fitted[0]
    rows = np.nonzero(np.arange(600) % 2 == 1)[0]
    raw = library.predict(pool, prediction_type="RawFormulaVal")
    # CatBoost keeps the log-odds that it starts from in single precision.
    difference = model.log_odds(data.matrix[rows]) - raw
    assert np.abs(difference).max() < 1e-7
    assert np.ptp(difference) < 1e-12


def test_trees_of_xgboost_are_converted_up_to_its_own_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boosters: list[xgboost.Booster] = []
    train = xgboost.train

    def spy(*args: Any, **options: Any) -> xgboost.Booster:
        boosters.append(train(*args, **options))
        return boosters[-1]

    monkeypatch.setattr(xgboost, "train", spy)
    data = examples(600)
    (model, _) = fit("xgboost", session(tmp_path), data)

    raw = boosters[0].inplace_predict(data.matrix, predict_type="margin")
    np.testing.assert_allclose(model.log_odds(data.matrix), raw, atol=1e-5)


@pytest.mark.parametrize("architecture", HERE)
@pytest.mark.parametrize("columns", [slice(0, 3), slice(3, 4)])
def test_columns_may_all_be_of_one_kind(tmp_path: Path, architecture: str, columns: slice) -> None:
    data = Examples(examples().matrix[:, columns], examples().labels)
    categorical = [0] if columns.start == 3 else []
    (model, _) = fit(architecture, session(tmp_path), data, categorical=categorical)
    assert np.ptp(model.predict(data.matrix)) > 0.1


@pytest.mark.parametrize("architecture", HERE)
@pytest.mark.parametrize("categorical", [[], [0]])
def test_a_fold_in_whose_fitted_rows_nothing_varies_gets_the_rate_of_its_labels(
    tmp_path: Path, architecture: str, categorical: list[int]
) -> None:
    matrix = np.zeros((60, 1), dtype=np.float32)
    # Of the rows of the first fold only.
    matrix[0] = 1
    labels = (np.arange(60) % 4 < 2).astype(np.float32)
    first, _ = fit(architecture, session(tmp_path), Examples(matrix, labels), categorical=categorical)
    np.testing.assert_allclose(first.predict(matrix), 0.5, atol=0.05)


@pytest.mark.parametrize("content", [b"\x80\x04not a model", b"[]", b"{}", b'{"scorecard.json": "{}"}'])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content)

    with pytest.raises(CheckpointError):
        LogOddsModel.load(path)


def test_without_pytorch_a_network_says_which_container_has_it(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match="The training container has no PyTorch, which the architecture tabm"):
        fit("tabm", session(tmp_path), settings={})
