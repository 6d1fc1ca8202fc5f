"""The one form of models: sums of a bias, tables and trees, read from files that nobody has to trust."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from functions.jobs.fitting.additive import fit_scorecards
from functions.jobs.fitting.base import FitTask, Hardware
from shared.propensity.errors import CheckpointError
from shared.propensity.forests import Leaf, Node, Tree, from_text, grown, to_text
from shared.propensity.log_odds import LogOddsModel, blend
from shared.propensity.xgboost_trees import read_ubjson
from tests.unit.jobs.fits import examples

OLD = Path(__file__).resolve().parents[2] / "fixtures" / "old_checkpoints"


def tree() -> Tree:
    """Returns a tree with a number, a set of categories of two words, and a missing value in each."""
    low = Node(1, (3, 40), False, Leaf(1.5, 10), Leaf(-0.25, 0.4))
    found = grown(Node(0, 0.5, True, low, Leaf(0.125, 7)))
    assert isinstance(found, Tree)
    return found


MATRIX = np.array([[0.5, 3], [0.5, 40], [0.5, 4], [np.nan, 40], [0.6, 3], [-9, np.nan], [0.1, 72]], dtype=np.float32)
VALUES = [1.5, 1.5, -0.25, 1.5, 0.125, -0.25, -0.25]


@pytest.mark.row("ML-3")
def test_a_tree_is_written_as_lightgbm_reads_it_and_read_again() -> None:
    text = to_text([tree(), tree().scaled(2.0)], 2)
    model = LogOddsModel(2, bias=1.0, forest=text)

    np.testing.assert_allclose(model.log_odds(MATRIX), 1.0 + 3 * np.array(VALUES), rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.contributions(MATRIX).sum(axis=1), model.log_odds(MATRIX), atol=1e-12)
    again, constant = from_text(text)
    assert (to_text(again, 2), constant) == (text, 0.0)


def test_the_trees_of_lightgbm_itself_survive_reading_and_writing() -> None:
    data = examples(800)
    training = lightgbm.Dataset(data.matrix, data.labels, categorical_feature=[3])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "min_data_per_group": 5}, training, 20)
    trees, constant = from_text(booster.model_to_string())

    assert any(each.categories for each in trees)
    written = LogOddsModel(4, constant, forest=to_text(trees, 4))
    raw = booster.predict(data.matrix, raw_score=True)
    np.testing.assert_allclose(written.log_odds(data.matrix), raw, rtol=0, atol=1e-12)
    explained = booster.predict(data.matrix, pred_contrib=True)
    np.testing.assert_allclose(written.contributions(data.matrix), explained, atol=1e-9)


@pytest.mark.row("ML-3")
def test_a_blend_is_the_weighted_sum_of_its_models() -> None:
    data = examples(400)
    folds = [np.arange(400) % 2 == fold for fold in range(2)]
    scorecards = fit_scorecards(FitTask(data, folds, [3], Hardware(1), 0), 8).models
    trees = LogOddsModel(4, 0.5, forest=to_text([tree()], 4))
    parts = [(0.25, scorecards[0]), (0.5, scorecards[1]), (2.0, trees), (0.0, trees)]

    together = blend(parts, bias=-1.0)

    expected = -1.0 + sum(weight * model.log_odds(data.matrix) for weight, model in parts)
    np.testing.assert_allclose(together.log_odds(data.matrix), expected, atol=1e-12)
    assert len({column.column for column in together.columns}) == len(together.columns) == 4
    assert together.forest.count("\nTree=") == 1


@pytest.mark.row("ML-5")
def test_a_single_row_is_scored_as_one_of_many_and_lightgbm_prepares_its_trees_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = examples(400)
    data.matrix[::7, 1] = np.nan
    folds = [np.arange(400) % 2 == fold for fold in range(2)]
    scorecard = fit_scorecards(FitTask(data, folds, [3], Hardware(1), 0), 8).models[0]
    trees = LogOddsModel(4, 0.5, forest=to_text([tree(), tree()], 4))
    model = blend([(1.0, scorecard), (2.0, trees)]).without_text()
    beyond = np.array([[1e9, -1e9, np.nan, -1], [-1e9, 1e9, 0, 99], [0, 0, 0, np.nan]], dtype=np.float32)
    matrix = np.concatenate([data.matrix, beyond])
    expected = model.log_odds(matrix)

    with monkeypatch.context() as without_predict:
        without_predict.setattr(lightgbm.Booster, "predict", None)
        alone = np.concatenate([model.log_odds(matrix[index : index + 1]) for index in range(len(matrix))])
        with ThreadPoolExecutor(4) as threads:
            at_once = list(threads.map(lambda row: model.log_odds(row[None])[0], matrix))

    np.testing.assert_array_equal(alone, expected)
    np.testing.assert_array_equal(at_once, expected)


def test_a_scorecard_s_tables_predict_what_was_fitted() -> None:
    data = examples(400)
    data.matrix[::50, 0] = 1e6
    folds = [np.arange(400) % 3 == fold for fold in range(3)]
    fit = fit_scorecards(FitTask(data, folds, [3], Hardware(1), 0), 8)

    for model, held in zip(fit.models, folds, strict=True):
        np.testing.assert_allclose(model.log_odds(data.matrix[held]), fit.held_out[held], atol=1e-9)
    # Beyond the values of the training the line ends, and a category without rows is like no category.
    ends = np.array([[1e9, 0, 0, 0], [1e6, 0, 0, 0], [0, 0, 0, 99], [0, 0, 0, 98]], dtype=np.float32)
    found = fit.models[0].log_odds(ends)
    assert found[0] == pytest.approx(found[1])
    assert found[2] == pytest.approx(found[3])


@pytest.mark.row("ML-1")
@pytest.mark.parametrize(
    "files",
    [
        {},
        {"scorecard.json": "{}"},
        {"scorecard.json": json.dumps({"bias": 0, "width": 2}), "trees.txt": "tree\nnot one"},
        {"scorecard.json": json.dumps({"bias": 0, "width": 3}), "trees.txt": to_text([tree()], 2)},
        {
            "scorecard.json": json.dumps(
                {"bias": 0, "width": 1, "columns": [{"column": 1, "values": [0], "missing": 0}]}
            )
        },
        {"scorecard.json": '{"bias": NaN, "width": 1}'},
    ],
)
def test_damaged_files_are_refused(files: dict[str, str]) -> None:
    with pytest.raises(CheckpointError):
        LogOddsModel.of_files({name: content.encode() for name, content in files.items()})


@pytest.mark.parametrize("cut", [0, 1, 50, 3_000, 6_000])
def test_a_damaged_file_of_xgboost_is_refused(tmp_path: Path, cut: int) -> None:
    content = (OLD / "xgboost" / "model-0.ubj").read_bytes()
    path = tmp_path / "model-0.ubj"
    path.write_bytes(content[:cut])
    with pytest.raises(CheckpointError, match="is not an XGBoost model"):
        read_ubjson(path)
    path.write_bytes(b"[$L#L" + b"\x7f" * 8)
    with pytest.raises(CheckpointError):
        read_ubjson(path)
