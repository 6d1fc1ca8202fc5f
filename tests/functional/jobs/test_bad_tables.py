"""Every architecture makes a model of a bad table, or ends in words: it never crashes."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from shared.errors import JobFailedError
from tests.functional.jobs.conftest import Box, Cloud
from tests.functional.jobs.test_bad_inputs import learn

pytestmark = pytest.mark.row("TR-3")
ARCHITECTURES = ("auto", "lightgbm", "xgboost", "catboost", "additive", "additive_catboost")
ROWS = 120
NORMAL = np.random.default_rng(1).normal(size=ROWS)
BOUGHT = ["yes" if index % 3 else "no" for index in range(ROWS)]


def table(bought: list[str] = BOUGHT, **columns: Any) -> pl.DataFrame:
    return pl.DataFrame({**columns, "bought": bought})


def every(value: Callable[[int], Any], rows: int = ROWS) -> list[Any]:
    return [value(index) for index in range(rows)]


BAD_COLUMNS: dict[str, Any] = {
    "one value a row": every(lambda index: f"c{index}"),
    "missing": pl.Series([None] * ROWS, dtype=pl.Float64),
    "infinite": every(lambda index: float("inf") if index % 2 else float("-inf")),
    "some infinite": every(lambda index: float("inf") if index % 2 else float(index)),
    "largest": every(lambda index: (-1.0) ** index * 1e308),
    "beyond single": every(lambda index: (-1.0) ** index * 3e38),
    "least": every(lambda index: 5e-324 * (index % 7)),
    "constant": [1.0] * ROWS,
    "gives away": [f"{label}!" for label in BOUGHT],
    "rarely known": every(lambda index: 1.0 if index == 5 else None),
    "lists": every(lambda index: [index]),
}
TABLES = {
    "one feature": table(x=NORMAL),
    "truth values": table(x=every(lambda index: index % 2 == 0), y=every(lambda index: index % 5 == 0)),
    "dates": table(x=every(lambda index: date(2024, 1, 1) + timedelta(days=index % 50))),
    "columns of odd names": table(**{"": NORMAL, " ": -NORMAL, 'a"\n,b': NORMAL**2, "год": NORMAL**3, "[<]": NORMAL}),
    "few rows": table(every(lambda index: "yes" if index % 2 else "no", 20), x=NORMAL[:20]),
    "four of a label": table(["yes"] * 4 + ["no"] * 116, x=NORMAL),
    "the same rows": table(every(lambda index: "yes" if index % 4 else "no"), x=every(lambda index: index % 2)),
    "only extremes": table(x=BAD_COLUMNS["largest"], y=BAD_COLUMNS["some infinite"]),
    "rare numbers": table(x=BAD_COLUMNS["rarely known"], y=every(lambda index: "a" if index == 7 else "b")),
}
REFUSED = {
    "No column can be used as a feature": table(x=[1.0] * ROWS, y=BAD_COLUMNS["missing"]),
    "There are too few rows to train: 2 rows": table(["yes", "no"], x=[1.0, 2.0]),
    "has only one label": table(["yes"] * ROWS, x=NORMAL),
    "has 120 labels": table(every(lambda index: f"{index}"), x=NORMAL),
    "is empty": pl.DataFrame({"x": NORMAL, "bought": pl.Series([None] * ROWS, dtype=pl.String)}),
    "No column can be used": table(),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bad_columns_do_no_harm_together(box: Box, cloud: Cloud, architecture: str) -> None:
    checkpoint = learn(box, cloud, table(x=NORMAL, **BAD_COLUMNS), architecture).checkpoint
    dropped = {column.name for column in checkpoint.features.dropped}
    assert dropped >= {"one value a row", "missing", "constant", "lists"}
    assert checkpoint.notes[0].startswith("The column 'gives away' alone predicts 'bought' almost perfectly")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", TABLES)
def test_an_odd_table_has_a_model_that_scores_its_rows(box: Box, cloud: Cloud, architecture: str, name: str) -> None:
    learn(box, cloud, TABLES[name], architecture)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_many_categories_and_two_rows_of_a_label_in_a_fold_are_no_hindrance(
    box: Box, cloud: Cloud, architecture: str
) -> None:
    rows = 6_000
    many = every(lambda index: f"k{index % 4_000}", rows)
    bought = every(lambda index: "yes" if index < 12 else "no", rows)
    learn(box, cloud, table(bought, x=np.resize(NORMAL, rows), many=many), architecture, ensemble_size=5)


@pytest.mark.parametrize("reason", REFUSED)
def test_a_table_of_no_use_ends_in_words(box: Box, cloud: Cloud, reason: str) -> None:
    with pytest.raises(JobFailedError, match=reason):
        learn(box, cloud, REFUSED[reason], "auto")


def test_five_thousand_columns_have_a_model(box: Box, cloud: Cloud) -> None:
    random = np.random.default_rng(4)
    columns = {f"c{index}": random.integers(0, 3, ROWS) for index in range(5_000)}
    assert len(learn(box, cloud, table(**columns), "auto").checkpoint.features.features) == 5_000
