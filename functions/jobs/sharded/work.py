"""One worker of a training: reads its rows in batches, agrees with the others, and fits the same model as they do."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from functions.jobs.container import Container
from functions.jobs.fitting.base import Examples, Hardware, TrainingStoppedError, fit_each, threads_for
from functions.jobs.fitting.tabm import TabM
from functions.jobs.fitting.xgboost import XGBoost, fit_batches
from functions.jobs.modelling.copies import MAX_HASHES, Hashes, keep_hashes, row_hashes
from functions.jobs.modelling.score_rules import choose_score_rule
from functions.jobs.modelling.training import Observer, Session
from functions.jobs.progress import ProgressReporter, webhook_sender
from functions.jobs.sharded.agreement import Agreement, SharedPlan
from functions.jobs.sharded.encoded import EncodedRows, Folds, joined_rows
from functions.jobs.sharded.group import Group
from functions.jobs.sharded.hosts import Hosts
from functions.jobs.sharded.memory import free_bytes
from functions.jobs.sharded.prepared import PreparedFiles, RowBatch, batches, prepare
from functions.jobs.sharded.sample import BYTES_A_SAMPLED_CELL, FEWEST_ROWS, SAMPLE_CELLS, Sample, together
from functions.jobs.sources import download
from functions.jobs.train.results import Result, stop_note, write_result
from functions.jobs.train.session import training_session
from shared.connectors.downloads import ClientFactory
from shared.errors import JobFailedError
from shared.models.job import TrainingJob
from shared.propensity.architectures.configuration import (
    ArchitectureConfiguration,
    TabMConfiguration,
    XGBoostConfiguration,
)
from shared.propensity.architectures.registry import names_beyond_memory, validate_configuration
from shared.propensity.log_odds import LogOddsModel, mean

# Of a cell that XGBoost keeps as a step, by row and by column.
BYTES_A_STEP = 8
# Of a cell that a network reads, encoded and as a tensor: the rows are all in the memory.
BYTES_A_NETWORK_CELL = 16
_JUDGED = np.dtype([("label", "f4"), ("log_odds", "f8")])


@dataclass(frozen=True)
class Worker:
    """The place of a worker: its group, and which of the workers of its host it is."""

    group: Group
    share: int = 0
    shares: int = 1


class AgreedObserver:
    """An observer of which all workers know whether one was asked to stop: they have to stop in the same round."""

    def __init__(self, own: Observer, group: Group) -> None:
        self._own, self._group = own, group
        self._stop = False

    def record(self, name: str, value: float, step: int) -> None:
        """Implements ``Observer``. All workers call it in each round."""
        self._stop = self._group.any(flag=self._own.stop_requested)
        if self._group.is_first:
            self._own.record(name, value, step)

    @property
    def stop_requested(self) -> bool:
        """Implements ``Observer``."""
        return self._stop


def train_together(
    job: TrainingJob, worker: Worker, container: Container, folder: Path, stop: threading.Event, client: ClientFactory
) -> None:
    """Trains as one worker of several. ``folder`` is shared by the workers of the host."""
    group = worker.group
    sender = webhook_sender(job.progress, client) if group.is_first else None
    with ProgressReporter(stop, sender, ("training", job.training_id)) as progress:
        configuration = validate_configuration(job.architecture, job.configuration, "configuration")

        def prepare_files() -> None:
            if not worker.share:
                datasets = Hosts.of(container.base).share(job.datasets)
                prepare(download(datasets, job.target, client, folder), job.target, folder).write(folder)

        group.together(prepare_files)
        own = folder / f"worker-{worker.share}"
        own.mkdir()
        fit_together(job, configuration, worker, PreparedFiles.read(folder), container, progress, own)


def fit_together(
    job: TrainingJob,
    configuration: ArchitectureConfiguration,
    worker: Worker,
    prepared: PreparedFiles,
    container: Container,
    progress: ProgressReporter,
    scratch: Path,
) -> None:
    """Fits the model with the other workers. The first one writes the checkpoint.

    Raises:
        JobFailedError: a worker cannot use its data; all raise the same reason.
        TrainingStoppedError: a worker was asked to stop. What was fitted until then is written, if it is of use.
    """
    group = worker.group
    seed = job.seed if configuration.seed is None else configuration.seed

    def check() -> None:
        if progress.stop_requested:
            raise TrainingStoppedError

    def read() -> Iterator[RowBatch]:
        return batches(prepared, seed, worker.share, worker.shares, check)

    decision, agreement = _agree(job, configuration, seed, worker, read)
    encoded = EncodedRows(scratch)

    def encode() -> None:
        for batch in read():
            agreement.encode(batch, seed, job.target, encoded)

    group.together(encode)
    counts = group.total(encoded.counts())
    resolved = agreement.configuration
    folds = Folds(agreement.folds, resolved.validation_fraction)
    _require_rows(group, encoded, folds, counts)
    session = _session(job, resolved, container, AgreedObserver(progress, group), group, scratch)
    fitting = _Fitting(agreement, folds, encoded, worker, job, seed, scratch)
    # They stop in the same round, so all of them have the same models.
    stopped: TrainingStoppedError | None = None
    try:
        models = fit_each(folds.count, lambda index: fitting.model(index, session))
    except TrainingStoppedError as error:
        if not error.models:
            raise
        stopped, models = error, error.models
        session.note(stop_note(error, folds.count))
    model = mean(models)
    by_fold = [_judged(each, encoded.fold(folds, index, validates=True)) for index, each in enumerate(models)]
    unseen = group.gather_rows(np.concatenate(by_fold))
    rule = choose_score_rule(resolved, unseen["label"], unseen["log_odds"], seed)
    held_out = group.gather_rows(_judged(model, encoded.held_out()))
    hashes = _hashes(group, encoded, int(counts[0]))
    about_files = [text for part in group.gather(_warnings(worker, prepared)) for text in json.loads(part)]
    if decision is None:
        if stopped:
            raise stopped
        return
    result = Result(
        model=model,
        configuration=resolved,
        seed=seed,
        rule=rule,
        measurement=rule.measure(held_out["label"], held_out["log_odds"]),
        series=progress.series(),
        notes=decision.remarks([*session.notes, *fitting.notes, *rule.notes], about_files),
        files=[file for dataset in job.datasets for file in dataset.files],
        rows=int(counts[0]),
    )
    if hashes is not None:
        keep_hashes(container.model_folder, hashes)
    write_result(container.model_folder, job, decision.plan, result)
    if stopped:
        raise stopped


def _agree(
    job: TrainingJob,
    configuration: ArchitectureConfiguration,
    seed: int,
    worker: Worker,
    read: Callable[[], Iterator[RowBatch]],
) -> tuple[SharedPlan | None, Agreement]:
    """Returns what all do, and with the first worker also what it knows beside that."""
    group = worker.group
    cells = group.least(min(SAMPLE_CELLS, free_bytes(worker.shares) / BYTES_A_SAMPLED_CELL))

    def take() -> Sample:
        sample: Sample | None = None
        for batch in read():
            most = max(int(cells) // batch.frame.width, FEWEST_ROWS) // group.size
            sample = sample or Sample(job.target, most)
            sample.add(batch)
        return sample or Sample(job.target, 0)

    sample = group.together(take)
    sample.keep_below(group.least(sample.limit))
    samples = group.gather(sample.to_bytes())

    def decide() -> SharedPlan | None:
        return SharedPlan(job, configuration, seed, together(samples, job.target)) if group.is_first else None

    decision = group.together(decide)
    agreed = group.from_first(b"" if decision is None else decision.agreement.model_dump_json().encode())
    return decision, Agreement.model_validate_json(agreed)


def _require_rows(group: Group, encoded: EncodedRows, folds: Folds, counts: npt.NDArray[np.int64]) -> None:
    """Raises JobFailedError if there is nothing to fit on, to validate by or to measure."""
    fitted, positives, held_out, _ = (int(count) for count in counts)
    if not group.total(encoded.fold_counts(folds)).all() or not held_out:
        raise JobFailedError(
            f"Of the {fitted:,} rows to fit on, {positives:,} are positive, and {held_out:,} rows are held out. "
            "That is too few to fit, to validate and to measure. Choose another split or more rows."
        )


def _session(
    job: TrainingJob,
    configuration: ArchitectureConfiguration,
    container: Container,
    observer: Observer,
    group: Group,
    scratch: Path,
) -> Session:
    """Returns the session of a worker. All go on from the rounds that the first one has saved."""
    if group.is_first:
        session = training_session(job, configuration, container.checkpoints, observer)
        saved = {path.name: path.read_bytes() for path in sorted(container.checkpoints.iterdir()) if path.is_file()}
        sizes = json.dumps({name: len(content) for name, content in saved.items()}).encode()
        group.from_first(sizes)
        group.from_first(b"".join(saved.values()))
        return session
    sizes, content, start = json.loads(group.from_first(b"")), group.from_first(b""), 0
    folder = scratch / "checkpoints"
    folder.mkdir()
    for name, size in sizes.items():
        (folder / Path(name).name).write_bytes(content[start : start + size])
        start += size
    return training_session(job, configuration, folder, observer)


@dataclass
class _Fitting:
    """What the models of all folds have in common."""

    agreement: Agreement
    folds: Folds
    encoded: EncodedRows
    worker: Worker
    job: TrainingJob
    seed: int
    scratch: Path
    notes: list[str] = field(default_factory=list)

    def model(self, index: int, session: Session) -> LogOddsModel:
        """Returns the model of one fold."""
        if model := session.finished(index):
            return model
        session.check()
        if isinstance(self.agreement.configuration, TabMConfiguration):
            model = self._network(self.agreement.configuration, index, session)
        else:
            model = self._trees(self.agreement.configuration, index, session)
        return session.finish(index, model)

    def _network(self, configuration: TabMConfiguration, index: int, session: Session) -> LogOddsModel:
        worker = self.worker
        columns = len(self.agreement.schema_.columns)
        cells = columns * int(self.encoded.counts()[0])
        if worker.group.any(flag=cells * BYTES_A_NETWORK_CELL > free_bytes(worker.shares)):
            raise JobFailedError(
                f"The rows do not fit into the memory of {worker.group.size} workers. Use more or larger instances, or "
                f"an architecture that reads larger data from disk: {names_beyond_memory()}."
            )
        fitted, validation = (
            joined_rows(self.encoded.fold(self.folds, index, validates=side), columns) for side in (False, True)
        )
        hardware = Hardware(threads_for(cells, worker.shares), self.job.gpu_count, worker.share, worker.shares)
        resume = session.resume(index)
        watcher = session.watch(index, configuration.patience, TabM.suffix)
        categorical, seed = self.agreement.schema_.categorical, self.seed + index
        return TabM().fit(configuration, fitted, validation, categorical, hardware, seed, watcher, resume, worker.group)

    def _trees(self, configuration: XGBoostConfiguration, index: int, session: Session) -> LogOddsModel:
        worker = self.worker
        columns = len(self.agreement.schema_.columns)
        cells = columns * int(self.encoded.counts()[0])
        hardware = Hardware(threads_for(cells, worker.shares), self.job.gpu_count, worker.share)
        resume = session.resume(index)
        return fit_batches(
            configuration,
            partial(self.encoded.fold, self.folds, index, validates=False),
            partial(self.encoded.fold, self.folds, index, validates=True),
            columns,
            self.agreement.schema_.categorical,
            hardware,
            self.seed + index,
            session.watch(index, configuration.patience, XGBoost.suffix),
            resume,
            self._cache(index, cells),
        )

    def _cache(self, index: int, cells: int) -> Path | None:
        """Returns the beginning of the files that hold the steps of columns, if the memory can't in any worker."""
        group = self.worker.group
        if not group.any(flag=cells * BYTES_A_STEP > free_bytes(self.worker.shares)):
            return None
        if self.job.gpu_count:
            raise JobFailedError(
                f"The rows do not fit into the memory of {group.size} workers with GPUs, which read nothing again from "
                "disk. Use more instances, or set gpu_count to 0."
            )
        self.notes = ["The rows do not fit into the memory, so each tree read them again from disk."]
        return self.scratch / f"steps-{index}"


def _judged(model: LogOddsModel, rows: Iterator[Examples]) -> npt.NDArray[np.void]:
    """Returns the label and the log-odds of rows."""
    parts = [np.empty(0, dtype=_JUDGED)]
    for examples in rows:
        part = np.empty(len(examples), dtype=_JUDGED)
        part["label"], part["log_odds"] = examples.labels, model.log_odds(examples.matrix)
        parts.append(part)
    return np.concatenate(parts)


def _hashes(group: Group, encoded: EncodedRows, rows: int) -> Hashes | None:
    """Returns the hashes of all fitted rows, if they are few enough to keep."""
    if rows > MAX_HASHES:
        return None
    own = [np.empty(0, dtype=np.uint32), *(row_hashes(each.matrix, each.labels) for each in encoded.fitted())]
    return group.gather_rows(np.concatenate(own))


def _warnings(worker: Worker, prepared: PreparedFiles) -> bytes:
    """Returns what the readers doubted, once for all workers of a host."""
    return json.dumps([text for file in prepared.files if not worker.share for text in file.warnings]).encode()
