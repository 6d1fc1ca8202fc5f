"""The same rows again, in other files: they count once in a training, and not at all in a benchmark."""

import gzip
import io
import threading

import numpy as np
import polars as pl
import pytest

from functions.jobs.train.job import train
from shared.models.job import JobFile
from shared.propensity.checkpoints import StoredCheckpoint, read_checkpoint
from tests.functional.jobs.conftest import Box, Cloud, training
from tests.functional.jobs.test_evaluate import evaluation, run
from tests.functional.jobs.test_train import customers

pytestmark = pytest.mark.row("FL-9")


def train_on(box: Box, files: list[JobFile]) -> StoredCheckpoint:
    train(training(files), box.container, threading.Event(), box.cloud.client)
    return read_checkpoint(box.container.model_folder)


def forms(cloud: Cloud, frame: pl.DataFrame) -> list[JobFile]:
    """Returns the same rows as different files."""
    parquet = io.BytesIO()
    frame.reverse().write_parquet(parquet)
    content = frame.write_csv().encode()
    return [
        cloud.put("again.csv", content),
        cloud.put("again.csv.gz", gzip.compress(content, mtime=1)),
        cloud.put("again.parquet", parquet.getvalue()),
    ]


def test_a_file_that_was_uploaded_several_times_is_learned_from_once(box: Box, cloud: Cloud) -> None:
    first = cloud.put_frame("a.csv", customers())

    checkpoint = train_on(box, [first, *forms(cloud, customers())])

    assert checkpoint.trained_rows + checkpoint.measurement.rows == 400
    assert any(note.startswith("1,200 rows were left out, because they are copies") for note in checkpoint.notes)


def test_rows_that_the_model_was_fitted_on_are_left_out_of_every_file_of_a_benchmark(box: Box, cloud: Cloud) -> None:
    checkpoint = train_on(box, [cloud.put_frame("a.csv", customers())])
    box.use_trained_model()
    fresh = cloud.put_frame("fresh.csv", customers(100, seed=9))

    for copy in forms(cloud, customers()):
        alone, with_fresh = run(evaluation([copy]), box), run(evaluation([fresh, copy]), box)
        assert (alone.excluded_training_rows, alone.measurement.rows) == (320, 80)
        assert alone.measurement == checkpoint.measurement
        assert (with_fresh.excluded_training_rows, with_fresh.measurement.rows) == (320, 180)
    older = customers().with_columns(pl.col("age").fill_null(30) + 0.25)
    assert run(evaluation([cloud.put_frame("older.csv", older)]), box).excluded_training_rows == 0


def test_rows_of_few_values_are_kept_and_only_the_training_s_own_file_is_left_out(box: Box, cloud: Cloud) -> None:
    random = np.random.default_rng(3)
    survey = pl.DataFrame(
        {
            "q1": random.integers(1, 6, 600),
            "q2": random.integers(1, 6, 600),
            "bought": random.choice(["yes", "no"], 600),
        }
    )
    file = cloud.put_frame("a.csv", survey)

    checkpoint = train_on(box, [file])
    box.use_trained_model()

    assert checkpoint.trained_rows + checkpoint.measurement.rows == 600
    assert any("They were kept" in note for note in checkpoint.notes)
    assert run(evaluation([cloud.put_frame("b.csv", survey.reverse())]), box).excluded_training_rows == 0
    assert run(evaluation([file]), box).measurement == checkpoint.measurement
