"""Plots the ROC and KS curves of the demo's models, and the offers of its runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = ("#1f5fa8", "#d1661c", "#3a8f4d", "#8b4fa3")


def plot(results: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> Path:
    """Writes a PNG with a row for each data set: ROC on the left, KS on the right.

    ``results`` maps data set -> model -> result of the evaluation, with the points of the ROC in ``curve``.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(results), 2, figsize=(11, 4.2 * len(results)), squeeze=False)
    for (roc, ks), (title, models) in zip(axes, results.items(), strict=True):
        for colour, (name, result) in zip(COLOURS, models.items(), strict=False):
            points = result["curve"]
            false_positive = [point["false_positive_rate"] for point in points]
            true_positive = [point["true_positive_rate"] for point in points]
            gaps = [hit - alarm for hit, alarm in zip(true_positive, false_positive, strict=True)]
            auc = result["metrics"]["roc_auc"]
            roc.plot(false_positive, true_positive, color=colour, label=f"{name} (AUC {auc:.3f})")
            scored = [(point["threshold"], gap) for point, gap in zip(points, gaps, strict=True)]
            shown = [(threshold, gap) for threshold, gap in scored if threshold is not None]
            ks.plot(*zip(*shown, strict=True), color=colour, label=f"{name} (KS {result['metrics']['ks']:.3f})")
        roc.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
        roc.set(title=f"{title}: ROC", xlabel="False positive rate", ylabel="True positive rate")
        ks.set(title=f"{title}: KS", xlabel="Threshold of the predicted probability", ylabel="TPR - FPR")
        for each in (roc, ks):
            each.legend(loc="lower right" if each is roc else "upper right", frameon=False)
            each.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def plot_offers(summaries: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Writes a PNG with a bar for each offer and run. ``summaries`` maps the name of a run to its summary."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    names = sorted({each["name"] for summary in summaries.values() for each in summary["offers_by_action"]})
    height = 0.8 / len(summaries)
    for index, (colour, (title, summary)) in enumerate(zip(COLOURS, summaries.items(), strict=False)):
        counts = dict.fromkeys(names, 0)
        for each in summary["offers_by_action"]:
            counts[each["name"]] += each["offers"]
        places = [place + index * height for place in range(len(names))]
        bars = axes.barh(places, list(counts.values()), height, color=colour, label=title)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.set_yticks([place + height * (len(summaries) - 1) / 2 for place in range(len(names))], names)
    axes.invert_yaxis()
    axes.set(title="Offers by action", xlabel="Customers")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def shown(path: Path) -> str:
    """Returns the path from the current folder, if the file is in it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
