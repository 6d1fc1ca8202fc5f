"""The work of prediction runs: scores equal to those of ``POST /checkpoints/{id}/predictions``, row by row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shared.models.run import PredictionSettings
from shared.propensity.tables import encode_frame, unread_rows
from shared.runs.work import Batch, BatchOutcome, Refusal

if TYPE_CHECKING:
    from shared.propensity.checkpoints import Scorer
    from shared.propensity.features import Matrix

REASONS = 5
_CONTRIBUTIONS = pl.List(pl.Struct({"column": pl.String, "contribution": pl.Float64}))
SCHEMA = pl.Schema(
    {
        "client_key": pl.String(),
        "probability": pl.Float64(),
        "label": pl.String(),
        "base_value": pl.Float64(),
        "contributions": _CONTRIBUTIONS,
        "reasons": pl.List(pl.String),
    }
)


class PredictionWork:
    """Scores batches with one checkpoint. The columns of the output are the same with and without contributions."""

    def __init__(self, scorer: "Scorer", settings: PredictionSettings) -> None:
        self._scorer = scorer
        self._settings = settings

    @property
    def schema(self) -> pl.Schema:
        return SCHEMA

    def columns(self, available: Sequence[str]) -> Sequence[str]:
        """Returns the columns of the model, and those that name the customer."""
        wanted = {feature.name for feature in self._scorer.checkpoint.features.features} | {*self._settings.key_columns}
        return [name for name in available if name in wanted]

    def work(self, batch: Batch) -> BatchOutcome:
        """Returns the scores of all rows but those with a value that the model can't read."""
        checkpoint = self._scorer.checkpoint
        rows, matrix = batch.rows, encode_frame(checkpoint.features, batch.rows)
        unread = unread_rows(checkpoint.features, rows, matrix)
        refused = [
            Refusal(row, f"the value of '{feature.name}' must be {feature.expected}, or missing", feature.name)
            for row, feature in sorted(unread.items())
        ]
        if refused:
            kept = np.ones(len(matrix), dtype=np.bool_)
            kept[list(unread)] = False
            rows, matrix = rows.filter(pl.Series(kept)), matrix[kept]
        probabilities = self._scorer.probabilities(matrix) if len(matrix) else np.empty(0)
        is_positive = pl.Series(probabilities >= checkpoint.threshold, dtype=pl.Boolean)
        positive, negative = (pl.lit(label) for label in (checkpoint.positive_label, checkpoint.negative_label))
        table = pl.DataFrame(
            {
                "client_key": _client_keys(rows, self._settings.key_columns),
                "probability": probabilities,
                "label": pl.select(pl.when(is_positive).then(positive).otherwise(negative)).to_series(),
                **self._explanations(matrix),
            },
            schema=SCHEMA,
        )
        return BatchOutcome(table, refused)

    def _explanations(self, matrix: "Matrix") -> dict[str, pl.Series]:
        if not self._settings.contributions:
            names = ("base_value", "contributions", "reasons")
            return {name: pl.repeat(None, len(matrix), dtype=SCHEMA[name], eager=True) for name in names}
        found = self._scorer.explain(matrix) if len(matrix) else []
        ordered = [sorted(each.contributions.items(), key=lambda one: (-abs(one[1]), one[0])) for each in found]
        contributions = [[{"column": name, "contribution": value} for name, value in each] for each in ordered]
        reasons = [[name for name, value in each[:REASONS] if value] for each in ordered]
        return {
            "base_value": pl.Series([each.base_value for each in found], dtype=pl.Float64),
            "contributions": pl.Series(contributions, dtype=_CONTRIBUTIONS),
            "reasons": pl.Series(reasons, dtype=pl.List(pl.String)),
        }


def _client_keys(rows: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Returns the first value of the columns that each row has, as text."""
    texts = [
        pl.col(name).cast(pl.String).str.strip_chars().replace("", None) for name in columns if name in rows.columns
    ]
    if not texts or not rows.height:
        return pl.Series([None] * rows.height, dtype=pl.String)
    return rows.select(pl.coalesce(texts).alias("client_key")).to_series()
