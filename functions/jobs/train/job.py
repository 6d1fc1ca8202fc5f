"""Fits the models of one training, measures them on the holdout, and writes a checkpoint."""

import hashlib
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from functions.jobs.container import Container
from functions.jobs.downloads import ClientFactory
from functions.jobs.file_warnings import warnings_of
from functions.jobs.modelling.automatic_splits import automatic_holdout, entity_columns
from functions.jobs.modelling.copies import copies, write_hashes
from functions.jobs.modelling.frames import date_formats, encode_frame, infer_schema
from functions.jobs.modelling.leakage import suspicious_columns
from functions.jobs.modelling.metrics import measure
from functions.jobs.modelling.splits import choose_holdout, group_draws, held_out_rows, validation_folds
from functions.jobs.modelling.targets import label_texts, to_labels, two_labels
from functions.jobs.modelling.training import Observer, Workspace, fit_ensemble
from functions.jobs.progress import ProgressReporter, webhook_sender
from functions.jobs.sources import DatasetTable, read_datasets
from shared.errors import JobFailedError
from shared.models.job import TrainingJob
from shared.propensity.architectures.base import Examples, Labels
from shared.propensity.architectures.configuration import BoostingConfiguration
from shared.propensity.architectures.registry import ARCHITECTURES, validate_configuration
from shared.propensity.artifacts import require_scorable
from shared.propensity.checkpoints import FORMAT_VERSION, StoredCheckpoint, library_versions, write_checkpoint
from shared.propensity.ensemble import Ensemble
from shared.propensity.errors import CheckpointError
from shared.propensity.features import FeatureSchema
from shared.propensity.holdouts import GroupHoldout, Holdout, Mask, TimeHoldout

FEWEST_ROWS = 20
FEWEST_OF_A_CLASS = 4
THRESHOLD = 0.5
# Why a column is no feature.
NESTED = "its values are lists or objects, which predictions do not take"
EXCLUDED = "excluded by the configuration"
GROUPING = "rows are held out by it"
ENTITY = "it names a client, and the held-out rows are of the same clients as the others"
# A model that knows persons has learned nothing of others.
IDENTIFYING = "it identifies persons, by what a scan found or the connector's personal_data says"


def train(job: TrainingJob, container: Container, stop: threading.Event, client: ClientFactory) -> None:
    """Runs the training of ``job`` and writes the checkpoint to the container's model folder.

    Raises:
        JobFailedError: the data, the target or the hardware cannot be used; the message has the reason.
        TrainingStoppedError: ``stop`` was set.
    """
    sender = webhook_sender(job.progress, client)
    with ProgressReporter(stop, sender, ("training", job.training_id)) as progress:
        configuration = validate_configuration(job.architecture, job.configuration, "configuration")
        seed = job.seed if configuration.seed is None else configuration.seed
        table = read_datasets(job.datasets, seed, job.target, client)
        checkpoint, ensemble, fitted = fit(job, configuration, seed, table, container, progress)
        write_hashes(container.model_folder, fitted.matrix, fitted.labels)
        write_checkpoint(container.model_folder, checkpoint, ensemble)
        _require_scorable(container.model_folder)
    for name, value in checkpoint.measurement.metrics.items():
        if value is not None:
            print(f"metric {name}={value:.6f} step=0", flush=True)  # noqa: T201 - SageMaker reads stdout


def fit(
    job: TrainingJob,
    configuration: BoostingConfiguration,
    seed: int,
    table: DatasetTable,
    container: Container,
    progress: ProgressReporter,
) -> tuple[StoredCheckpoint, Ensemble, Examples]:
    """Returns the checkpoint, its models, and the examples that they were fitted on."""
    texts = label_texts(table.frame[job.target])
    known = texts.is_not_null().to_numpy()
    table, texts = table.filter(known), texts.filter(known)
    once, copy_notes = _without_copies(table.frame.drop(job.target), texts)
    table, texts = table.filter(once), texts.filter(once)
    counts = dict(texts.value_counts().iter_rows())
    positive, negative = two_labels(job.target, counts, job.positive_label)
    _require_enough(job.target, counts)
    labels = to_labels(texts, positive)
    features = table.frame.drop(job.target)
    formats = date_formats(features, table.formats)
    if job.split.kind == "automatic":
        holdout, reason = automatic_holdout(job.split.test_fraction, seed, features, table.draws, labels, formats)
    else:
        holdout, reason = choose_holdout(job.split, seed, features, table.draws, labels, formats), ""
    held_out = held_out_rows(holdout, features, table.draws, labels)
    _require_both_classes(labels, held_out, holdout)

    left_out = _left_out(job, configuration, holdout, table, features)
    schema = infer_schema(features.filter(~held_out), left_out, formats)
    examples = Examples(encode_frame(schema, features), labels)
    fitted = examples.take(np.nonzero(~held_out)[0])
    resolved = configuration.resolved(len(fitted))
    folds = _folds(resolved, fitted.labels, holdout, features.filter(~held_out), seed)
    ensemble = _fit_models(job, resolved, seed, schema, fitted, folds, container, progress)

    architecture = ARCHITECTURES[job.architecture]
    measurement = measure(labels[held_out], ensemble.predict(examples.matrix[held_out]), THRESHOLD)
    notes = [
        *_warnings(suspicious_columns(schema, fitted, seed), job.target),
        *([reason] if reason else []),
        *copy_notes,
        *table.notes,
        *_label_notes(len(known) - int(known.sum()), job.target, positive, explicit=job.positive_label is not None),
        *warnings_of(table.file_notes),
        *(f"The column '{column.name}' is not used: {column.reason}." for column in schema.dropped[:100]),
    ]
    checkpoint = StoredCheckpoint(
        format_version=FORMAT_VERSION,
        training_id=job.training_id,
        created_at=datetime.now(UTC),
        architecture=job.architecture,
        target=job.target,
        positive_label=positive,
        negative_label=negative,
        threshold=THRESHOLD,
        measurement=measurement,
        series=progress.series(),
        notes=notes,
        features=schema,
        configuration=resolved.model_dump(),
        seed=seed,
        model_files=[f"model-{index}{architecture.load().suffix}" for index in range(len(ensemble.members))],
        holdout=holdout,
        trained_files=table.files,
        trained_rows=len(fitted),
        library_versions=library_versions(),
    )
    return checkpoint, ensemble, fitted


def _require_scorable(folder: Path) -> None:
    try:
        require_scorable(folder)
    except CheckpointError as error:
        raise JobFailedError(
            f"Predictions could not use this checkpoint: {error}. Train fewer or smaller trees (n_estimators, "
            "max_depth, ensemble_size), or leave columns with many or long texts out."
        ) from error


def _without_copies(features: pl.DataFrame, labels: pl.Series) -> tuple[Mask, list[str]]:
    """Returns the mask of the rows to learn from, without copies of others, and notes about the copies."""
    repeated, are_copies = copies(features, labels)
    count = int(repeated.sum())
    if not count:
        return ~repeated, []
    if are_copies:
        return ~repeated, [f"{count:,} rows were left out, because they are copies of other rows in all columns."]
    note = (
        f"{count:,} rows equal other rows in all columns. They were kept, for rows of few values are equal by chance."
    )
    return np.ones_like(repeated), [note]


def _left_out(
    job: TrainingJob,
    configuration: BoostingConfiguration,
    holdout: Holdout,
    table: DatasetTable,
    features: pl.DataFrame,
) -> dict[str, str]:
    """Returns the columns that are not to be features, with the reasons."""
    identifying = [column for dataset in job.datasets for column in dataset.identifying_columns]
    # In a split by time, a model that remembers clients seems to know the future.
    entities = entity_columns(features) if isinstance(holdout, TimeHoldout) else []
    left_out = dict.fromkeys(entities, ENTITY) | dict.fromkeys(identifying, IDENTIFYING)
    left_out |= dict.fromkeys(table.nested, NESTED)
    left_out |= dict.fromkeys(configuration.excluded_columns, EXCLUDED)
    if isinstance(holdout, GroupHoldout):
        left_out[holdout.column] = GROUPING
    return left_out


def _fit_models(
    job: TrainingJob,
    configuration: BoostingConfiguration,
    seed: int,
    schema: FeatureSchema,
    fitted: Examples,
    folds: list[Mask],
    container: Container,
    progress: Observer,
) -> Ensemble:
    architecture = ARCHITECTURES[job.architecture].load()
    # Saved models of other inputs must not be used.
    inputs = (
        job.model_dump_json(exclude={"progress", "save_interval_seconds"}),
        configuration.model_dump_json(),
        str(library_versions()),
    )
    fingerprint = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    workspace = Workspace.open(container.checkpoints, architecture.suffix, fingerprint)
    return fit_ensemble(
        architecture,
        configuration,
        fitted,
        folds,
        schema.categorical,
        job.gpu_count,
        seed,
        progress,
        workspace,
        job.save_interval_seconds,
    )


def _folds(
    configuration: BoostingConfiguration, labels: Labels, holdout: Holdout, features: pl.DataFrame, seed: int
) -> list[Mask]:
    """Returns the folds of the validation rows.

    If the holdout has whole groups, the folds also have whole groups, unless a fold would then lack a label.
    """
    positives = int(labels.sum())
    count = min(configuration.ensemble_size or 1, positives, len(labels) - positives)
    groups = group_draws(features[holdout.column], seed) if isinstance(holdout, GroupHoldout) else None
    folds = validation_folds(count, configuration.validation_fraction, labels, groups, seed)
    if groups is not None and not all(_has_both(labels[fold]) and _has_both(labels[~fold]) for fold in folds):
        return validation_folds(count, configuration.validation_fraction, labels, None, seed)
    return folds


def _has_both(labels: Labels) -> bool:
    return bool(0 < labels.sum() < len(labels))


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


def _warnings(suspicious: dict[str, float], target: str) -> list[str]:
    return [
        f"The column '{name}' alone predicts '{target}' almost perfectly (ROC AUC {area:.3f}). If its values are only "
        "known after the fact, the model is useless: add the column to excluded_columns and train again."
        for name, area in list(suspicious.items())[:20]
    ]


def _label_notes(dropped_rows: int, target: str, positive: str, *, explicit: bool) -> list[str]:
    notes = []
    if dropped_rows:
        notes.append(f"{dropped_rows} rows without a value of '{target}' were not used.")
    if not explicit:
        notes.append(f"'{positive}' is the positive label; set positive_label to change it.")
    return notes
