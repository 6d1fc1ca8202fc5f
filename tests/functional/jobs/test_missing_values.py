import io
import threading

import polars as pl
import pytest

from functions.jobs.train.job import train
from shared.propensity.checkpoints import Scorer
from tests.functional.jobs.conftest import Box, Cloud, training
from tests.functional.jobs.test_train import customers

pytestmark = pytest.mark.row("FL-7")


def test_a_model_learns_the_class_none_and_scores_the_category_none(box: Box, cloud: Cloud) -> None:
    frame = customers().with_columns(
        fraud=pl.col("bought").replace({"no": "none", "yes": "confirmed"}),
        coupon=pl.when(pl.col("bought") == "no").then(pl.lit("none")).otherwise(pl.lit("gold")),
    )
    parquet = io.BytesIO()
    frame.drop("bought").write_parquet(parquet)
    train(
        training([cloud.put("a.parquet", parquet.getvalue())], "fraud"), box.container, threading.Event(), cloud.client
    )

    scorer = Scorer(box.container.model_folder)
    assert {scorer.checkpoint.positive_label, scorer.checkpoint.negative_label} == {"none", "confirmed"}
    row = {"age": 40, "city": "Lyon", "active": True, "joined": "2021-05-01"}
    none, gold = scorer.score([{**row, "coupon": "none"}, {**row, "coupon": "gold"}])
    assert (none.label, gold.label) == ("none", "confirmed")
