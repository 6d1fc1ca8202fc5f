"""The report of an evaluation: one HTML file."""

from shared.models.base import format_timestamp
from shared.models.benchmark import Benchmark
from shared.models.checkpoint import Checkpoint
from shared.models.evaluation import Evaluation
from shared.reports.elements import document, tag
from shared.reports.models import Measured, facts, measured_sections, notes_section, versions_section


def evaluation_report(evaluation: Evaluation, checkpoint: Checkpoint | None, benchmark: Benchmark | None) -> str:
    """Returns the report. The checkpoint and the benchmark may have been deleted."""
    result = evaluation.result
    model = checkpoint.name if checkpoint else evaluation.checkpoint_id
    title = f"Evaluation of {model} on {benchmark.name if benchmark else evaluation.benchmark_id}"
    measured = Measured(
        metrics=result.metrics,
        intervals=result.intervals,
        reasons=result.reasons,
        curve=result.curve or (),
        rows=result.rows,
        positives=result.positives,
        threshold=result.threshold,
        calibration=result.calibration,
        raw_calibration=result.raw_calibration,
        method=checkpoint.calibration.method if checkpoint and checkpoint.calibration else "",
    )
    warnings = [*([f"It ended without a result: {result.error}"] if result.error else []), *result.warnings]
    if benchmark is None:
        warnings.append("The benchmark was deleted.")
    elif benchmark.revision != result.benchmark_revision:
        warnings.append("The benchmark has changed since. This result counts on no leaderboard.")
    return document(
        title,
        tag("h1", title),
        tag("p", f"{result.status}, requested {format_timestamp(evaluation.created_at)}", class_="quiet"),
        facts(
            [
                ("Evaluation", evaluation.id),
                ("Checkpoint", evaluation.checkpoint_id),
                ("Training", evaluation.training_id),
                ("Architecture", checkpoint.architecture if checkpoint else None),
                ("Benchmark", f"{evaluation.benchmark_id}, revision {result.benchmark_revision}"),
                ("Rows", result.rows),
                ("Positive rows", result.positives),
                ("Rows left out, because the model was fitted on them", result.excluded_training_rows),
                ("Rows left out, because they have no usable label", result.dropped_rows),
                ("Ended", format_timestamp(result.finished_at) if result.finished_at else None),
            ]
        ),
        *notes_section("Warnings", warnings),
        *(measured_sections(measured) if result.metrics else []),
        *versions_section(result.files, result.file_count or 0, {}),
    )
