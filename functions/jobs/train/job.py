"""Fits the models of one training, measures them on the holdout, and writes a checkpoint."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from threadpoolctl import threadpool_limits

from functions.jobs.container import Container
from functions.jobs.file_warnings import warnings_of
from functions.jobs.fitting.base import Examples, FitTask, Hardware, TrainingStoppedError, threads_for
from functions.jobs.fitting.families import family_of
from functions.jobs.modelling.automatic_splits import repeated_entities
from functions.jobs.modelling.copies import copies, write_hashes
from functions.jobs.modelling.leakage import suspicious_columns
from functions.jobs.modelling.repeated_rows import are_repeated, entity_numbers, matrix_keys
from functions.jobs.modelling.score_rules import choose_score_rule
from functions.jobs.modelling.splits import validation_folds
from functions.jobs.modelling.targets import label_texts
from functions.jobs.modelling.thresholds import held_out_log_odds
from functions.jobs.progress import ProgressReporter, webhook_sender
from functions.jobs.sharded.group import Group
from functions.jobs.sharded.hosts import Hosts
from functions.jobs.sharded.memory import fits
from functions.jobs.sharded.prepared import prepare
from functions.jobs.sharded.supervisor import run_workers
from functions.jobs.sources import LocalFile, download, read_files
from functions.jobs.train.plan import DataPlan, plan
from functions.jobs.train.results import Result, label_notes, rarity_notes, remarks, stop_note, write_result
from functions.jobs.train.session import training_session
from functions.jobs.train.weights import fetch_weights
from shared.connectors.downloads import ClientFactory
from shared.models.job import JobFile, TrainingJob
from shared.propensity.architectures.configuration import ArchitectureConfiguration
from shared.propensity.architectures.registry import validate_configuration
from shared.propensity.holdouts import GroupHoldout, Holdout, Labels, Mask
from shared.propensity.log_odds import mean
from shared.propensity.tables import encode_frame


@dataclass(frozen=True)
class Data:
    """The encoded rows of a training, what was decided about them, and notes for its owner.

    It does not have the table, which takes more memory than the rows do.
    """

    plan: DataPlan
    configuration: ArchitectureConfiguration
    seed: int
    fitted: Examples
    held_out: Examples
    folds: list[Mask]
    files: list[JobFile]
    about_rows: list[str]
    about_files: list[str]


@dataclass(frozen=True)
class Fit:
    """What was fitted, and what ended it early."""

    result: Result
    stopped: TrainingStoppedError | None = None


def train(job: TrainingJob, container: Container, stop: threading.Event, client: ClientFactory) -> None:
    """Runs the training of ``job`` and writes the checkpoint to the container's model folder.

    Raises:
        JobFailedError: the data, the target or the hardware cannot be used; the message has the reason.
        TrainingStoppedError: ``stop`` was set. What was fitted until then is in the model folder, if it is of use.
    """
    hosts = Hosts.of(container.base)
    with TemporaryDirectory(prefix="job-") as folder:
        scratch = Path(folder)
        if len(hosts) > 1 or job.gpu_count > 1:
            run_workers(job, hosts, scratch, stop)
            return
        sender = webhook_sender(job.progress, client)
        with ProgressReporter(stop, sender, ("training", job.training_id)) as progress:
            _train_alone(job, container, progress, client, scratch)


def _train_alone(
    job: TrainingJob, container: Container, progress: ProgressReporter, client: ClientFactory, scratch: Path
) -> None:
    configuration = validate_configuration(job.architecture, job.configuration, "configuration")
    files = list(download(job.datasets, job.target, client, scratch))
    if not fits([file.path for file in files], job.architecture):
        # XGBoost is the only one that can, and other architectures must not need its library.
        from functions.jobs.sharded.work import Worker, fit_together

        prepared = prepare(files, job.target, scratch)
        fit_together(job, configuration, Worker(Group()), prepared, container, progress, scratch)
        return
    seed = job.seed if configuration.seed is None else configuration.seed
    data = read(job, configuration, seed, files)
    weights = fetch_weights(job.weights, client, scratch) if job.weights else None
    found = fit(job, data, container, progress, weights)
    write_hashes(container.model_folder, data.fitted.matrix, data.fitted.labels)
    write_result(container.model_folder, job, data.plan, found.result)
    if found.stopped:
        raise found.stopped


def read(job: TrainingJob, configuration: ArchitectureConfiguration, seed: int, files: Iterable[LocalFile]) -> Data:
    """Reads the files, and decides about the rows.

    Raises:
        JobFailedError: the data or the target cannot be used; the message has the reason.
    """
    table = read_files(files, seed, job.target)
    texts = label_texts(table.frame[job.target])
    known = texts.is_not_null().to_numpy()
    table, texts = table.filter(known), texts.filter(known)
    once, copy_notes = _without_copies(table.frame.drop(job.target), texts)
    table, texts = table.filter(once), texts.filter(once)
    decided = plan(job, configuration, seed, table, texts, dict(texts.value_counts().iter_rows()))
    features = table.frame.drop(job.target)
    fitted, held_out = (
        Examples(encode_frame(decided.schema, features, rows), decided.labels[rows])
        for rows in (~decided.held_out, decided.held_out)
    )
    resolved = configuration.resolved(len(fitted), int(fitted.labels.sum()))
    folds, entity_notes = _folds(resolved, fitted, decided.holdout, features, decided.held_out, seed)
    return Data(
        plan=decided,
        configuration=resolved,
        seed=seed,
        fitted=fitted,
        held_out=held_out,
        folds=folds,
        files=table.files,
        about_rows=[*copy_notes, *entity_notes],
        about_files=[
            *table.notes,
            *label_notes(job, decided, len(known) - int(known.sum())),
            *warnings_of(table.file_notes),
        ],
    )


def fit(
    job: TrainingJob, data: Data, container: Container, progress: ProgressReporter, weights: Path | None = None
) -> Fit:
    """Returns the model with what is known of it.

    Raises:
        TrainingStoppedError: the training was stopped before anything was fitted.
    """
    resolved, fitted, held_out, folds = data.configuration, data.fitted, data.held_out, data.folds
    session = training_session(job, resolved, container.checkpoints, progress)
    family, hardware = family_of(job.architecture), Hardware(threads_for(fitted.matrix.size), job.gpu_count)
    task = FitTask(fitted, folds, data.plan.schema.categorical, hardware, data.seed, weights)
    progress.expect(family.stages(resolved, task))
    stopped: TrainingStoppedError | None = None
    try:
        # As many threads as pay: of small matrices, numpy's own threads take 70 times the processor time of one.
        with threadpool_limits(hardware.threads, "blas"):
            models = family.fit_folds(resolved, task, session)
    except TrainingStoppedError as error:
        if not error.models:
            raise
        stopped, models = error, error.models
        session.note(stop_note(error, len(folds)))
    rule = choose_score_rule(resolved, *held_out_log_odds(models, fitted, folds[: len(models)]), data.seed)
    model = mean(models)
    about_fit = [*session.notes, *rule.notes, *rarity_notes(job.architecture, fitted.labels), *data.about_rows]
    suspicious = suspicious_columns(data.plan.schema, fitted, data.seed)
    result = Result(
        model=model,
        configuration=resolved,
        seed=data.seed,
        rule=rule,
        measurement=rule.measure(held_out.labels, model.log_odds(held_out.matrix)),
        series=progress.series(),
        notes=remarks(job, data.plan, suspicious, about_fit, data.about_files),
        files=data.files,
        rows=len(fitted),
    )
    return Fit(result, stopped)


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


def _folds(
    configuration: ArchitectureConfiguration,
    fitted: Examples,
    holdout: Holdout,
    features: pl.DataFrame,
    held_out: Mask,
    seed: int,
) -> tuple[list[Mask], list[str]]:
    """Returns the folds of the validation rows, and notes about clients that are on both sides of the split.

    The folds have whole groups, clients or equal rows, or fewer folds do, unless a fold would then lack a label.
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
    for fewer in range(count, min(count, 2) - 1, -1) if groups is not None else ():
        folds = validation_folds(fewer, configuration.validation_fraction, labels, groups, seed)
        if all(_has_both(labels[fold]) and _has_both(labels[~fold]) for fold in folds):
            return folds, notes
    return validation_folds(count, configuration.validation_fraction, labels, None, seed), notes


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
