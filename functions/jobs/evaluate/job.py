"""Measures one checkpoint on the rows of a benchmark."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from functions.jobs.container import Container
from functions.jobs.file_warnings import warnings_of
from functions.jobs.modelling.copies import Hashes, read_hashes, row_hashes
from functions.jobs.modelling.metrics import measure_all
from functions.jobs.modelling.splits import held_out_rows, same_content
from functions.jobs.modelling.targets import label_texts, to_labels
from functions.jobs.modelling.uncertainty import influences, resamples
from functions.jobs.modelling.unusable import check_values
from functions.jobs.progress import ProgressReporter, webhook_sender
from functions.jobs.sources import DatasetTable, read_datasets
from shared.connectors.downloads import ClientFactory
from shared.errors import JobFailedError
from shared.models.job import (
    MAX_WARNING_CHARACTERS,
    MAX_WARNINGS,
    EvaluationJob,
    EvaluationResult,
    MetricName,
    ReportedFile,
)
from shared.propensity.artifacts import RESULT_FILE, extract_artifact
from shared.propensity.checkpoints import Scorer, StoredCheckpoint
from shared.propensity.holdouts import Mask
from shared.propensity.influences import ScoredRows
from shared.propensity.scored_rows import ScoreKeys, write_scores
from shared.propensity.tables import encode_frame

ARTIFACT_FILE = "model.tar.gz"


def evaluate(job: EvaluationJob, container: Container, stop: threading.Event, client: ClientFactory) -> None:
    """Measures the checkpoint of ``job`` and writes ``result.json`` and the rows' scores to the model folder.

    Rows that the model was fitted on do not count in any file. A model without hashes of its rows is
    evaluated on the holdout of a file that was also used in the training.

    Raises:
        JobFailedError: the files cannot be used with this checkpoint; the message has the reason.
        CheckpointError: the checkpoint cannot be used.
    """
    started = time.monotonic()
    sender = webhook_sender(job.progress, client)
    with (
        ProgressReporter(stop, sender, ("evaluation", job.evaluation_id)),
        TemporaryDirectory(prefix="model-") as folder,
    ):
        with (container.model_channel / ARTIFACT_FILE).open("rb") as artifact:
            extract_artifact(artifact, Path(folder))
        scorer = Scorer(Path(folder))
        checkpoint = scorer.checkpoint
        formats = {feature.name: feature.date_formats for feature in checkpoint.features.features}
        table = read_datasets(job.datasets, checkpoint.seed, checkpoint.target, client, formats)
        result = _measure(scorer, table, read_hashes(Path(folder)), container.model_folder)
    _keep_only(job.metrics, result)
    measurement = result.measurement
    result.duration_seconds = round(time.monotonic() - started, 3)
    (container.model_folder / RESULT_FILE).write_text(result.model_dump_json(), encoding="utf-8")
    for name, value in measurement.metrics.items():
        if value is not None:
            print(f"metric {name}={value:.6f} step=0", flush=True)  # noqa: T201 - SageMaker reads stdout


def _keep_only(metrics: Collection[MetricName], result: EvaluationResult) -> None:
    measurement = result.measurement
    measurement.metrics = {name: measurement.metrics[name] for name in metrics}
    measurement.reasons = {name: text for name, text in measurement.reasons.items() if name in metrics}
    measurement.intervals = {name: each for name, each in measurement.intervals.items() if name in metrics}
    # Gini is compared by the replicates of ROC AUC.
    compared = {MetricName.ROC_AUC if name is MetricName.GINI else name for name in metrics}
    result.resamples = {name: each for name, each in result.resamples.items() if name in compared}


def _measure(scorer: Scorer, table: DatasetTable, hashes: Hashes | None, folder: Path) -> EvaluationResult:
    checkpoint = scorer.checkpoint
    keys = row_keys(table)
    labels_of_model = [checkpoint.positive_label, checkpoint.negative_label]
    texts = label_texts(table.frame[checkpoint.target], labels_of_model)
    known = texts.is_in(labels_of_model).fill_null(value=False).to_numpy()
    if not known.any():
        raise JobFailedError(
            f"The target column '{checkpoint.target}' has neither '{checkpoint.positive_label}' nor "
            f"'{checkpoint.negative_label}', the two labels of the checkpoint."
        )
    rows = table.filter(known)
    labels = to_labels(texts.filter(known), checkpoint.positive_label)
    matrix = encode_frame(checkpoint.features, rows.frame)
    fitted = _fitted_rows(checkpoint, rows, labels) if hashes is None else np.isin(row_hashes(matrix, labels), hashes)
    if fitted.all():
        raise JobFailedError("The checkpoint was fitted on every row of the benchmark. Add other rows.")
    rows, labels, matrix, keys = rows.filter(~fitted), labels[~fitted], matrix[~fitted], keys[known][~fitted]
    warnings = check_values(checkpoint.features, rows.frame, matrix) + table.notes + warnings_of(table.file_notes)
    probabilities = scorer.probabilities(matrix)
    scored = ScoredRows(labels == 1, probabilities, probabilities >= checkpoint.threshold)
    write_scores(folder, keys, scored)
    return EvaluationResult(
        measurement=measure_all(labels, probabilities, scorer.raw_probabilities(matrix), checkpoint.threshold),
        resamples=resamples(influences(scored), keys),
        threshold=checkpoint.threshold,
        files=ReportedFile.of(table.files),
        file_count=len(table.files),
        excluded_training_rows=int(fitted.sum()),
        dropped_rows=len(known) - int(known.sum()),
        duration_seconds=0,
        warnings=[text[:MAX_WARNING_CHARACTERS] for text in warnings[:MAX_WARNINGS]],
    )


def row_keys(table: DatasetTable) -> ScoreKeys:
    """Returns a number for each row, by its file's content and its place there. No two rows have the same number."""
    keys = np.zeros(len(table.file_of_row), dtype=np.uint64)
    seen: Counter[tuple[str, int]] = Counter()
    for index, file in enumerate(table.files):
        content = (file.etag, file.size_bytes)
        digest = hashlib.sha256(f"{file.etag}:{file.size_bytes}:{seen[content]}".encode()).digest()
        seen[content] += 1
        rows = table.file_of_row == index
        # Wraps around; the files' ranges of rows hardly ever meet in 64 bits.
        keys[rows] = np.frombuffer(digest[:8], dtype="<u8") + np.arange(int(rows.sum()), dtype=np.uint64)
    return keys


def _fitted_rows(checkpoint: StoredCheckpoint, table: DatasetTable, labels: np.typing.NDArray[np.float32]) -> Mask:
    trained_on = same_content(checkpoint.trained_files)
    seen = table.of_files(lambda file: (file.etag, file.size_bytes) in trained_on)
    if not seen.any():
        return seen
    return seen & ~held_out_rows(checkpoint.holdout, table.frame, table.draws, labels)
