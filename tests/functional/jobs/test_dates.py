"""Dates from the files of a training to predictions and benchmarks: one reading on all sides."""

import json
import threading
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from functions.jobs.train.job import train
from shared.models.job import JobFile, MetricName
from shared.propensity.checkpoints import Scorer
from shared.propensity.tables import encode_frame
from tests.functional.jobs.conftest import Box, Cloud, NotedByReader, training
from tests.functional.jobs.test_evaluate import evaluation, run

pytestmark = pytest.mark.row("FL-6")

EITHER = ["%d/%m/%Y", "%m/%d/%Y"]


def clients(days: Sequence[date], form: str = "%d/%m/%Y", seed: int = 1) -> pl.DataFrame:
    """Returns clients who buy if they were born in June."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "born": [f"{day:{form}}" for day in days],
            "amount": random.random(len(days)),
            "bought": ["yes" if day.month == 6 else "no" for day in days],
        }
    )


def days(count: int, seed: int = 2, days_up_to: int = 28) -> list[date]:
    random = np.random.default_rng(seed)
    return [date(1990, int(random.integers(5, 7)), int(random.integers(1, days_up_to + 1))) for _ in range(count)]


def train_on(box: Box, files: list[JobFile], **changes: Any) -> Scorer:
    train(training(files, **changes), box.container, threading.Event(), box.cloud.client)
    return Scorer(box.container.model_folder)


def test_a_prediction_and_an_ambiguous_benchmark_are_read_in_the_training_s_format(
    box: Box, cloud: Cloud, noted: NotedByReader
) -> None:
    noted.formats["a.csv"] = {"born": ["%d/%m/%Y"], "amount": ["1234.5"]}
    noted.formats["open.csv"] = {"born": EITHER}
    scorer = train_on(box, [cloud.put_frame("a.csv", clients(days(400)))])
    (born,) = [feature for feature in scorer.checkpoint.features.features if feature.name == "born"]
    assert (born.kind, born.date_formats) == ("datetime", ["%d/%m/%Y"])

    row = {"amount": 0.5}
    june, same, may = scorer.score([{**row, "born": text} for text in ("05/06/1990", "1990-06-05", "06/05/1990")])
    assert (june, june.label, may.label) == (same, "yes", "no")

    box.use_trained_model()
    result = run(evaluation([cloud.put_frame("open.csv", clients(days(200, seed=3, days_up_to=12)))]), box)
    assert result.measurement.metrics[MetricName.ACCURACY] == 1


def test_daily_files_of_march_stay_in_march(box: Box, cloud: Cloud, noted: NotedByReader) -> None:
    files = []
    for day in (date(2024, 3, 1) + timedelta(days=each) for each in range(31)):
        frame = pl.DataFrame(
            {
                "snapshot_date": [f"{day:%d/%m/%Y}"] * 20,
                "amount": np.random.default_rng(day.day).random(20),
                "bought": ["yes", "no"] * 10,
            }
        )
        noted.formats[f"{day}.csv"] = {"snapshot_date": ["%d/%m/%Y"] if day.day > 12 else EITHER}
        files.append(cloud.put_frame(f"{day}.csv", frame))

    checkpoint = train_on(box, files).checkpoint

    assert checkpoint.holdout.kind == "time"
    assert date(1970, 1, 1) + timedelta(seconds=checkpoint.holdout.after) == date(2024, 3, 25)
    assert checkpoint.measurement.rows == 6 * 20


def test_contradictory_files_keep_their_open_dates_as_text_with_a_note(
    box: Box, cloud: Cloud, noted: NotedByReader
) -> None:
    noted.formats |= {"a.csv": {"born": EITHER[:1]}, "b.csv": {"born": EITHER[1:]}, "c.csv": {"born": EITHER}}
    files = [
        cloud.put_frame("a.csv", clients([*days(200), date(1990, 6, 20)])),
        cloud.put_frame("b.csv", clients([*days(200, seed=3), date(1990, 6, 20)], "%m/%d/%Y", seed=2)),
        cloud.put_frame("c.csv", clients(days(200, seed=4, days_up_to=12), seed=3)),
    ]

    checkpoint = train_on(box, files).checkpoint

    (born,) = [feature for feature in checkpoint.features.features if feature.name == "born"]
    assert born.kind == "categorical"
    assert any("'born' in contradictory ways" in note for note in checkpoint.notes)


def test_a_table_and_rows_of_texts_score_alike(box: Box, cloud: Cloud, noted: NotedByReader) -> None:
    noted.formats["a.csv"] = {"born": ["%d/%m/%Y"]}
    scorer = train_on(box, [cloud.put_frame("a.csv", clients(days(400)))])
    frame = clients(days(300, seed=8))

    np.testing.assert_array_equal(
        encode_frame(scorer.checkpoint.features, frame), scorer.checkpoint.features.encode_rows(frame.to_dicts())
    )


def test_a_checkpoint_without_formats_still_loads_and_scores_as_before(box: Box, cloud: Cloud) -> None:
    uncalibrated = {"n_estimators": 40, "ensemble_size": 2, "calibration": "none"}
    scorer = train_on(box, [cloud.put_frame("a.csv", clients(days(400)))], configuration=uncalibrated)
    path = box.container.model_folder / "checkpoint.json"
    paper = json.loads(path.read_text())
    (born,) = [feature for feature in paper["features"]["features"] if feature["name"] == "born"]
    for feature in paper["features"]["features"]:
        del feature["date_formats"]
    born["date_order"] = "day_first"
    path.write_text(json.dumps({**paper, "format_version": 1, "model_files": ["trees.txt"]}))

    old = Scorer(box.container.model_folder)

    rows = [{"amount": 0.5, "born": text} for text in ("05/06/1990", "6.5.1990", "1990-06-05", "05.06.90", None)]
    iso = [{"amount": 0.5, "born": text} for text in ("1990-06-05", "1990-05-06", "1990-06-05", None, None)]
    assert old.score(rows) == scorer.score(iso)
