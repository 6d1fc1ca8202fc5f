"""What the reports of trainings and evaluations have in common: metrics, curves, calibration and versions."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from shared.models.job import CalibrationMeasurement, CurvePoint, Interval, MetricName, ReportedFile
from shared.reports.charts import Line, Point, chart
from shared.reports.elements import Child, bullets, table, tag

_UNKNOWN = "-"
_CHANCE = Line("chance", [(0, 0), (1, 1)], is_dashed=True)


@dataclass(frozen=True)
class Measured:
    """What a report shows of a model on some rows."""

    metrics: Mapping[MetricName, float | None]
    intervals: Mapping[MetricName, Interval] = field(default_factory=dict)
    reasons: Mapping[MetricName, str] = field(default_factory=dict)
    curve: Sequence[CurvePoint] = ()
    rows: int | None = None
    positives: int | None = None
    threshold: float | None = None
    threshold_rule: str | None = None
    calibration: CalibrationMeasurement | None = None
    raw_calibration: CalibrationMeasurement | None = None
    method: str = "none"


@dataclass(frozen=True)
class Confusion:
    """Numbers of rows by label and call."""

    hits: float
    false_alarms: float
    misses: float
    rejections: float


def facts(pairs: Iterable[tuple[str, Any]]) -> Element:
    """Returns a table of names and values, without those that are unknown."""
    return table((), [(name, str(value)) for name, value in pairs if value not in (None, "")], numbers_from=2)


def measured_sections(found: Measured) -> list[Child]:
    """Returns the metrics, the confusion at the threshold, the curves, and the calibration."""
    return [
        tag("h2", "Metrics"),
        _metrics(found),
        *_confusion_section(found),
        *_curves(found),
        *_calibration(found),
    ]


def notes_section(title: str, texts: Sequence[str]) -> list[Child]:
    """Returns remarks, if there are any."""
    return [tag("h2", title), bullets(texts)] if texts else []


def versions_section(files: Sequence[ReportedFile], count: int, libraries: Mapping[str, str]) -> list[Child]:
    """Returns the versions of the files that were read, and of the libraries."""
    more = f"The first {len(files):,} of {count:,} files." if count > len(files) else None
    rows = [(each.name, each.version, f"{each.size_bytes:,}") for each in files]
    return [
        *([tag("h2", "Files"), table(("File", "Version", "Bytes"), rows, numbers_from=2)] if rows else []),
        tag("p", more, class_="quiet") if more else None,
        *([tag("h2", "Libraries"), facts(sorted(libraries.items()))] if libraries else []),
    ]


def settings_section(configuration: Mapping[str, Any]) -> list[Child]:
    text = json.dumps(configuration, indent=2, ensure_ascii=False, default=str)
    return [tag("h2", "Configuration"), tag("pre", text)] if configuration else []


def confusion(found: Measured) -> Confusion | None:
    """Returns the confusion at the threshold: exact by recall and accuracy, or else by the next point of the curve."""
    if found.rows is None or found.positives is None or found.threshold is None:
        return None
    negatives = found.rows - found.positives
    recall, accuracy = found.metrics.get(MetricName.RECALL), found.metrics.get(MetricName.ACCURACY)
    if recall is not None and accuracy is not None:
        hits = round(recall * found.positives)
        rejections = round(accuracy * found.rows) - hits
    else:
        above = [each for each in found.curve if each.threshold is None or each.threshold >= found.threshold]
        if not above:
            return None
        hits = round(above[-1].true_positive_rate * found.positives)
        rejections = negatives - round(above[-1].false_positive_rate * negatives)
    return Confusion(hits, negatives - rejections, found.positives - hits, rejections)


def _metrics(found: Measured) -> Element:
    rows = []
    for metric in MetricName:
        if metric not in found.metrics:
            continue
        value, interval = found.metrics[metric], found.intervals.get(metric)
        shown = f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""
        method = interval.method if interval else found.reasons.get(metric, "")
        rows.append((metric.replace("_", " "), _UNKNOWN if value is None else f"{value:.4f}", shown, method))
    return table(("Metric", "Value", "95% interval", "Method"), rows)


def _confusion_section(found: Measured) -> list[Child]:
    cells = confusion(found)
    if cells is None:
        return []
    rule = f" ({found.threshold_rule})" if found.threshold_rule else ""
    head = ("", "called positive", "called negative")
    rows = [
        ("positive", f"{cells.hits:,}", f"{cells.misses:,}"),
        ("negative", f"{cells.false_alarms:,}", f"{cells.rejections:,}"),
    ]
    return [tag("h2", "Confusion"), tag("p", f"At the threshold {found.threshold:.4g}{rule}."), table(head, rows)]


def _curves(found: Measured) -> list[Child]:
    rows, positives = found.rows or 0, found.positives or 0
    if len(found.curve) < 2 or not 0 < positives < rows:
        return []
    share = positives / rows
    contacted = [share * each.true_positive_rate + (1 - share) * each.false_positive_rate for each in found.curve]
    recalls = [each.true_positive_rate for each in found.curve]
    alarms = [each.false_positive_rate for each in found.curve]
    called = [(part, recall) for part, recall in zip(contacted, recalls, strict=True) if part > 0]
    precision: list[Point] = [(recall, recall * share / part) for part, recall in called]
    lift: list[Point] = [(part, recall / part) for part, recall in called]
    lines = {
        "roc": list(zip(alarms, recalls, strict=True)),
        "gain": list(zip(contacted, recalls, strict=True)),
        "alarms": list(zip(contacted, alarms, strict=True)),
    }
    usual = Line("share of positive rows", [(0, share), (1, share)], is_dashed=True)
    once = Line("chance", [(0, 1), (1, 1)], is_dashed=True)
    contacts = "Share of rows, highest first"
    charts = [
        chart(
            "ROC",
            "The higher above the diagonal, the better.",
            ("False positive rate", "Recall"),
            [Line("model", lines["roc"]), _CHANCE],
        ),
        chart(
            "Precision and recall",
            "How many of the called rows are positive.",
            ("Recall", "Precision"),
            [Line("model", precision), usual],
        ),
        chart(
            "KS",
            "KS is the largest distance between the lines.",
            (contacts, "Share of the label"),
            [Line("positive", lines["gain"]), Line("negative", lines["alarms"])],
        ),
        chart(
            "Gain",
            "Positive rows among those with the highest probabilities.",
            (contacts, "Recall"),
            [Line("model", lines["gain"]), _CHANCE],
        ),
        chart(
            "Lift",
            "How many times as many positive rows as by chance.",
            (contacts, "Times as many"),
            [Line("model", lift), once],
        ),
    ]
    return [tag("h2", "Curves"), tag("div", *charts, class_="charts")]


def _calibration(found: Measured) -> list[Child]:
    measured, raw = found.calibration, found.raw_calibration
    if measured is None:
        return []
    lines = [Line("calibrated" if raw else "model", _points(measured), has_marks=True)]
    lines += [Line("without calibration", _points(raw), has_marks=True)] if raw else []
    figure = chart(
        "Reliability",
        "Share of positive rows by probability, with 95% intervals. On the diagonal, probabilities are exact.",
        ("Mean probability", "Share of positive rows"),
        [*lines, _CHANCE],
        [(each.low, each.high) for each in measured.bins],
    )
    columns = [measured, *([raw] if raw else [])]
    head = ("", "Calibrated" if raw else "Value", *(["Without"] if raw else []))
    rows = [
        ("ECE", *(f"{each.expected_error:.4f}" for each in columns)),
        ("Brier score", *(f"{each.brier:.4f}" for each in columns)),
        ("Slope", *(_UNKNOWN if each.slope is None else f"{each.slope:.3f}" for each in columns)),
        ("Intercept", *(_UNKNOWN if each.intercept is None else f"{each.intercept:.3f}" for each in columns)),
    ]
    words = f"The probabilities are corrected ({found.method})." if raw else "The probabilities are the model's own."
    bins = [
        (
            f"{each.mean_probability:.4f}",
            f"{each.positive_rate:.4f}",
            f"{each.low:.4f} to {each.high:.4f}",
            f"{each.rows:,}",
        )
        for each in measured.bins
    ]
    return [
        tag("h2", "Calibration"),
        tag("p", words),
        tag("div", figure, tag("div", table(head, rows)), class_="charts"),
        table(("Mean probability", "Share of positive rows", "95% interval", "Rows"), bins, numbers_from=0),
    ]


def _points(measured: CalibrationMeasurement) -> list[Point]:
    return [(each.mean_probability, each.positive_rate) for each in measured.bins]
