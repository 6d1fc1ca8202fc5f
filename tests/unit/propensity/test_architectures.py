import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ValidationFailedError
from shared.propensity.architectures.configuration import (
    CatBoostConfiguration,
    LightGBMConfiguration,
    XGBoostConfiguration,
)
from shared.propensity.architectures.registry import (
    ARCHITECTURES,
    configuration_schemas,
    describe_architecture,
    validate_configuration,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.row("TR-2")
def test_an_unknown_architecture_is_refused_with_the_choices() -> None:
    with pytest.raises(ValidationFailedError, match="choose one of auto, additive, lightgbm, xgboost") as caught:
        describe_architecture("lightgbmm")

    assert caught.value.details[0].field == "body.architecture"


@pytest.mark.row("TR-2")
@pytest.mark.parametrize(
    ("architecture", "given", "field", "message"),
    [
        ("lightgbm", {"lerning_rate": 0.1}, "lerning_rate", "did you mean 'learning_rate'?"),
        ("xgboost", {"num_leaves": 8}, "num_leaves", "unknown key 'num_leaves'"),
        ("xgboost", {"zzz": 8}, "zzz", "xgboost knows ensemble_size"),
        ("lightgbm", {"learning_rate": 2}, "learning_rate", "less than or equal to 1"),
        ("lightgbm", {"learning_rate": float("nan")}, "learning_rate", "finite"),
        ("lightgbm", {"max_depth": "deep"}, "max_depth", "valid integer"),
        ("auto", {"threshold": {"rule": "cost", "false_positive": 1}}, "threshold.cost.false_negative", "required"),
        ("auto", {"threshold": {"rule": "capacity", "shares": 1}}, "threshold.capacity.share", "required"),
        ("auto", {"threshold": {"rule": "best"}}, "threshold", "'f1', 'cost', 'capacity'"),
        ("auto", {"calibration": "platt"}, "calibration", "'none', 'logistic' or 'isotonic'"),
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


@pytest.mark.row("ML-1")
def test_scoring_loads_lightgbm_and_numpy_but_no_other_library_of_models() -> None:
    heavy = ("polars", "pandas", "xgboost", "catboost", "sklearn")
    code = (
        f"import sys\nfor name in {heavy}: sys.modules[name] = None\n"
        "from pathlib import Path; from shared.propensity.checkpoints import Scorer\n"
        "for name in ('lightgbm', 'xgboost'):\n"
        "    scorer = Scorer(Path('tests/fixtures/old_checkpoints') / name)\n"
        "    print(scorer.score([{'age': 40, 'city': 'Lyon', 'active': True, 'joined': '2021-05-01'}])[0].label)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["no", "yes"]


def test_what_is_left_open_is_chosen_by_the_number_of_rows_and_what_is_given_stays() -> None:
    few, many = (LightGBMConfiguration().resolved(rows, rows // 2) for rows in (1_000, 50_000))

    assert (few.ensemble_size, many.ensemble_size) == (5, 1)
    assert (few.num_leaves, few.max_depth, few.categories) == (8, 3, "sets")
    assert (many.num_leaves, many.max_depth, many.categories, many.min_child_samples) == (127, -1, "numbers", 20)
    assert LightGBMConfiguration().resolved(40, 20).min_child_samples == 2
    assert XGBoostConfiguration(max_depth=9, ensemble_size=2).resolved(1_000, 500).max_depth == 9
    assert CatBoostConfiguration(max_depth=5).resolved(50_000, 9).max_depth == 5


@pytest.mark.row("ML-7")
def test_leaves_may_be_as_small_as_a_rare_label_needs() -> None:
    assert LightGBMConfiguration().resolved(80_000, 40).min_child_samples == 8
    assert LightGBMConfiguration().resolved(80_000, 79_960).min_child_samples == 8
    common, rare = (XGBoostConfiguration().resolved(10_000, positives) for positives in (5_000, 100))
    assert common.min_child_weight == pytest.approx(5)
    assert rare.min_child_weight == pytest.approx(20 * 0.01 * 0.99)
