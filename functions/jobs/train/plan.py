"""Decides about the data of a training before it fits: its labels, the rows to hold out, and the features."""

from dataclasses import dataclass

import polars as pl

from functions.jobs.modelling.automatic_splits import automatic_holdout, entity_columns
from functions.jobs.modelling.frames import DateFormats, date_formats, infer_schema
from functions.jobs.modelling.repeated_rows import repeated_columns
from functions.jobs.modelling.splits import choose_holdout, held_out_rows
from functions.jobs.modelling.targets import to_labels, two_labels
from functions.jobs.sources import DatasetTable
from shared.errors import JobFailedError
from shared.models.job import TrainingJob
from shared.propensity.architectures.configuration import ArchitectureConfiguration
from shared.propensity.features import FeatureSchema
from shared.propensity.holdouts import GroupHoldout, Holdout, Labels, Mask, TimeHoldout

FEWEST_ROWS = 20
FEWEST_OF_A_CLASS = 4
# Why a column is no feature.
NESTED = "its values are lists or objects, which predictions do not take"
EXCLUDED = "excluded by the configuration"
GROUPING = "rows are held out by it"
ENTITY = "it names a client, and the held-out rows are of the same clients as the others"
# A model that knows persons has learned nothing of others.
IDENTIFYING = "it identifies persons, by what a scan found or the connector's personal_data says"


@dataclass(frozen=True)
class DataPlan:
    """What was decided, and the rows by which it was."""

    positive: str
    negative: str
    holdout: Holdout
    # Why the automatic split is what it is.
    reason: str
    schema: FeatureSchema
    labels: Labels
    held_out: Mask


def plan(
    job: TrainingJob,
    configuration: ArchitectureConfiguration,
    seed: int,
    table: DatasetTable,
    texts: pl.Series,
    counts: dict[str, int],
) -> DataPlan:
    """Decides by rows with known labels, whose ``texts`` these are. ``counts`` has the number of rows of each label.

    Raises:
        JobFailedError: the data or the target cannot be used; the message has the reason.
    """
    positive, negative = two_labels(job.target, counts, job.positive_label)
    _require_enough(job.target, counts)
    labels = to_labels(texts, positive)
    features = table.frame.drop(job.target)
    formats = date_formats(features, table.formats)
    never = _never_used(job, configuration, table)
    holdout, reason = _holdout(job, seed, table, features, labels, formats, never)
    held_out = held_out_rows(holdout, features, table.draws, labels)
    _require_both_classes(labels, held_out, holdout)
    schema = infer_schema(features, _left_out(never, holdout, features), formats, ~held_out)
    return DataPlan(positive, negative, holdout, reason, schema, labels, held_out)


def _holdout(
    job: TrainingJob,
    seed: int,
    table: DatasetTable,
    features: pl.DataFrame,
    labels: Labels,
    formats: DateFormats,
    never: dict[str, str],
) -> tuple[Holdout, str]:
    """Returns the rule by which rows are held out, and the reason of an automatic one."""
    alike = repeated_columns(features, labels, never, formats) if job.split.kind in ("automatic", "random") else None
    if job.split.kind == "automatic":
        return automatic_holdout(job.split.test_fraction, seed, features, table.draws, labels, formats, alike)
    return choose_holdout(job.split, seed, features, table.draws, labels, formats, alike), ""


def _never_used(job: TrainingJob, configuration: ArchitectureConfiguration, table: DatasetTable) -> dict[str, str]:
    """Returns the columns that are no features for any split, with the reasons."""
    identifying = [column for dataset in job.datasets for column in dataset.identifying_columns]
    left_out = dict.fromkeys(identifying, IDENTIFYING) | dict.fromkeys(table.nested, NESTED)
    return left_out | dict.fromkeys(configuration.excluded_columns, EXCLUDED)


def _left_out(never: dict[str, str], holdout: Holdout, features: pl.DataFrame) -> dict[str, str]:
    """Returns the columns that are not to be features, with the reasons."""
    # In a split by time, a model that remembers clients seems to know the future.
    entities = entity_columns(features) if isinstance(holdout, TimeHoldout) else []
    left_out = dict.fromkeys(entities, ENTITY) | never
    if isinstance(holdout, GroupHoldout):
        left_out[holdout.column] = GROUPING
    return left_out


def _require_enough(target: str, counts: dict[str, int]) -> None:
    rows, fewest = sum(counts.values()), min(counts.values())
    if rows < FEWEST_ROWS or fewest < FEWEST_OF_A_CLASS:
        rare = min(counts, key=lambda label: counts[label])
        raise JobFailedError(
            f"There are too few rows to train: {rows} rows have a label in '{target}', {fewest} of them '{rare}'. "
            f"At least {FEWEST_ROWS} rows and {FEWEST_OF_A_CLASS} rows of each label are needed."
        )


def _require_both_classes(labels: Labels, held_out: Mask, holdout: Holdout) -> None:
    fitted = labels[~held_out]
    positives = int(fitted.sum())
    if min(positives, len(fitted) - positives) < 2:
        raise JobFailedError(
            f"The {holdout.kind} split leaves {len(fitted)} rows to fit, {positives} of them positive. At least two "
            "rows of each label are needed. Choose a smaller test_fraction or another column or kind of split."
        )
