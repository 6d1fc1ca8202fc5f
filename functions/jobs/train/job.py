"""Fits the models of one training, measures them on the holdout, and writes a checkpoint."""

import hashlib
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from functions.jobs.container import Container
from functions.jobs.downloads import ClientFactory
from functions.jobs.file_warnings import warnings_of
from functions.jobs.fitting.base import Examples, FitTask, Hardware, threads_for
from functions.jobs.fitting.families import family_of
from functions.jobs.modelling.automatic_splits import automatic_holdout, entity_columns, repeated_entities
from functions.jobs.modelling.copies import copies, write_hashes
from functions.jobs.modelling.frames import date_formats, encode_frame, infer_schema
from functions.jobs.modelling.leakage import suspicious_columns
from functions.jobs.modelling.metrics import measure
from functions.jobs.modelling.repeated_rows import are_repeated, entity_numbers, matrix_keys, repeated_columns
from functions.jobs.modelling.splits import choose_holdout, held_out_rows, validation_folds
from functions.jobs.modelling.targets import label_texts, to_labels, two_labels
from functions.jobs.modelling.thresholds import choose_threshold, held_out_chances
from functions.jobs.modelling.training import Observer, Session, Workspace
from functions.jobs.progress import ProgressReporter, webhook_sender
from functions.jobs.sources import DatasetTable, read_datasets
from shared.errors import JobFailedError
from shared.models.job import TrainingJob
from shared.propensity.architectures.configuration import ArchitectureConfiguration
from shared.propensity.architectures.registry import ARCHITECTURES, validate_configuration
from shared.propensity.artifacts import require_scorable
from shared.propensity.checkpoints import FORMAT_VERSION, StoredCheckpoint, library_versions, write_checkpoint
from shared.propensity.errors import CheckpointError
from shared.propensity.holdouts import GroupHoldout, Holdout, Labels, Mask, RandomHoldout, TimeHoldout
from shared.propensity.log_odds import LogOddsModel, mean

FEWEST_ROWS = 20
FEWEST_OF_A_CLASS = 4
# Why a column is no feature.
NESTED = "its values are lists or objects, which predictions do not take"
EXCLUDED = "excluded by the configuration"
GROUPING = "rows are held out by it"
ENTITY = "it names a client, and the held-out rows are of the same clients as the others"
EQUAL_ROWS = "Rows that seem to be copies in every column that the model uses were held out together or not at all."
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
        checkpoint, model, fitted = fit(job, configuration, seed, table, container, progress)
        write_hashes(container.model_folder, fitted.matrix, fitted.labels)
        write_checkpoint(container.model_folder, checkpoint, model)
        _require_scorable(container.model_folder)
    for name, value in checkpoint.measurement.metrics.items():
        if value is not None:
            print(f"metric {name}={value:.6f} step=0", flush=True)  # noqa: T201 - SageMaker reads stdout


def fit(
    job: TrainingJob,
    configuration: ArchitectureConfiguration,
    seed: int,
    table: DatasetTable,
    container: Container,
    progress: ProgressReporter,
) -> tuple[StoredCheckpoint, LogOddsModel, Examples]:
    """Returns the checkpoint, its model, and the examples that it was fitted on."""
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
    never = _never_used(job, configuration, table)
    alike = repeated_columns(features, labels, never, formats) if job.split.kind in ("automatic", "random") else None
    if job.split.kind == "automatic":
        holdout, reason = automatic_holdout(
            job.split.test_fraction, seed, features, table.draws, labels, formats, alike
        )
    else:
        holdout, reason = choose_holdout(job.split, seed, features, table.draws, labels, formats, alike), ""
    held_out = held_out_rows(holdout, features, table.draws, labels)
    _require_both_classes(labels, held_out, holdout)

    left_out = _left_out(never, holdout, features)
    schema = infer_schema(features.filter(~held_out), left_out, formats)
    examples = Examples(encode_frame(schema, features), labels)
    fitted = examples.take(np.nonzero(~held_out)[0])
    resolved = configuration.resolved(len(fitted), int(fitted.labels.sum()))
    folds, entity_notes = _folds(resolved, fitted, holdout, features, held_out, seed)
    session = _session(job, resolved, container, progress)
    family = family_of(job.architecture)
    if job.gpu_count and not ARCHITECTURES[job.architecture].uses_gpus:
        session.note(f"The architecture {job.architecture} trains on processors only: set gpu_count to 0.")
    task = FitTask(fitted, folds, schema.categorical, Hardware(threads_for(fitted.matrix), job.gpu_count), seed)
    progress.expect(family.models_with_rounds(task), getattr(resolved, "n_estimators", None))
    models = family.fit_folds(resolved, task, session)
    threshold, threshold_notes = choose_threshold(*held_out_chances(models, fitted, folds))
    model = mean(models)
    measurement = measure(labels[held_out], model.predict(examples.matrix[held_out]), threshold)
    notes = [
        *_warnings(suspicious_columns(schema, fitted, seed), job.target),
        *([reason] if reason else []),
        *session.notes,
        *threshold_notes,
        *copy_notes,
        *entity_notes,
        *([EQUAL_ROWS] if isinstance(holdout, RandomHoldout) and holdout.columns else []),
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
        threshold=threshold,
        measurement=measurement,
        series=progress.series(),
        notes=notes,
        features=schema,
        configuration=resolved.model_dump(),
        seed=seed,
        model_files=list(model.files()),
        holdout=holdout,
        trained_files=table.files,
        trained_rows=len(fitted),
        library_versions=library_versions(),
    )
    return checkpoint, model, fitted


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


def _session(
    job: TrainingJob, configuration: ArchitectureConfiguration, container: Container, observer: Observer
) -> Session:
    # Saved models of other inputs must not be used.
    inputs = (
        job.model_dump_json(exclude={"progress", "save_interval_seconds"}),
        configuration.model_dump_json(),
        str(library_versions()),
    )
    fingerprint = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    workspace = Workspace.open(container.checkpoints, fingerprint)
    return Session(workspace, observer, job.save_interval_seconds)


def _folds(
    configuration: ArchitectureConfiguration,
    fitted: Examples,
    holdout: Holdout,
    features: pl.DataFrame,
    held_out: Mask,
    seed: int,
) -> tuple[list[Mask], list[str]]:
    """Returns the folds of the validation rows, and notes about clients that are on both sides of the split.

    The folds have whole groups, clients or equal rows, unless a fold would then lack a label.
    """
    labels = fitted.labels
    positives = int(labels.sum())
    count = min(configuration.ensemble_size or 1, positives, len(labels) - positives)
    column = holdout.column if isinstance(holdout, GroupHoldout) else next(iter(repeated_entities(features)), None)
    groups: npt.NDArray[Any] | None = None
    notes: list[str] = []
    if column:
        entities = entity_numbers(features[column])
        groups = entities[~held_out]
        notes = _clients_on_both_sides(column, groups, np.unique(entities[held_out]))
    elif are_repeated(keys := matrix_keys(fitted.matrix), labels):
        groups = keys
    folds = validation_folds(count, configuration.validation_fraction, labels, groups, seed)
    if groups is not None and not all(_has_both(labels[fold]) and _has_both(labels[~fold]) for fold in folds):
        folds = validation_folds(count, configuration.validation_fraction, labels, None, seed)
    return folds, notes


def _clients_on_both_sides(column: str, fitted: npt.NDArray[np.int64], held_out: npt.NDArray[np.int64]) -> list[str]:
    known = int(np.isin(held_out, fitted).sum())
    if not known:
        return []
    return [
        f"{known:,} of the {len(held_out):,} values of '{column}' in the held-out rows are also in rows that the model "
        "was fitted on. For clients that the model has not seen, its metrics may be lower: a split by group measures "
        "that."
    ]


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
