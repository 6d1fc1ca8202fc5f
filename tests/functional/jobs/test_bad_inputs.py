"""Data that teach nothing, or too much: a training ends with a model, or with what is wrong."""

import io
import threading
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from functions.jobs.sources import label_column
from functions.jobs.train.job import train
from shared.errors import JobFailedError
from shared.models.job import MetricName
from shared.propensity.checkpoints import Scorer
from tests.fixtures.trained_models import quick
from tests.functional.jobs.conftest import Box, Cloud, training

pytestmark = pytest.mark.row("TR-3")
ROWS = 120
BOTH = ["yes" if index % 3 else "no" for index in range(ROWS)]


def frame(bought: list[str] = BOTH, **columns: Any) -> pl.DataFrame:
    values = np.random.default_rng(1).normal(size=len(bought))
    return pl.DataFrame({"x": values, **columns, "bought": bought})


def learn(box: Box, cloud: Cloud, rows: pl.DataFrame, architecture: str, **settings: Any) -> Scorer:
    """Returns the scorer of a training, after it has scored rows of the same table."""
    content = io.BytesIO()
    rows.write_parquet(content)
    split = settings.pop("split", None)
    dataset = {"connector_id": "c", "files": [cloud.put("a.parquet", content.getvalue())], "target": "bought"}
    configuration = {**quick(architecture), **settings}
    datasets = [{**dataset, "split": split}]
    job = training([], datasets=datasets, architecture=architecture, configuration=configuration)
    train(job, box.container, threading.Event(), cloud.client)
    scorer = Scorer(box.container.model_folder)
    assert all(0 <= each.probability <= 1 for each in scorer.score(rows.drop("bought").head(20).to_dicts()))
    return scorer


@pytest.mark.parametrize("architecture", ["auto", "lightgbm"])
@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"bad": [f"c{index}" for index in range(ROWS)]}, "it is an identifier"),
        ({"bad": pl.Series([None] * ROWS, dtype=pl.Float64)}, "every value is missing"),
        ({"bad": [float("inf") if index % 2 else float("-inf") for index in range(ROWS)]}, ""),
        ({"bad": [float("inf") if index % 2 else float(index) for index in range(ROWS)]}, ""),
        ({"bad": [(-1.0) ** index * 3e38 for index in range(ROWS)]}, ""),
        ({"timestamp": np.arange(2**64 - ROWS, 2**64, dtype=np.uint64)}, ""),
        ({"customer_id": [{"$oid": str(index % 9)} for index in range(ROWS)]}, "its values are lists or objects"),
        ({"bad": [("\u00e9", "e\u0301", "\U0001f600", '"a\nb')[index % 4] for index in range(ROWS)]}, ""),
    ],
)
def test_a_column_of_no_use_is_left_out_or_does_no_harm(
    box: Box, cloud: Cloud, columns: dict[str, Any], reason: str, architecture: str
) -> None:
    checkpoint = learn(box, cloud, frame(**columns), architecture).checkpoint
    dropped = {column.name: column.reason for column in checkpoint.features.dropped}
    assert not reason or reason in dropped[next(iter(columns))]
    assert {feature.name for feature in checkpoint.features.features} >= {"x"}


@pytest.mark.parametrize("architecture", ["lightgbm", "xgboost", "catboost", "additive"])
def test_thirty_thousand_categories_are_those_that_are_frequent_and_others(
    box: Box, cloud: Cloud, architecture: str
) -> None:
    many = 40_000
    texts = [f"k{index % 30_000}" for index in range(many - 2_000)] + ["often"] * 2_000
    bought = ["yes" if index % 3 else "no" for index in range(many)]
    (_, feature) = learn(box, cloud, frame(bought, bad=texts), architecture).checkpoint.features.features
    assert (len(feature.categories), feature.categories[0], feature.others) == (254, "often", True)


@pytest.mark.parametrize("architecture", ["auto", "lightgbm", "catboost"])
@pytest.mark.parametrize("models", [1, 5])
def test_four_rows_of_a_label_are_enough_for_a_model(box: Box, cloud: Cloud, architecture: str, models: int) -> None:
    learn(box, cloud, frame(["yes"] * 4 + ["no"] * 116), architecture, ensemble_size=models)


@pytest.mark.parametrize("architecture", ["auto", "xgboost"])
def test_a_column_that_gives_the_target_away_is_learned_and_named(box: Box, cloud: Cloud, architecture: str) -> None:
    checkpoint = learn(box, cloud, frame(bad=[f"{label}!" for label in BOTH]), architecture).checkpoint
    assert checkpoint.notes[0].startswith("The column 'bad' alone predicts 'bought' almost perfectly")
    assert checkpoint.measurement.metrics[MetricName.ROC_AUC] == pytest.approx(1.0)


@pytest.mark.parametrize("architecture", ["auto", "catboost"])
def test_a_small_share_for_validation_is_a_row_of_each_label(box: Box, cloud: Cloud, architecture: str) -> None:
    learn(box, cloud, frame(), architecture, ensemble_size=1, validation_fraction=1e-6)


@pytest.mark.parametrize("kind", ["time", "group"])
@pytest.mark.parametrize(
    "column",
    [
        [float("inf") if index % 9 == 0 else float(index % 20) for index in range(ROWS)],
        [float("nan") if index % 9 == 0 else float(index % 20) for index in range(ROWS)],
        [None if index % 3 else date(2024, 1, 1) + timedelta(days=index) for index in range(ROWS)],
        [date(2024, 1, 1 + index % 2) for index in range(ROWS)],
    ],
)
def test_a_split_by_a_column_of_any_kind_has_rows_on_both_sides(
    box: Box, cloud: Cloud, kind: str, column: list[Any]
) -> None:
    split = {"kind": kind, "column": "bad", "test_fraction": 0.3}
    checkpoint = learn(box, cloud, frame(bad=column), "additive", split=split).checkpoint
    assert 0 < checkpoint.measurement.rows < ROWS


def test_a_target_of_one_label_and_a_table_without_features_end_in_words(box: Box, cloud: Cloud) -> None:
    with pytest.raises(JobFailedError, match="has only one label"):
        learn(box, cloud, frame(["yes"] * ROWS), "auto")
    with pytest.raises(JobFailedError, match="No column can be used as a feature"):
        learn(box, cloud, frame(x=[1.0] * ROWS), "auto")


def test_a_label_column_of_another_name_replaces_one_with_the_name_of_the_target() -> None:
    rows = frame(left=BOTH).with_columns(bought=pl.lit("something else"))
    read = label_column(rows.lazy(), column="left", target="bought").collect()
    assert read.columns == ["x", "bought"]
    assert read["bought"].to_list() == BOTH
