"""What the first worker decides for all, by a sample of the rows of all."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from functions.jobs.fitting.base import Examples
from functions.jobs.modelling.automatic_splits import repeated_entities
from functions.jobs.modelling.copies import copies
from functions.jobs.modelling.leakage import suspicious_columns
from functions.jobs.modelling.repeated_rows import are_repeated, key_draws, matrix_keys
from functions.jobs.modelling.splits import group_draws, held_out_rows
from functions.jobs.modelling.targets import to_labels
from functions.jobs.sharded.encoded import EncodedRows, Folds
from functions.jobs.sharded.prepared import RowBatch
from functions.jobs.sharded.sample import SampledTable
from functions.jobs.train.plan import DataPlan, plan
from functions.jobs.train.results import label_notes, remarks
from shared.models.job import JobModel, TrainingJob
from shared.propensity.architectures.configuration import (
    ArchitectureConfiguration,
    TabMConfiguration,
    XGBoostConfiguration,
)
from shared.propensity.features import FeatureSchema
from shared.propensity.holdouts import Draws, GroupHoldout, Holdout
from shared.propensity.tables import encode_frame


class Agreement(JobModel):
    """How every worker reads, holds out and encodes its rows, and what is fitted on them."""

    positive: str
    negative: str
    holdout: Holdout
    schema_: FeatureSchema
    # Columns that are text in some file, and so in all.
    texts: list[str]
    # By which draws rows validate a model: their own, or equal ones for equal rows or for rows of one client.
    folds_by: Literal["rows", "content", "column"]
    column: str | None
    folds: int
    configuration: XGBoostConfiguration | TabMConfiguration

    def encode(self, batch: RowBatch, seed: int, target: str, encoded: EncodedRows) -> None:
        """Keeps the encoded rows of a batch that have a label."""
        texts = batch.labels(target, (self.positive, self.negative))
        known = texts.is_not_null().to_numpy()
        frame = self._typed(batch.frame.filter(known))
        labels = to_labels(texts.filter(known), self.positive)
        matrix = encode_frame(self.schema_, frame)
        held_out = held_out_rows(self.holdout, frame, batch.draws[known], labels)
        draws = batch.fold_draws[known]
        if self.folds_by == "content":
            draws = key_draws(matrix_keys(matrix), seed + 1)
        elif self.column is not None:
            draws = group_draws(frame[self.column], seed + 1)
        encoded.add(matrix, labels, held_out, draws)

    def _typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        used = {feature.name for feature in self.schema_.features}
        used |= {name for name in (self.column, getattr(self.holdout, "column", None)) if name}
        used.update(getattr(self.holdout, "columns", None) or ())
        lacking = [pl.lit(None, dtype=pl.String).alias(name) for name in sorted(used - set(frame.columns))]
        texts = [name for name in self.texts if name in frame.columns and frame.schema[name] != pl.String]
        return frame.with_columns(*lacking, *(frame[name].cast(pl.String) for name in texts))


class SharedPlan:
    """The agreement, and what the first worker knows beside it."""

    def __init__(
        self, job: TrainingJob, configuration: ArchitectureConfiguration, seed: int, sampled: SampledTable
    ) -> None:
        """Raises JobFailedError if the data or the target cannot be used."""
        known = sampled.texts.is_not_null().to_numpy()
        table, texts = sampled.table.filter(known), sampled.texts.filter(known)
        features = table.frame.drop(job.target)
        self.plan = plan(job, configuration, seed, table, texts, sampled.counts)
        self._job, self._sampled, self._table = job, sampled, table
        decided = self.plan
        schema = decided.schema
        mask = ~decided.held_out
        fitted = Examples(encode_frame(schema, features, mask), decided.labels[mask])
        share = len(fitted) / len(mask)
        rows = round(sum(sampled.counts.values()) * share)
        positives = round(sampled.counts[decided.positive] * share)
        resolved = configuration.resolved(rows, positives)
        assert isinstance(resolved, (XGBoostConfiguration, TabMConfiguration))  # noqa: S101 - no other architecture has workers
        count = min(resolved.ensemble_size or 1, positives, rows - positives)
        column = _entity(decided, features)
        by: Literal["rows", "content", "column"] = "rows"
        draws: Draws | None = None
        if column:
            by, draws = "column", group_draws(features[column], seed + 1)[mask]
        elif are_repeated(keys := matrix_keys(fitted.matrix), fitted.labels):
            by, draws = "content", key_draws(keys, seed + 1)
        if draws is not None and not _both_in_all(draws, fitted, Folds(count, resolved.validation_fraction)):
            by, column = "rows", None
        self.agreement = Agreement(
            positive=decided.positive,
            negative=decided.negative,
            holdout=decided.holdout,
            schema_=schema,
            texts=[name for name, dtype in features.schema.items() if dtype == pl.String],
            folds_by=by,
            column=column,
            folds=count,
            configuration=resolved,
        )
        self._suspicious = suspicious_columns(schema, fitted, seed)
        self._copies = int(copies(features, texts)[0].sum())

    def remarks(self, about_fit: Sequence[str], about_files: Sequence[str]) -> list[str]:
        """Returns the notes about the training."""
        sampled = self._sampled
        about = [*about_fit]
        if not sampled.is_whole:
            about.append(
                f"Columns, categories, splits and leaks were judged by a sample of {len(self._table.draws):,} of the "
                f"{sum(sampled.counts.values()):,} rows with a label."
            )
        if self._copies:
            about.append(
                f"{self._copies:,} of these rows are copies of other rows in all columns. A training with several "
                "workers, or on data larger than the memory, keeps them."
            )
        about_data = [*sampled.table.notes, *label_notes(self._job, self.plan, sampled.unlabelled), *about_files]
        return remarks(self._job, self.plan, self._suspicious, about, about_data)


def _entity(decided: DataPlan, features: pl.DataFrame) -> str | None:
    if isinstance(decided.holdout, GroupHoldout):
        return decided.holdout.column
    return next(iter(repeated_entities(features)), None)


def _both_in_all(draws: Draws, fitted: Examples, folds: Folds) -> bool:
    """Returns whether both sides of each fold have rows of both labels."""
    for index in range(folds.count):
        validates = folds.has(index, draws)
        for side in (fitted.labels[validates], fitted.labels[~validates]):
            if not 0 < np.count_nonzero(side) < len(side):
                return False
    return True
