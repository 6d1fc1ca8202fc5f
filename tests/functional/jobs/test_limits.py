"""What a training accepts, predictions accept, too: limits and types agree."""

import io
import json
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from functions.jobs.modelling.frames import CATEGORY_CHARACTERS
from functions.jobs.modelling.unusable import check_values
from functions.jobs.train.job import train
from shared.errors import JobFailedError
from shared.files.limits import ReadLimits
from shared.http.middleware import BODY_LIMIT
from shared.models.checkpoint import PredictionRequest
from shared.models.job import JobFile
from shared.models.reading import COLUMNS_LIMIT
from shared.propensity import artifacts
from shared.propensity.checkpoints import Scorer
from shared.propensity.tables import encode_frame
from tests.functional.jobs.conftest import Box, Cloud, training

pytestmark = pytest.mark.row("FL-9")

ROWS = 40
NUMBERS = list(range(ROWS))


def put_parquet(cloud: Cloud, name: str, columns: Mapping[str, Any]) -> JobFile:
    """Stores a table with labels as Parquet."""
    content = io.BytesIO()
    pl.DataFrame({**columns, "bought": ["yes", "no"] * (ROWS // 2)}).write_parquet(content)
    return cloud.put(name, content.getvalue())


def run(box: Box, cloud: Cloud, *files: JobFile) -> Scorer:
    job = training(list(files), configuration={"n_estimators": 2, "ensemble_size": 1})
    train(job, box.container, threading.Event(), cloud.client)
    return Scorer(box.container.model_folder)


def score(scorer: Scorer, row: Mapping[str, Any]) -> float:
    """Scores a row as a request brings it."""
    body = json.dumps({"rows": [row]})
    assert len(body) < BODY_LIMIT
    rows = PredictionRequest.model_validate_json(body).rows
    return float(scorer.probabilities(scorer.checkpoint.features.encode_rows(rows))[0])


def test_files_trainings_and_predictions_have_one_limit_of_columns(box: Box, cloud: Cloud) -> None:
    assert ReadLimits().columns == COLUMNS_LIMIT
    row = {f"column_{place}": 12345.678 for place in range(COLUMNS_LIMIT)}
    assert len(json.dumps({"rows": [row]})) < BODY_LIMIT
    assert len(PredictionRequest(rows=[row]).rows[0]) == COLUMNS_LIMIT
    with pytest.raises(ValidationError):
        PredictionRequest(rows=[row | {"one_more": 1}])

    half = COLUMNS_LIMIT // 2
    files = [
        put_parquet(
            cloud, f"{first}.parquet", dict.fromkeys((f"column_{first + place}" for place in range(half)), NUMBERS)
        )
        for first in (0, half)
    ]
    with pytest.raises(
        JobFailedError, match=f"{COLUMNS_LIMIT + 1:,} different columns together; at most {COLUMNS_LIMIT:,}"
    ):
        run(box, cloud, *files)


def test_a_model_of_thousands_of_columns_and_of_long_texts_is_scored(box: Box, cloud: Cloud) -> None:
    random = np.random.default_rng(1)
    columns = {f"column_{place}": random.normal(size=ROWS) for place in range(3_000)}
    long = "x" * (CATEGORY_CHARACTERS + 1)
    scorer = run(box, cloud, put_parquet(cloud, "a.parquet", {**columns, "text": [long, "short"] * (ROWS // 2)}))
    (text,) = [feature for feature in scorer.checkpoint.features.features if feature.name == "text"]
    assert (text.categories, text.others) == (["short"], True)
    assert 0 <= score(scorer, {**dict.fromkeys(columns, 1.5), "text": long}) <= 1


def test_a_model_that_predictions_would_not_load_fails_the_training(
    box: Box, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put_parquet(cloud, "a.parquet", {"age": NUMBERS})
    for limit in ("MAX_SCORED_BYTES", "MAX_PAPER_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(artifacts, limit, 100)
            with pytest.raises(JobFailedError, match="Predictions could not use this checkpoint"):
                run(box, cloud, file)
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "MAX_PACKED_BYTES", 100)
        with pytest.raises(JobFailedError, match="Predictions could not use this checkpoint"):
            run(box, cloud, file)
    assert 0 <= score(run(box, cloud, file), {"age": 1}) <= 1


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_lists_and_objects_are_no_features_because_predictions_take_none(box: Box, cloud: Cloud, format: str) -> None:
    nested = {"tags": [["a"], ["b", "c"]] * (ROWS // 2), "address": [{"city": "Rome"}, {"city": "Nice"}] * (ROWS // 2)}
    frame = pl.DataFrame({"age": NUMBERS, **nested, "bought": ["yes", "no"] * (ROWS // 2)})
    content = io.BytesIO()
    frame.write_parquet(content) if format == "parquet" else frame.write_ndjson(content)
    scorer = run(box, cloud, cloud.put(f"a.{format}", content.getvalue()))
    assert [feature.name for feature in scorer.checkpoint.features.features] == ["age"]
    dropped = {column.name: column.reason for column in scorer.checkpoint.features.dropped}
    assert dropped == dict.fromkeys(nested, "its values are lists or objects, which predictions do not take")
    assert 0 <= score(scorer, {"age": 1}) <= 1


def test_a_number_beyond_single_precision_is_missing_in_trainings_benchmarks_and_predictions(
    box: Box, cloud: Cloud
) -> None:
    ages = [*NUMBERS[:-8], *([1e39] * 4), *([-1e39] * 4)]
    scorer = run(box, cloud, put_parquet(cloud, "a.parquet", {"age": [float(age) for age in ages]}))
    rows: list[dict[str, Any]] = [{"age": 1e39}, {"age": "1e39"}, {"age": None}]
    matrix = scorer.checkpoint.features.encode_rows(rows)
    assert np.isnan(matrix).all()
    assert not list(scorer.checkpoint.features.unread(rows, matrix))
    frame = pl.DataFrame({"age": [1e39] * 10})
    assert check_values(scorer.checkpoint.features, frame, encode_frame(scorer.checkpoint.features, frame)) == []
    wrong = pl.DataFrame({"age": ["old"] * 10})
    with pytest.raises(JobFailedError, match="are not a number"):
        check_values(scorer.checkpoint.features, wrong, encode_frame(scorer.checkpoint.features, wrong))
