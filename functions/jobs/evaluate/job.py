"""Measures one checkpoint on the rows of a benchmark."""

import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from functions.jobs.container import Container
from functions.jobs.file_warnings import warnings_of
from functions.jobs.modelling.copies import Hashes, read_hashes, row_hashes
from functions.jobs.modelling.metrics import measure
from functions.jobs.modelling.splits import held_out_rows, same_content
from functions.jobs.modelling.targets import label_texts, to_labels
from functions.jobs.modelling.unusable import check_values
from functions.jobs.progress import ProgressReporter, webhook_sender
from functions.jobs.sources import DatasetTable, read_datasets
from shared.connectors.downloads import ClientFactory
from shared.errors import JobFailedError
from shared.models.job import MAX_WARNING_CHARACTERS, MAX_WARNINGS, EvaluationJob, EvaluationResult
from shared.propensity.artifacts import RESULT_FILE, extract_artifact
from shared.propensity.checkpoints import Scorer, StoredCheckpoint
from shared.propensity.holdouts import Mask
from shared.propensity.tables import encode_frame

ARTIFACT_FILE = "model.tar.gz"


def evaluate(job: EvaluationJob, container: Container, stop: threading.Event, client: ClientFactory) -> None:
    """Measures the checkpoint of ``job`` and writes ``result.json`` to the container's model folder.

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
        result = _measure(scorer, table, read_hashes(Path(folder)))
    measurement = result.measurement
    measurement.metrics = {name: measurement.metrics[name] for name in job.metrics}
    measurement.reasons = {name: text for name, text in measurement.reasons.items() if name in measurement.metrics}
    result.duration_seconds = round(time.monotonic() - started, 3)
    (container.model_folder / RESULT_FILE).write_text(result.model_dump_json(), encoding="utf-8")
    for name, value in measurement.metrics.items():
        if value is not None:
            print(f"metric {name}={value:.6f} step=0", flush=True)  # noqa: T201 - SageMaker reads stdout


def _measure(scorer: Scorer, table: DatasetTable, hashes: Hashes | None) -> EvaluationResult:
    checkpoint = scorer.checkpoint
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
    rows, labels, matrix = rows.filter(~fitted), labels[~fitted], matrix[~fitted]
    warnings = check_values(checkpoint.features, rows.frame, matrix) + table.notes + warnings_of(table.file_notes)
    return EvaluationResult(
        measurement=measure(labels, scorer.probabilities(matrix), checkpoint.threshold),
        excluded_training_rows=int(fitted.sum()),
        dropped_rows=len(known) - int(known.sum()),
        duration_seconds=0,
        warnings=[text[:MAX_WARNING_CHARACTERS] for text in warnings[:MAX_WARNINGS]],
    )


def _fitted_rows(checkpoint: StoredCheckpoint, table: DatasetTable, labels: np.typing.NDArray[np.float32]) -> Mask:
    trained_on = same_content(checkpoint.trained_files)
    seen = table.of_files(lambda file: (file.etag, file.size_bytes) in trained_on)
    if not seen.any():
        return seen
    return seen & ~held_out_rows(checkpoint.holdout, table.frame, table.draws, labels)
