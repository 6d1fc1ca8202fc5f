import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.jobs.modelling.training import MemberState, MemberWatcher, TrainingStoppedError, Workspace, fit_ensemble
from shared.errors import ValidationFailedError
from shared.propensity.architectures.base import Examples, Hardware
from shared.propensity.architectures.configuration import LightGBMConfiguration, XGBoostConfiguration
from shared.propensity.architectures.registry import (
    ARCHITECTURES,
    configuration_schemas,
    describe_architecture,
    validate_configuration,
)
from shared.propensity.ensemble import Ensemble
from shared.propensity.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.row("TR-2")
def test_an_unknown_architecture_is_refused_with_the_choices() -> None:
    with pytest.raises(ValidationFailedError, match="choose one of lightgbm, xgboost") as caught:
        describe_architecture("lightgbmm")

    assert caught.value.details[0].field == "body.architecture"


@pytest.mark.row("TR-2")
@pytest.mark.parametrize(
    ("architecture", "given", "field", "message"),
    [
        ("lightgbm", {"lerning_rate": 0.1}, "lerning_rate", "did you mean 'learning_rate'?"),
        ("xgboost", {"num_leaves": 8}, "num_leaves", "unknown key 'num_leaves'"),
        ("xgboost", {"zzz": 8}, "zzz", "xgboost knows n_estimators"),
        ("lightgbm", {"learning_rate": 2}, "learning_rate", "less than or equal to 1"),
        ("lightgbm", {"learning_rate": float("nan")}, "learning_rate", "finite"),
        ("lightgbm", {"max_depth": "deep"}, "max_depth", "valid integer"),
        ("xgboost", {"excluded_columns": ["a", 3]}, "excluded_columns.1", "valid string"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_the_path(
    architecture: str, given: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        validate_configuration(architecture, given)

    assert caught.value.details[0].field == f"body.configuration.{field}"
    assert message in caught.value.details[0].message
    assert caught.value.status == 400


def test_every_architecture_publishes_a_closed_schema_with_words_for_each_field_and_has_a_license() -> None:
    for name, schema in configuration_schemas().items():
        assert schema["additionalProperties"] is False
        assert all(field.get("description") for field in schema["properties"].values())
        assert ARCHITECTURES[name].license in {"MIT", "Apache-2.0", "BSD-3-Clause"}


def test_checking_a_configuration_loads_no_numerical_library() -> None:
    code = (
        "import sys; from shared.propensity.architectures.registry import validate_configuration;"
        "validate_configuration('xgboost', {'max_depth': 4});"
        "print([name for name in ('numpy', 'polars', 'lightgbm', 'xgboost', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_scoring_loads_no_data_frame_library() -> None:
    code = (
        "import sys; from shared.propensity.checkpoints import Scorer; from shared.propensity.artifacts import *;"
        "from shared.propensity.architectures.registry import ARCHITECTURES;"
        "[description.load() for description in ARCHITECTURES.values()];"
        "print([name for name in ('polars',) if 'functions.jobs.modelling.frames' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_what_is_left_open_is_chosen_by_the_number_of_rows_and_what_is_given_stays() -> None:
    few, many, most = (LightGBMConfiguration().resolved(rows) for rows in (1_000, 50_000, 300_000))

    assert (few.ensemble_size, many.ensemble_size) == (5, 1)
    assert (few.max_depth, many.max_depth, most.max_depth) == (3, 6, 8)
    assert (few.num_leaves, most.num_leaves) == (8, 63)
    assert LightGBMConfiguration().resolved(40).min_child_samples == 2
    assert XGBoostConfiguration(max_depth=9, ensemble_size=2).resolved(1_000).max_depth == 9


class Recorder:
    """Collects the records, and asks to stop after some of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.records: list[tuple[str, float, int]] = []
        self.stop_after = stop_after

    def record(self, name: str, value: float, step: int) -> None:
        self.records.append((name, value, step))

    @property
    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.records) >= self.stop_after


def examples(rows: int = 300) -> Examples:
    random = np.random.default_rng(2)
    matrix = random.normal(size=(rows, 4)).astype(np.float32)
    matrix[:, 3] = random.integers(0, 5, rows)
    matrix[random.random(rows) < 0.2, 1] = np.nan
    return Examples(matrix, (matrix[:, 0] + (matrix[:, 3] == 2) > 0.3).astype(np.float32))


def fit(architecture: str, folder: Path, recorder: Recorder, rounds: int = 30) -> Ensemble:
    given = {"n_estimators": rounds, "early_stopping_rounds": 1000, "ensemble_size": 2}
    data = examples()
    family = ARCHITECTURES[architecture].load()
    folds = [np.arange(len(data)) % 2 == fold for fold in range(2)]
    configuration = validate_configuration(architecture, given).resolved(len(data))
    workspace = Workspace.open(folder, family.suffix, "the same work")
    return fit_ensemble(family, configuration, data, folds, [3], 0, 7, recorder, workspace, 0.0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_stopped_fit_goes_on_from_the_round_it_reached(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(TrainingStoppedError):
        fit(architecture, tmp_path, Recorder(stop_after=40))
    rest = Recorder()
    ensemble = fit(architecture, tmp_path, rest)

    # The first model was done; the second had ten of its thirty rounds.
    assert [(name, step) for name, _, step in rest.records] == [
        ("validation_log_loss_2", step) for step in range(11, 31)
    ]
    whole = fit(architecture, tmp_path / "whole", Recorder())
    matrix = examples().matrix
    assert np.abs(ensemble.predict(matrix) - whole.predict(matrix)).mean() < 0.03
    np.testing.assert_array_equal(ensemble.members[0].predict(matrix), whole.members[0].predict(matrix))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_done_fit_is_not_repeated_and_other_work_in_the_folder_is_not_used(tmp_path: Path, architecture: str) -> None:
    fit(architecture, tmp_path, Recorder())
    again = Recorder()
    fit(architecture, tmp_path, again)
    assert again.records == []

    Workspace.open(tmp_path, ARCHITECTURES[architecture].load().suffix, "other work")
    assert list(tmp_path.glob("member-*")) == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_model_predicts_what_the_fitted_one_did(tmp_path: Path, architecture: str) -> None:
    family: Any = ARCHITECTURES[architecture].load()
    data = examples()
    state = MemberState()
    watcher = MemberWatcher(state, 5, Workspace(tmp_path, family.suffix), 0, Recorder(), 1000.0)
    configuration = validate_configuration(architecture, {"n_estimators": 300, "learning_rate": 0.5}).resolved(
        len(data)
    )
    half = np.arange(len(data)) < 150
    rows, others = np.nonzero(half)[0], np.nonzero(~half)[0]
    model = family.fit(configuration, data.take(rows), data.take(others), [3], Hardware(threads=1), 0, watcher)

    model.save(tmp_path / f"model{family.suffix}")
    loaded = family.load(tmp_path / f"model{family.suffix}")

    assert state.rounds == watcher.best_round + 5
    assert state.losses[watcher.best_round - 1] == min(state.losses)
    np.testing.assert_allclose(loaded.predict(data.matrix), model.predict(data.matrix), atol=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, architecture: str) -> None:
    family = ARCHITECTURES[architecture].load()
    path = tmp_path / f"model{family.suffix}"
    path.write_bytes(b"\x80\x04not a model")

    with pytest.raises(CheckpointError, match="is not a"):
        family.load(path)
