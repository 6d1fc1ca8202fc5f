"""A training keeps in memory only what it still needs."""

import io
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from functions.jobs.fitting.base import Examples
from functions.jobs.modelling.training import MemberWatcher
from functions.jobs.sources import DatasetTable, LocalFile, read_files
from functions.jobs.train import job as training_job
from functions.jobs.train.job import train
from shared.models.job import JobFile
from tests.fixtures.trained_models import quick
from tests.functional.jobs.conftest import Box, Cloud, training

ROWS = 400


def rows() -> pl.DataFrame:
    random = np.random.default_rng(5)
    numbers = random.integers(-100, 100, ROWS)
    return pl.DataFrame(
        {
            "small": numbers.astype(np.int8),
            "single": (numbers / 10).astype(np.float32),
            "x": random.normal(size=ROWS),
            "bought": random.integers(0, 2, ROWS).astype(np.int8),
        }
    )


def read(folder: Path, *frames: pl.DataFrame) -> DatasetTable:
    files = []
    for number, frame in enumerate(frames):
        path = folder / f"{number}.parquet"
        frame.write_parquet(path)
        pinned = JobFile(bucket="b", key=path.name, etag="e", size_bytes=path.stat().st_size)
        files.append(LocalFile(pinned, path, "bought"))
    return read_files(files, 0, "bought")


def test_columns_of_small_types_stay_small(tmp_path: Path) -> None:
    found = read(tmp_path, rows(), rows()).frame
    assert found.schema == {"small": pl.Int8, "single": pl.Float32, "x": pl.Float64, "bought": pl.Int64}
    assert found["small"].to_list() == [*rows()["small"]] * 2


def test_small_types_have_the_texts_of_the_basic_ones_where_another_file_has_texts(tmp_path: Path) -> None:
    texts = rows().with_columns(single=pl.lit("some"), small=pl.Series(range(ROWS)) * 2**40)
    found = read(tmp_path, rows(), texts).frame
    assert found.schema == {"small": pl.Int64, "single": pl.String, "x": pl.Float64, "bought": pl.Int64}
    assert found["single"][0] == str(float(rows()["single"][0]))


def test_neither_the_table_nor_the_rows_of_a_fold_stay_while_trees_grow(
    box: Box, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[weakref.ref[Any]] = []
    alive: list[int] = []
    read_all, take, after_round = read_files, Examples.take, MemberWatcher.after_round

    def reading(*given: Any) -> DatasetTable:
        table = read_all(*given)
        known.append(weakref.ref(table.frame))
        return table

    def taking(self: Examples, some: Any) -> Examples:
        taken = take(self, some)
        known.append(weakref.ref(taken.matrix))
        return taken

    def watching(self: MemberWatcher, *given: Any) -> bool:
        alive.append(sum(each() is not None for each in known))
        return after_round(self, *given)

    monkeypatch.setattr(training_job, "read_files", reading)
    monkeypatch.setattr(Examples, "take", taking)
    monkeypatch.setattr(MemberWatcher, "after_round", watching)
    content = io.BytesIO()
    rows().write_parquet(content)
    file = cloud.put("a.parquet", content.getvalue())
    job = training([file], architecture="lightgbm", configuration={**quick("lightgbm"), "ensemble_size": 1})
    train(job, box.container, threading.Event(), cloud.client)
    assert len(known) == 3
    assert alive
    assert not any(alive)
