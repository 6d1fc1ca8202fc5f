import gzip
import io
import json
import tarfile
import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from functions.jobs.container import Container
from functions.jobs.modelling.metrics import measure
from functions.jobs.modelling.splits import group_draws, held_out_rows, row_draws
from functions.jobs.train.job import train
from shared.errors import JobFailedError, ValidationFailedError
from shared.models.job import JobDataset, JobSplit, MetricName, TrainingJob
from shared.network.address_guard import ForbiddenAddressError
from shared.propensity.artifacts import read_checkpoint_metadata
from shared.propensity.checkpoints import Scorer, StoredCheckpoint, read_checkpoint
from shared.propensity.holdouts import GroupHoldout
from tests.fixtures.datasets import DEFAULT, GERMAN_CREDIT
from tests.fixtures.trained_models import HERE, quick
from tests.functional.jobs.conftest import GPU_COUNT, Box, Cloud, training

ARCHITECTURES = ("lightgbm", "xgboost")


def customers(rows: int = 400, seed: int = 5) -> pl.DataFrame:
    """Customers with every kind of column, gaps, and an answer that depends on some of them."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 90, rows).astype(float)
    city = random.choice(["Lyon", "Paris", "Nice", "Rome"], rows)
    active = random.random(rows) < 0.5
    chance = 1 / (1 + np.exp(-((age - 50) / 12 + 2 * (city == "Lyon") + active - 1)))
    joined = [date(2020, 1, 1) + timedelta(days=int(days)) for days in random.integers(0, 1500, rows)]
    age[random.random(rows) < 0.1] = np.nan
    return pl.DataFrame(
        {
            "customer_id": np.arange(rows) + 1000,
            "age": age,
            "city": city,
            "active": active,
            "joined": joined,
            "country": ["FR"] * rows,
            "nothing": [None] * rows,
            "bought": np.where(random.random(rows) < chance, "yes", "no"),
        }
    ).with_columns(pl.col("age").fill_nan(None), pl.when(pl.col("city") != "Rome").then(pl.col("city")).alias("city"))


def run(job: TrainingJob, box: Box) -> StoredCheckpoint:
    train(job, box.container, threading.Event(), box.cloud.client)
    return read_checkpoint(box.container.model_folder)


@pytest.mark.row("TR-3", "X-1", "ML-1")
@pytest.mark.parametrize("architecture", HERE)
def test_a_training_leaves_a_checkpoint_that_scores_rows_like_the_training_did(
    box: Box, cloud: Cloud, architecture: str
) -> None:
    frame = customers(1200)
    # Measured by hand below: the rows held out must be found again from the checkpoint alone.
    job = training([cloud.put_frame("a.csv", frame)], architecture=architecture, configuration=quick(architecture))
    checkpoint = run(job, box)

    rows = frame.drop("bought").with_columns(pl.col("joined").cast(pl.String)).to_dicts()
    scorer = Scorer(box.container.model_folder)
    together = [prediction.probability for prediction in scorer.score(rows)]
    alone = [scorer.score([row])[0].probability for row in rows[:50]]
    assert alone == pytest.approx(together[:50], abs=1e-6)

    labels = (frame["bought"] == "yes").to_numpy().astype(np.float32)
    draws = row_draws(checkpoint.seed, checkpoint.trained_files[0], frame.height)
    held_out = held_out_rows(checkpoint.holdout, frame, draws, labels)
    assert held_out.sum() == pytest.approx(240, abs=1)
    again = measure(labels[held_out], np.array(together)[held_out], checkpoint.threshold)
    for name, value in checkpoint.measurement.metrics.items():
        assert again.metrics[name] == pytest.approx(value, abs=1e-6), name
    assert (checkpoint.measurement.metrics[MetricName.ROC_AUC] or 0) > 0.75
    assert {path.suffix for path in box.container.model_folder.iterdir()} <= {".json", ".txt", ".npy"}


@pytest.mark.row("X-1")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ten_thousand_rows_score_as_one_by_one_and_labels_follow_the_threshold(
    box: Box, cloud: Cloud, architecture: str
) -> None:
    quick = {"n_estimators": 40, "learning_rate": 0.3, "ensemble_size": 2}
    file = cloud.put("default.csv", DEFAULT.path.read_bytes())
    run(training([file], "default", architecture=architecture, configuration=quick), box)
    scorer = Scorer(box.container.model_folder)
    rows = DEFAULT.frame().drop("default").to_dicts()

    predictions = scorer.score(rows)

    assert len(rows) == len(predictions) == 10_000
    for index in range(0, 10_000, 501):
        assert scorer.score([rows[index]])[0].probability == pytest.approx(predictions[index].probability, abs=1e-6)
    assert all((prediction.label == "Yes") == (prediction.probability >= 0.5) for prediction in predictions)
    assert Counter(prediction.label for prediction in predictions)["Yes"] > 50
    with pytest.raises(ValidationFailedError, match="'balance' is missing"):
        scorer.score([{"student": "No", "income": 1.0}])


def test_columns_are_read_as_what_they_are_and_useless_ones_are_noted(box: Box, cloud: Cloud) -> None:
    checkpoint = run(training([cloud.put_frame("a.csv", customers())]), box)

    kinds = {feature.name: feature.kind for feature in checkpoint.features.features}
    assert kinds == {"age": "numeric", "city": "categorical", "active": "boolean", "joined": "datetime"}
    dropped = {column.name for column in checkpoint.features.dropped}
    assert dropped == {"customer_id", "country", "nothing"}
    assert any("'country' is not used: every value is the same" in note for note in checkpoint.notes)
    assert (checkpoint.positive_label, checkpoint.negative_label) == ("yes", "no")


@pytest.mark.row("TR-2")
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            ["no"] * 400,
            r"The target column 'bought' has only one label \('no'\)\. A propensity model needs two labels\.",
        ),
        ([None] * 400, "is empty"),
        (["a", "b", "c", "d"] * 100, r"has 4 labels \('a', 'b', 'c', 'd'\)"),
        (["yes"] * 2 + ["no"] * 398, "too few rows"),
    ],
)
def test_a_target_that_cannot_be_learned_fails_with_what_is_wrong(
    box: Box, cloud: Cloud, answers: list[str | None], message: str
) -> None:
    file = cloud.put_frame("a.csv", customers().with_columns(bought=pl.Series(answers, dtype=pl.String)))

    with pytest.raises(JobFailedError, match=message):
        run(training([file]), box)
    assert list(box.container.model_folder.iterdir()) == []


@pytest.mark.row("TR-2")
def test_a_missing_target_fails_and_names_the_nearest_column(box: Box, cloud: Cloud) -> None:
    with pytest.raises(JobFailedError, match=r"'bougth' is not in the file 'a\.csv': did you mean 'bought'\?"):
        run(training([cloud.put_frame("a.csv", customers())], "bougth"), box)


def test_the_positive_answer_can_be_chosen_and_must_exist(box: Box, cloud: Cloud) -> None:
    file = cloud.put_frame("a.csv", customers())

    def job(label: str) -> TrainingJob:
        return training(
            [], datasets=[{"connector_id": "c", "files": [file], "target": "bought", "positive_label": label}]
        )

    assert run(job("no"), box).positive_label == "no"
    with pytest.raises(JobFailedError, match="'maybe' does not occur"):
        run(job("maybe"), box)


@pytest.mark.row("CN-4")
def test_files_of_several_formats_and_connectors_become_one_table(box: Box, cloud: Cloud) -> None:
    parquet, lines = io.BytesIO(), io.BytesIO()
    customers(300, seed=6).write_parquet(parquet)
    customers(300, seed=7).rename({"bought": "Answer"}).write_ndjson(lines)
    first = [
        cloud.put("a.csv.gz", gzip.compress(customers(300).write_csv(separator=";").encode())),
        cloud.put("b.parquet", parquet.getvalue()),
    ]
    second = [cloud.put("c.jsonl", lines.getvalue())]
    job = training(
        [],
        datasets=[
            {"connector_id": "one", "files": first, "target": "bought"},
            {"connector_id": "two", "files": second},
        ],
    )
    with pytest.raises(JobFailedError, match=r"'bought' is not in the file 'c\.jsonl'"):
        run(job, box)

    job.datasets[1].files = [cloud.put("c.jsonl", lines.getvalue().replace(b'"Answer"', b'"bought"'))]
    checkpoint = run(job, box)

    assert checkpoint.trained_rows + checkpoint.measurement.rows == 900
    assert [file.key for file in checkpoint.trained_files] == ["a.csv.gz", "b.parquet", "c.jsonl"]


def test_a_file_that_changed_or_is_gone_fails_with_its_name(box: Box, cloud: Cloud) -> None:
    file = cloud.put_frame("a.csv", customers())
    cloud.put_frame("a.csv", customers(seed=6))

    with pytest.raises(JobFailedError, match=r"'a\.csv' has changed since the job started\. Start it again"):
        run(training([file]), box)
    cloud.objects.clear()
    with pytest.raises(JobFailedError, match=r"'a\.csv' cannot be read: NoSuchKey"):
        run(training([file]), box)


@pytest.mark.parametrize("endpoint", ["https://169.254.169.254", "http://localhost:9000", "https://10.0.0.1"])
def test_a_connectors_endpoint_in_our_own_network_is_never_called(box: Box, cloud: Cloud, endpoint: str) -> None:
    file = cloud.put_frame("a.csv", customers())
    access = {"endpoint_url": endpoint}
    job = training([], datasets=[{"connector_id": "c", "files": [file], "target": "bought", "access": access}])

    with pytest.raises(ForbiddenAddressError, match="endpoint_url"):
        run(job, box)


@pytest.mark.parametrize("content", [b"", b"bought\n", b"\x00\x01\x02PK" * 50])
def test_an_empty_or_unreadable_file_fails_with_its_name(box: Box, cloud: Cloud, content: bytes) -> None:
    with pytest.raises(JobFailedError, match=r"a\.csv|no rows"):
        run(training([cloud.put("a.csv", content)]), box)


def test_a_time_split_holds_out_the_latest_rows(box: Box, cloud: Cloud) -> None:
    frame = customers()
    checkpoint = run(split_training(cloud, frame, JobSplit(kind="time", column="joined", test_fraction=0.25)), box)

    assert checkpoint.holdout.kind == "time"
    after = datetime.fromtimestamp(checkpoint.holdout.after, UTC).date()
    assert checkpoint.measurement.rows == frame.filter(pl.col("joined") > after).height == pytest.approx(100, abs=5)


def test_a_group_split_holds_out_whole_groups_and_does_not_learn_from_their_name(box: Box, cloud: Cloud) -> None:
    frame = customers().with_columns(household=pl.int_range(400) // 4)
    checkpoint = run(split_training(cloud, frame, JobSplit(kind="group", column="household")), box)

    assert checkpoint.holdout.kind == "group"
    held = group_draws(frame["household"], checkpoint.seed) < checkpoint.holdout.limit
    assert checkpoint.measurement.rows == held.sum() == pytest.approx(80, abs=4)
    assert "household" not in checkpoint.features.columns
    groups = frame["household"].to_numpy()
    assert not set(groups[held]) & set(groups[~held])


@pytest.mark.row("Y-3")
@pytest.mark.parametrize(
    ("split", "kind"),
    [(None, "time"), (JobSplit(test_fraction=0.3), "time"), (JobSplit(kind="random"), "random")],
)
def test_where_a_column_says_when_rows_were_observed_only_an_explicit_split_is_random(
    box: Box, cloud: Cloud, split: JobSplit | None, kind: str
) -> None:
    frame = customers().with_columns(snapshot_date=pl.date(2024, 1, 1) + pl.duration(days=pl.int_range(400) // 20))
    checkpoint = run(split_training(cloud, frame, split), box)

    assert checkpoint.holdout.kind == kind
    assert any("The latest rows by 'snapshot_date'" in note for note in checkpoint.notes) is (kind == "time")


@pytest.mark.row("Y-3")
def test_the_rows_of_one_client_are_on_one_side_unless_asked_otherwise(box: Box, cloud: Cloud) -> None:
    frame = customers().with_columns(clientId=pl.int_range(400) // 4)
    checkpoint = run(split_training(cloud, frame, None), box)

    assert isinstance(checkpoint.holdout, GroupHoldout)
    assert checkpoint.holdout.column == "clientId"
    assert "clientId" not in checkpoint.features.columns
    assert any("Whole groups of rows by 'clientId'" in note for note in checkpoint.notes)


def test_a_time_that_can_not_split_leaves_it_to_chance_and_says_so(box: Box, cloud: Cloud) -> None:
    answer = pl.Series(["no"] * 200 + ["yes"] * 200)
    frame = customers().with_columns(bought=answer, date=pl.date(2024, 1, 1) + pl.duration(days=pl.int_range(400)))
    checkpoint = run(split_training(cloud, frame, None), box)

    assert checkpoint.holdout.kind == "random"
    assert any("at random, because a split by 'date' leaves too few rows" in note for note in checkpoint.notes)


@pytest.mark.row("Y-3")
def test_a_column_that_gives_the_answer_away_is_flagged_and_no_other(box: Box, cloud: Cloud) -> None:
    bought = pl.col("bought") == "yes"
    leaks = {
        "discount_used": pl.when(bought).then(pl.int_range(400) % 9 + 5).otherwise(pl.int_range(400) % 5),
        "contract_number": pl.when(bought).then(pl.int_range(400) % 7),  # missing for all who did not buy
        "last_status": pl.when(bought).then(pl.lit("signed")).otherwise(pl.lit("open")),
    }
    frame = customers().with_columns(**leaks)
    checkpoint = run(training([cloud.put_frame("a.csv", frame)]), box)

    flagged = [note.split("'")[1] for note in checkpoint.notes if "ROC AUC" in note]
    assert sorted(flagged) == sorted(leaks)
    assert checkpoint.notes[: len(leaks)] == [note for note in checkpoint.notes if "excluded_columns" in note]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (JobSplit(kind="time", column="country"), "fewer than two different times"),
        (JobSplit(kind="group", column="country"), "only one group"),
        (JobSplit(kind="group", column="nowhere"), "is not in the files"),
    ],
)
def test_a_split_that_cannot_be_made_fails_with_what_is_wrong(
    box: Box, cloud: Cloud, split: JobSplit, message: str
) -> None:
    with pytest.raises(JobFailedError, match=message):
        run(split_training(cloud, customers(), split), box)


def split_training(cloud: Cloud, frame: pl.DataFrame, split: JobSplit | None) -> TrainingJob:
    dataset = JobDataset(connector_id="c", files=[cloud.put_frame("a.csv", frame)], target="bought", split=split)
    return training([], datasets=[dataset])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    tmp_path: Path, cloud: Cloud, architecture: str
) -> None:
    file = cloud.put_frame("a.csv", customers())

    def model(name: str, seed: int) -> bytes:
        box = Box(tmp_path / name, cloud)
        checkpoint = run(training([file], architecture=architecture, seed=seed), box)
        return b"".join((box.container.model_folder / name).read_bytes() for name in checkpoint.model_files)

    assert model("one", 1) == model("two", 1) != model("three", 2)


def test_early_stopping_keeps_the_best_rounds_only(box: Box, cloud: Cloud) -> None:
    configuration = {"n_estimators": 500, "early_stopping_rounds": 5, "learning_rate": 0.3, "ensemble_size": 1}
    checkpoint = run(training([cloud.put_frame("a.csv", customers())], configuration=configuration), box)

    steps = [point.step for point in checkpoint.series if point.name == "validation_log_loss"]
    losses = [point.value for point in checkpoint.series if point.name == "validation_log_loss"]
    best = steps[int(np.argmin(losses))]
    trees = (box.container.model_folder / "trees.txt").read_text().count("\nTree=")
    assert steps[-1] < 500
    assert trees == best == steps[-1] - 5


def test_an_excluded_column_is_not_learned_from(box: Box, cloud: Cloud) -> None:
    frame = customers().with_columns(leak=pl.col("bought"))
    configuration = {"excluded_columns": ["leak"], "n_estimators": 20}
    checkpoint = run(training([cloud.put_frame("a.csv", frame)], configuration=configuration), box)

    assert "leak" not in checkpoint.features.columns
    assert (checkpoint.measurement.metrics[MetricName.ROC_AUC] or 0) < 0.95


@pytest.mark.row("X-12")
def test_a_column_that_identifies_persons_is_not_learned_from_and_that_is_noted(box: Box, cloud: Cloud) -> None:
    job = training([cloud.put_frame("a.csv", customers())], configuration={"n_estimators": 20})
    job.datasets[0].identifying_columns = ["city", "not there"]
    checkpoint = run(job, box)
    assert "city" not in [feature.name for feature in checkpoint.features.features]
    (note,) = [note for note in checkpoint.notes if "identifies persons" in note]
    assert note.startswith("The column 'city' is not used")


def test_the_checkpoint_can_be_read_from_its_archive_without_numerical_libraries(box: Box, cloud: Cloud) -> None:
    checkpoint = run(training([cloud.put("g.csv", GERMAN_CREDIT.path.read_bytes())], "creditability"), box)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(box.container.model_folder, arcname=".")
    archive.seek(0)

    metadata = read_checkpoint_metadata(archive)

    assert metadata.measurement == checkpoint.measurement
    assert (metadata.positive_label, metadata.architecture) == ("bad", "lightgbm")
    assert len(metadata.series) <= 200


def test_the_paper_says_what_was_chosen_and_with_which_libraries(box: Box, cloud: Cloud) -> None:
    run(training([cloud.put_frame("a.csv", customers())]), box)

    paper = json.loads((box.container.model_folder / "checkpoint.json").read_text())

    assert paper["configuration"]["learning_rate"] == 0.05
    assert paper["configuration"]["ensemble_size"] == 2
    assert set(paper["library_versions"]) == {
        "python",
        "catboost",
        "lightgbm",
        "xgboost",
        "numpy",
        "polars",
        "safetensors",
    }
    assert paper["trained_files"][0]["etag"]


@pytest.mark.skipif(GPU_COUNT > 0, reason="there is a GPU")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_missing_gpu_is_reported(box: Box, cloud: Cloud, architecture: str) -> None:
    file = cloud.put_frame("a.csv", customers())

    with pytest.raises(JobFailedError, match=r"found no GPU that it can train on.*Set gpu_count to 0"):
        run(training([file], architecture=architecture, gpu_count=1), box)


def test_the_container_knows_its_folders_and_counts_its_gpus(tmp_path: Path) -> None:
    assert str(Container.of({}).job_file) == "/opt/ml/input/data/job/job.json"
    assert str(Container.of({}).checkpoints) == "/opt/ml/checkpoints"
    for device in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / device).touch()
    given = Container.of({"SAGEMAKER_BASE_DIR": "/z"}, devices=tmp_path)
    assert (str(given.model_folder), given.gpu_count) == ("/z/model", 2)
