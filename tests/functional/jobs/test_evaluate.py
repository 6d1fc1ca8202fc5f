import io
import json
import re
import tarfile
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from functions.jobs.evaluate.job import evaluate
from functions.jobs.train.job import train
from shared.errors import JobFailedError
from shared.models.job import EvaluationJob, EvaluationResult, JobFile, Measurement, MetricName
from shared.propensity.artifacts import read_checkpoint_metadata, read_evaluation_result
from shared.propensity.errors import CheckpointError
from shared.propensity.influences import influence
from shared.propensity.scored_rows import common_rows, read_scores
from tests.functional.jobs.conftest import Box, Cloud, training
from tests.functional.jobs.test_train import customers

pytestmark = pytest.mark.row("EV-1")


def evaluation(files: list[JobFile], metrics: list[str] | None = None) -> EvaluationJob:
    job: dict[str, Any] = {
        "evaluation_id": "evaluation-1",
        "space_id": "space-1",
        "checkpoint_id": "checkpoint-1",
        "benchmark_id": "benchmark-1",
        "datasets": [{"connector_id": "connector-1", "files": files}],
        "metrics": metrics or list(MetricName),
    }
    return EvaluationJob.model_validate(job)


@pytest.fixture
def trained(tmp_path: Path, cloud: Cloud, box: Box) -> JobFile:
    """Returns the file a checkpoint was trained on; the checkpoint lies in the box's model channel."""
    file = cloud.put_frame("a.csv", customers())
    other = Box(tmp_path / "training", cloud)
    train(training([file]), other.container, threading.Event(), cloud.client)
    box.container.model_channel.mkdir(parents=True)
    with tarfile.open(box.container.model_channel / "model.tar.gz", "w:gz") as archive:
        archive.add(other.container.model_folder, arcname=".")
    return file


def run(job: EvaluationJob, box: Box) -> EvaluationResult:
    evaluate(job, box.container, threading.Event(), box.cloud.client)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(box.container.model_folder, arcname=".")
    archive.seek(0)
    return read_evaluation_result(archive)


def training_measurement(box: Box) -> Measurement:
    with (box.container.model_channel / "model.tar.gz").open("rb") as archive:
        return read_checkpoint_metadata(archive).measurement


def test_rows_never_seen_are_all_measured(box: Box, cloud: Cloud, trained: JobFile) -> None:
    result = run(evaluation([cloud.put_frame("new.csv", customers(300, seed=9))]), box)

    assert result.measurement.rows == 300
    assert result.excluded_training_rows == result.dropped_rows == 0
    assert set(result.measurement.metrics) == set(MetricName)
    assert (result.measurement.metrics[MetricName.ROC_AUC] or 0) > 0.7
    assert 2 < len(result.measurement.curve) <= 200


def test_of_the_training_file_only_the_rows_held_out_then_are_measured(
    box: Box, cloud: Cloud, trained: JobFile
) -> None:
    copy = cloud.put("elsewhere/b.csv", cloud.objects["data/a.csv"])
    fresh = cloud.put_frame("new.csv", customers(100, seed=9))

    alone = run(evaluation([copy]), box)
    with_fresh = run(evaluation([fresh, copy]), box)

    assert alone.measurement == training_measurement(box)
    assert alone.measurement.rows == 80
    assert alone.excluded_training_rows == 320
    assert with_fresh.measurement.rows == 180


def test_only_the_benchmarks_metrics_are_given(box: Box, cloud: Cloud, trained: JobFile) -> None:
    one_class = customers(300, seed=9).filter(pl.col("bought") == "no")
    result = run(evaluation([cloud.put_frame("no.csv", one_class)], ["ks", "accuracy"]), box)

    assert list(result.measurement.metrics) == [MetricName.KS, MetricName.ACCURACY]
    assert result.measurement.metrics[MetricName.KS] is None
    assert list(result.measurement.reasons) == [MetricName.KS]


def test_rows_with_another_answer_are_left_out_and_counted(box: Box, cloud: Cloud, trained: JobFile) -> None:
    frame = customers(100, seed=9).with_columns(
        bought=pl.when(pl.int_range(100) < 30).then(pl.lit("perhaps")).otherwise(pl.lit("never"))
    )
    with pytest.raises(JobFailedError, match="has neither 'yes' nor 'no'"):
        run(evaluation([cloud.put_frame("odd.csv", frame)]), box)

    mixed = customers(100, seed=9).with_columns(
        bought=pl.when(pl.int_range(100) < 30).then(None).otherwise(pl.col("bought"))
    )
    result = run(evaluation([cloud.put_frame("gaps.csv", mixed)]), box)
    assert (result.measurement.rows, result.dropped_rows) == (70, 30)


def test_files_without_the_models_columns_fail_and_name_them(box: Box, cloud: Cloud, trained: JobFile) -> None:
    file = cloud.put_frame("new.csv", customers(100, seed=9).drop("age", "city"))

    with pytest.raises(JobFailedError, match="lack 2 of the columns that the model uses: 'age', 'city'"):
        run(evaluation([file]), box)


@pytest.mark.row("FL-9")
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("age", "44 years", r"'age' are not a number, for example '44 years'"),
        ("active", "perhaps", r"'active' are not true or false, for example 'perhaps'"),
        ("joined", "soon", r"'joined' are not a date or time such as 2026-01-31, for example 'soon'"),
    ],
)
def test_a_benchmark_with_values_that_the_model_can_not_read_is_refused_or_warned_of(
    box: Box, cloud: Cloud, trained: JobFile, column: str, value: str, message: str
) -> None:
    def benchmark(unreadable: int) -> JobFile:
        text = pl.when(pl.int_range(400) < unreadable).then(pl.lit(value)).otherwise(pl.col(column).cast(pl.String))
        return cloud.put_frame(f"{column}-{unreadable}.csv", customers(seed=9).with_columns(text.alias(column)))

    with pytest.raises(JobFailedError, match=message):
        run(evaluation([benchmark(40)]), box)
    # The reader may warn of the column, too.
    warning, *_ = run(evaluation([benchmark(8)]), box).warnings
    assert re.search(rf"^2\.?\d* % of the known values of the column {message}", warning)
    assert run(evaluation([benchmark(0)]), box).warnings == []


@pytest.mark.row("FL-9")
def test_many_categories_that_the_training_never_saw_are_warned_of(box: Box, cloud: Cloud, trained: JobFile) -> None:
    lower = customers(seed=9).with_columns(pl.col("city").str.to_lowercase())
    few = customers(seed=9).with_columns(city=pl.when(pl.int_range(400) < 60).then(pl.lit("Oslo")).otherwise("city"))

    (warning,) = run(evaluation([cloud.put_frame("lower.csv", lower)]), box).warnings

    assert re.search(r"^7\d\.?\d* % of the rows have a category in the column 'city' .* for example '[a-z]+'", warning)
    assert run(evaluation([cloud.put_frame("few.csv", few)]), box).warnings == []


@pytest.mark.parametrize("damage", ["text", "empty", "newer", "link", "absent"])
def test_a_damaged_checkpoint_fails_and_runs_nothing(box: Box, cloud: Cloud, trained: JobFile, damage: str) -> None:
    artifact = box.container.model_channel / "model.tar.gz"
    if damage == "text":
        artifact.write_text("no archive")
    else:
        with tarfile.open(artifact, "w:gz") as archive:
            if damage == "link":
                link = tarfile.TarInfo("checkpoint.json")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(link)
            elif damage != "empty":
                paper = json.dumps({} if damage == "absent" else {"format_version": 99}).encode()
                entry = tarfile.TarInfo("checkpoint.json")
                entry.size = len(paper)
                archive.addfile(entry, io.BytesIO(paper))

    with pytest.raises(CheckpointError):
        run(evaluation([cloud.put_frame("new.csv", customers(100, seed=9))]), box)


def test_a_benchmark_may_name_its_label_otherwise_and_have_a_column_of_the_target_s_name(
    box: Box, cloud: Cloud, trained: JobFile
) -> None:
    frame = customers(100, seed=9).rename({"bought": "answer"}).with_columns(bought=pl.lit("last year"))
    job = evaluation([cloud.put_frame("new.csv", frame)])
    job.datasets[0].target = "answer"

    assert run(job, box).measurement.rows == 100


@pytest.mark.row("Y-2")
def test_the_scores_of_rows_are_kept_under_keys_of_their_files(box: Box, cloud: Cloud, trained: JobFile) -> None:
    fresh = cloud.put_frame("new.csv", customers(300, seed=9))
    other = cloud.put_frame("other.csv", customers(50, seed=10))

    result = run(evaluation([fresh, other]), box)
    keys, rows = read_scores((box.container.model_folder / "scores.npy").read_bytes())
    run(evaluation([other, fresh, trained]), box)
    more_keys, more_rows = read_scores((box.container.model_folder / "scores.npy").read_bytes())

    assert len(keys) == len(set(keys.tolist())) == 350
    area = influence(MetricName.ROC_AUC, rows)
    assert area is not None
    assert area.value == pytest.approx(result.measurement.metrics[MetricName.ROC_AUC], abs=1e-6)
    interval = result.measurement.intervals[MetricName.ROC_AUC]
    assert interval.low < area.value < interval.high
    assert set(result.resamples) == set(MetricName) - {MetricName.GINI}
    # The rows that the model was fitted on are not among the others.
    assert 350 < len(more_keys) < 350 + len(customers())
    mine, theirs = common_rows((keys, rows), (more_keys, more_rows))
    assert len(mine) == 350
    assert (mine.probabilities == theirs.probabilities).all()
