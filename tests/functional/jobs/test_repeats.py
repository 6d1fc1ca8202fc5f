"""What the held-out rows share with the fitted ones must not make a model look better than it is for others."""

import threading
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from functions.jobs.modelling.metrics import roc_curve
from functions.jobs.modelling.splits import held_out_rows
from functions.jobs.train.job import train
from shared.models.job import JobDataset, JobSplit, MetricName
from shared.propensity.checkpoints import Scorer, StoredCheckpoint, read_checkpoint
from tests.functional.jobs.conftest import Box, Cloud, training

DEEP = {"n_estimators": 60, "early_stopping_rounds": 15, "ensemble_size": 3, "max_depth": 8, "learning_rate": 0.3}
NUMBERS = [f"x{place}" for place in range(6)]


def noise(random: np.random.Generator, rows: int) -> pl.DataFrame:
    """Returns rows whose label has hardly a reason."""
    values = random.normal(size=(rows, len(NUMBERS)))
    chance = 1 / (1 + np.exp(-0.7 * values[:, 0]))
    labels = np.where(random.random(rows) < chance, "yes", "no")
    return pl.DataFrame(dict(zip(NUMBERS, values.T, strict=True))).with_columns(bought=pl.Series(labels))


def train_on(box: Box, cloud: Cloud, frame: pl.DataFrame, split: JobSplit | None = None) -> StoredCheckpoint:
    dataset = JobDataset(connector_id="c", files=[cloud.put_frame("a.csv", frame)], target="bought", split=split)
    job = training([], datasets=[dataset], architecture="xgboost", configuration=DEEP)
    train(job, box.container, threading.Event(), cloud.client)
    return read_checkpoint(box.container.model_folder)


def auc_on(box: Box, frame: pl.DataFrame) -> float:
    scores = Scorer(box.container.model_folder).score(frame.to_dicts())
    labels = (frame["bought"] == "yes").to_numpy().astype(float)
    return roc_curve(labels, np.array([score.probability for score in scores])).area


@pytest.mark.row("FL-9")
@pytest.mark.parametrize("split", [None, JobSplit(kind="random")])
def test_copies_with_numbers_of_their_own_do_not_cross_the_holdout(
    box: Box, cloud: Cloud, split: JobSplit | None
) -> None:
    random = np.random.default_rng(4)
    frame = noise(random, 300)[random.integers(0, 300, 1500)].with_columns(row_id=pl.int_range(1500))

    checkpoint = train_on(box, cloud, frame, split)

    claimed = checkpoint.measurement.metrics[MetricName.ROC_AUC] or 0
    assert claimed == pytest.approx(auc_on(box, noise(random, 2000).with_columns(row_id=0)), abs=0.12)
    assert any("seem to be copies" in note for note in checkpoint.notes)
    # The rule finds the same rows in another order and with other types.
    moved = frame.reverse().with_columns(pl.col(NUMBERS).cast(pl.String))
    nothing = np.zeros(1500)
    labels = (frame["bought"] == "yes").to_numpy().astype(np.float32)
    held_out = held_out_rows(checkpoint.holdout, frame, nothing, labels)
    np.testing.assert_array_equal(held_out_rows(checkpoint.holdout, moved, nothing, labels[::-1]), held_out[::-1])
    kept, held = (set(frame.filter(rows).select(NUMBERS).rows()) for rows in (~held_out, held_out))
    assert not kept & held


@pytest.mark.row("FL-9")
def test_rows_of_few_values_are_held_out_one_by_one(box: Box, cloud: Cloud) -> None:
    random = np.random.default_rng(4)
    answers = random.integers(0, 8, size=(900, 3))
    chance = 1 / (1 + np.exp(-(answers[:, 0] - 4)))
    frame = pl.DataFrame({"a": answers[:, 0], "b": answers[:, 1], "c": answers[:, 2]}).with_columns(
        bought=pl.Series(np.where(random.random(900) < chance, "yes", "no"))
    )

    checkpoint = train_on(box, cloud, frame)

    assert checkpoint.holdout.kind == "random"
    assert checkpoint.holdout.columns is None


@pytest.mark.row("FL-9")
def test_a_split_by_time_stops_before_it_remembers_clients_and_says_who_was_known(box: Box, cloud: Cloud) -> None:
    random = np.random.default_rng(5)
    clients = noise(random, 200)
    months = [
        clients.with_columns(cust_id=pl.int_range(200), snapshot_dt=date(2024, 1, 1) + timedelta(days=30 * month))
        for month in range(6)
    ]

    checkpoint = train_on(box, cloud, pl.concat(months))

    assert checkpoint.holdout.kind == "time"
    (note,) = [note for note in checkpoint.notes if "'cust_id' in the held-out rows" in note]
    assert note.startswith("200 of the 200 values")
    rounds = max(point.step for point in checkpoint.series)
    assert rounds < 60, "clients in the validation rows that were fitted on would never let it stop"


@pytest.mark.row("FL-9")
def test_too_few_groups_for_the_models_are_fewer_models_of_whole_groups(box: Box, cloud: Cloud) -> None:
    stores = [("a", 300), ("b", 60), ("c", 60), ("d", 60)]
    random = np.random.default_rng(6)
    frame = pl.concat([noise(random, size).with_columns(store=pl.lit(name)) for name, size in stores])

    checkpoint = train_on(box, cloud, frame, JobSplit(kind="group", column="store", test_fraction=0.1))

    assert checkpoint.trained_rows == 420
    # Three models were asked for, and a part of the rows can't be less than the largest store.
    assert {point.name for point in checkpoint.series} == {"validation_log_loss", "validation_log_loss_2"}
