"""Columns that name clients: a model that learns them remembers clients instead of reasons."""

import threading
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from functions.jobs.train.job import train
from shared.models.job import JobDataset, JobSplit, MetricName
from shared.propensity.checkpoints import StoredCheckpoint, read_checkpoint
from tests.functional.jobs.conftest import Box, Cloud, training

pytestmark = pytest.mark.row("FL-9")


def noise(clients: int = 100, weeks: int = 10) -> pl.DataFrame:
    """Returns clients who always answer the same for no reason, seen once a week."""
    random = np.random.default_rng(6)
    answers = np.where(random.random(clients) < 0.5, "yes", "no")
    rows = [(client, week) for week in range(weeks) for client in range(clients)]
    return pl.DataFrame(
        {
            "customer_id": [1000 + client for client, _ in rows],
            "accountNumber": [f"A{client % 90}" for client, _ in rows],
            "snapshot_date": [date(2024, 1, 1) + timedelta(weeks=week) for _, week in rows],
            "noise": random.random(len(rows)),
            "bought": [str(answers[client]) for client, _ in rows],
        }
    )


def train_on(box: Box, cloud: Cloud, split: JobSplit | None) -> StoredCheckpoint:
    dataset = JobDataset(connector_id="c", files=[cloud.put_frame("a.csv", noise())], target="bought", split=split)
    train(training([], datasets=[dataset]), box.container, threading.Event(), cloud.client)
    return read_checkpoint(box.container.model_folder)


@pytest.mark.parametrize("split", [None, JobSplit(kind="time", column="snapshot_date")])
def test_a_split_by_time_learns_nothing_from_the_names_of_clients(
    box: Box, cloud: Cloud, split: JobSplit | None
) -> None:
    checkpoint = train_on(box, cloud, split)

    assert checkpoint.holdout.kind == "time"
    assert {feature.name for feature in checkpoint.features.features} == {"snapshot_date", "noise"}
    assert 0.3 < (checkpoint.measurement.metrics[MetricName.ROC_AUC] or 0) < 0.7
    assert sum("it names a client" in note for note in checkpoint.notes) == 2


def test_a_random_split_that_was_asked_for_uses_every_column(box: Box, cloud: Cloud) -> None:
    checkpoint = train_on(box, cloud, JobSplit(kind="random"))

    assert "customer_id" in {feature.name for feature in checkpoint.features.features}
