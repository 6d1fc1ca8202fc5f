"""The work of prediction runs: scores equal to those of ``POST /checkpoints/{id}/predictions``, row by row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shared.models.client_key import CLIENT_KEY_CHARACTERS, ClientKeyRule
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
        rows, records = batch.rows, batch.records
        matrix = encode_frame(checkpoint.features, rows)
        unread = unread_rows(checkpoint.features, rows, matrix)
        refused = [
            Refusal(row, f"the value of '{feature.name}' must be {feature.expected}, or missing", feature.name)
            for row, feature in sorted(unread.items())
        ]
        if refused:
            kept = np.ones(len(matrix), dtype=np.bool_)
            kept[list(unread)] = False
            rows, records, matrix = rows.filter(pl.Series(kept)), records.filter(pl.Series(kept)), matrix[kept]
        probabilities = self._scorer.probabilities(matrix) if len(matrix) else np.empty(0)
        is_positive = pl.Series(probabilities >= checkpoint.threshold, dtype=pl.Boolean)
        positive, negative = (pl.lit(label) for label in (checkpoint.positive_label, checkpoint.negative_label))
        keys = _client_keys(rows, self._settings.key_columns)
        table = pl.DataFrame(
            {
                "client_key": keys,
                "probability": probabilities,
                "label": pl.select(pl.when(is_positive).then(positive).otherwise(negative)).to_series(),
                **self._explanations(matrix),
            },
            schema=SCHEMA,
        )
        customers = pl.DataFrame({"customer": comparable(keys, self._settings.client_key), "record": records})
        return BatchOutcome(table, refused, customers=customers)

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


def comparable(keys: pl.Series, rule: ClientKeyRule) -> pl.Series:
    """Returns the form of keys in which the rule compares them; the key itself where it names nobody by the rule.

    It is ``rule.key_of``, by columns where a key is of plain letters and signs.
    """
    key = pl.col("key")
    form = key
    if keys.str.contains(".", literal=True).any():
        form = form.str.replace(r"^([+-]?[0-9]+)\.0+$", "${1}")
    if rule.ignore_case:
        form = form.str.to_lowercase()
    if rule.ignore_separators:
        form = form.str.replace_all("[^A-Za-z0-9]", "")
    if rule.ignore_leading_zeros:
        form = pl.when(form.str.contains("^0+$")).then(pl.lit("0")).otherwise(form.str.strip_chars_start("0"))
    names_nobody = (form == "") | (form.str.len_bytes() > CLIENT_KEY_CHARACTERS)
    frame = keys.alias("key").to_frame()
    found = frame.select(form=pl.when(names_nobody).then(key).otherwise(form), is_other=key.str.contains("[^!-~]"))
    places = found["is_other"].arg_true()
    others = [rule.key_of(text) or text for text in keys.gather(places)]
    return found["form"].scatter(places, others) if others else found["form"]
