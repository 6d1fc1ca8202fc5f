"""A training uses no more threads than pay."""

import io
import threading
from typing import Any

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_info

from functions.jobs.fitting.additive import Additive
from functions.jobs.train.job import train
from tests.functional.jobs.conftest import Box, Cloud, training


@pytest.mark.row("ML-1")
def test_numpy_solves_small_scorecards_with_one_thread(box: Box, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    fit = Additive.fit_folds

    def watched(*given: Any) -> Any:
        threads.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        return fit(*given)

    monkeypatch.setattr(Additive, "fit_folds", watched)
    content = io.BytesIO()
    random = np.random.default_rng(3)
    pl.DataFrame({"x": random.normal(size=200), "bought": random.integers(0, 2, 200)}).write_parquet(content)
    job = training([cloud.put("a.parquet", content.getvalue())], architecture="additive", configuration={})
    train(job, box.container, threading.Event(), cloud.client)
    assert threads
    assert set(threads) == {1}
