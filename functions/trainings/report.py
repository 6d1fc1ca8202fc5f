"""The report of a training: one HTML file."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from shared.models.base import format_timestamp
from shared.models.checkpoint import Checkpoint, CheckpointReport
from shared.models.job import SeriesPoint
from shared.models.training import Training
from shared.reports.charts import Line, chart
from shared.reports.elements import Child, document, tag
from shared.reports.models import (
    Measured,
    facts,
    measured_sections,
    notes_section,
    settings_section,
    versions_section,
)


def training_report(training: Training, report: CheckpointReport | None) -> str:
    """Returns the report of a training with its checkpoint, if it has one. Older checkpoints have no ``report``."""
    checkpoint = training.checkpoints[0] if training.checkpoints else None
    ended = [f"It ended without a model: {training.error}"] if training.error else []
    return document(
        f"Training {training.name}",
        tag("h1", f"Training {training.name}"),
        tag("p", f"{training.status}, requested {format_timestamp(training.created_at)}", class_="quiet"),
        facts(
            [
                ("Training", training.id),
                ("Checkpoint", checkpoint.id if checkpoint else None),
                ("Architecture", training.architecture),
                ("Target", checkpoint.target if checkpoint else None),
                ("Positive label", report.positive_label if report else None),
                ("Rows fitted on", report.trained_rows if report else None),
                ("Rows held out", f"{report.rows} ({report.holdout}), {report.positives} positive" if report else None),
                ("Columns", checkpoint.input_count if checkpoint else None),
                ("Connectors", ", ".join(each.connector_id for each in training.connectors)),
                ("Data model", training.data_model_id),
                ("Benchmarks", ", ".join(training.benchmark_ids)),
                ("Seed", report.seed if report else None),
                ("Instance", training.instance_type),
                ("Seconds", training.training_seconds),
                ("Started", format_timestamp(training.started_at) if training.started_at else None),
                ("Ended", format_timestamp(training.ended_at) if training.ended_at else None),
            ]
        ),
        *notes_section("Notes", [*ended, *training.notes]),
        *(measured_sections(_measured(checkpoint, report)) if checkpoint else []),
        *_series_section(training.metrics),
        *settings_section(report.configuration if report else training.configuration),
        *(versions_section(report.files, report.file_count, report.library_versions) if report else []),
    )


def _measured(checkpoint: Checkpoint, report: CheckpointReport | None) -> Measured:
    calibration = checkpoint.calibration
    return Measured(
        metrics=checkpoint.metrics,
        intervals=checkpoint.intervals,
        curve=report.curve if report else (),
        rows=report.rows if report else None,
        positives=report.positives if report else None,
        threshold=checkpoint.threshold,
        threshold_rule=checkpoint.threshold_rule,
        calibration=calibration.measured if calibration else None,
        raw_calibration=calibration.raw if calibration else None,
        method=calibration.method if calibration else "none",
    )


def _series_section(points: Sequence[SeriesPoint]) -> list[Child]:
    """Returns a chart of what the job reported round by round."""
    names = dict.fromkeys(point.name for point in points)
    series = {name: [(float(each.step), each.value) for each in points if each.name == name] for name in names}
    lines = [Line(name, found) for name, found in series.items() if len(found) > 1]
    # Each chart has as many lines as there are colours.
    charts: list[Element | None] = [
        chart("Training", "What the job reported on rows for validation.", ("Round", "Value"), lines[start : start + 6])
        for start in range(0, len(lines), 6)
    ]
    return [tag("h2", "Progress"), tag("div", *charts, class_="charts")] if charts else []
