"""One value has one meaning: in CSV, in Parquet and in the JSON of a prediction."""

import csv
import io
import json
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from functions.jobs.train.job import train
from shared.files.readers import opened
from shared.models.job import MetricName
from shared.propensity.checkpoints import Scorer
from shared.propensity.tables import encode_frame
from tests.functional.jobs.conftest import Box, Cloud, NotedByReader, training
from tests.functional.jobs.test_evaluate import evaluation, run

pytestmark = pytest.mark.row("FL-9", "X-1")

ROWS = 10_000
GERMAN = "%d.%m.%Y"
Row = dict[str, Any]


def clients(rows: int, seed: int) -> list[Row]:
    """Returns rows of every type, a tenth of each column missing."""
    random = np.random.default_rng(seed)

    def row() -> Row:
        moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=int(random.integers(0, 10**8)))
        values: Row = {
            "count": int(random.integers(-50, 50)),
            "large": int(random.integers(10**9, 10**15)),
            "amount": float(random.normal() * 10.0 ** random.integers(-8, 9)),
            "whole": float(random.integers(0, 9)),
            "flag": bool(random.random() < 0.5),
            "digit": int(random.integers(0, 2)),
            "vip": str(random.choice(["True", "False", "unknown"])),
            "size": str(random.choice(["1", "2", "XL", "1.5"])),
            "code": str(random.choice(["007", "7", "A7", "12E5"])),
            "city": str(random.choice(["Lyon", " Nice", "São Paulo", 'a "b", c'])),
            "born": date(1950, 1, 1) + timedelta(days=int(random.integers(0, 20_000))),
            "joined": date(2000, 1, 1) + timedelta(days=int(random.integers(0, 8_000))),
            "seen": moment,
            "called": moment.astimezone(timezone(timedelta(hours=5, minutes=30))),
        }
        chance = 1 / (1 + np.exp(-(values["count"] / 20 + values["flag"] + (values["vip"] == "True") - 1)))
        missing = random.random(len(values)) < 0.1
        values = {name: None if gone else value for (name, value), gone in zip(values.items(), missing, strict=True)}
        return {**values, "bought": bool(random.random() < chance)}

    return [row() for _ in range(rows)]


def as_csv(rows: Sequence[Row]) -> bytes:
    """Returns the rows as Python writes them: True, 1.0, and German dates."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows({**row, "born": row["born"] and f"{row['born']:{GERMAN}}"} for row in rows)
    return file.getvalue().encode()


def as_parquet(rows: Sequence[Row]) -> bytes:
    file = io.BytesIO()
    utc = [{**row, "called": row["called"] and row["called"].astimezone(UTC)} for row in rows]
    pl.DataFrame(utc, infer_schema_length=None).write_parquet(file)
    return file.getvalue()


def as_json(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows as a client sends them: a truth value may be a number, and a number a float or a truth value."""
    random = np.random.default_rng(1)

    def sent(name: str, value: Any) -> Any:
        if name == "born" and value is not None:
            return f"{value:{GERMAN}}"
        if isinstance(value, date | datetime):
            return value.isoformat()
        if value is None or name not in ("flag", "digit", "vip", "size", "count", "whole"):
            return value
        if name == "vip":
            return {"True": True, "False": False}.get(value, value) if random.random() < 0.5 else value
        if name == "size":
            return float(value) if value != "XL" and random.random() < 0.5 else value
        spellings = [value, float(value), str(value), *([bool(value)] if value in (0, 1) else [])]
        return spellings[int(random.integers(0, len(spellings)))]

    text = json.dumps([{name: sent(name, value) for name, value in row.items()} for row in rows])
    found: list[Row] = json.loads(text)
    return found


def read(folder: Path, name: str, content: bytes) -> pl.DataFrame:
    path = folder / name
    path.write_bytes(content)
    with opened(path, name=name) as source:
        return source.collect(lambda rows: rows)


@pytest.fixture
def trained(box: Box, cloud: Cloud, noted: NotedByReader) -> Scorer:
    noted.formats["a.csv"] = {"born": [GERMAN]}
    file = cloud.put("a.csv", as_csv(clients(2000, seed=3)))
    train(training([file]), box.container, threading.Event(), cloud.client)
    return Scorer(box.container.model_folder)


def test_ten_thousand_rows_of_every_type_score_alike_from_each_format_and_from_a_request(
    tmp_path: Path, trained: Scorer
) -> None:
    rows = clients(ROWS, seed=4)
    schema = trained.checkpoint.features
    assert {feature.kind for feature in schema.features} == {"numeric", "boolean", "categorical", "datetime"}
    assert len(schema.features) == len(rows[0]) - 1

    from_json = schema.encode_rows(as_json(rows))
    lines = "".join(f"{json.dumps(row)}\n" for row in as_json(rows)).encode()
    for name, content in (("b.csv", as_csv(rows)), ("b.parquet", as_parquet(rows)), ("b.jsonl", lines)):
        matrix = encode_frame(schema, read(tmp_path, name, content))
        np.testing.assert_array_equal(matrix, from_json, err_msg=name)
        np.testing.assert_array_equal(trained.probabilities(matrix), trained.probabilities(from_json))
    missing = np.isnan(from_json).mean(axis=0)
    assert (missing < 0.12).all()


@pytest.mark.parametrize("spellings", [("1", "0"), ("True", "False"), ("TRUE", "FALSE"), ("1.0", "0.0")])
def test_a_benchmark_may_spell_the_labels_otherwise(
    box: Box, cloud: Cloud, trained: Scorer, spellings: tuple[str, str]
) -> None:
    rows = clients(300, seed=5)
    texts = [{**row, "bought": spellings[not row["bought"]]} for row in rows]
    box.use_trained_model()

    as_it_was = run(evaluation([cloud.put("b.csv", as_csv(rows))]), box)
    respelled = run(evaluation([cloud.put("c.parquet", as_parquet(texts))]), box)

    assert as_it_was.dropped_rows == 0
    assert respelled.measurement == as_it_was.measurement
    assert (respelled.measurement.metrics[MetricName.ROC_AUC] or 0) > 0.6
