import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from functions.jobs.modelling.metrics import measure, roc_curve
from shared.models.job import MAX_SERIES_POINTS, MetricName

KNOWN = [
    (
        [0, 0, 1, 1],
        [0.1, 0.4, 0.35, 0.8],
        {
            "accuracy": 0.75,
            "precision": 1,
            "recall": 0.5,
            "f1": 0.666667,
            "roc_auc": 0.75,
            "log_loss": 0.472288,
            "ks": 0.5,
            "gini": 0.5,
        },
    ),
    (
        [0, 0, 0, 0, 1, 0, 1, 1],
        [0.2, 0.2, 0.3, 0.6, 0.6, 0.5, 0.9, 0.4],
        {
            "accuracy": 0.625,
            "precision": 0.5,
            "recall": 0.666667,
            "f1": 0.571429,
            "roc_auc": 0.833333,
            "log_loss": 0.493110,
            "ks": 0.6,
            "gini": 0.666667,
        },
    ),
]
# Few distinct values cause ties. They include both ends of the range.
probability = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))
scored_rows = st.lists(st.tuples(st.integers(0, 1), probability), min_size=1, max_size=60)


@pytest.mark.row("Y-8", "EV-1")
@pytest.mark.parametrize(("labels", "probabilities", "expected"), KNOWN)
def test_known_labels_and_probabilities_give_known_metrics(
    labels: list[int], probabilities: list[float], expected: dict[str, float]
) -> None:
    measured = measure(labels, probabilities)

    assert {name.value: value for name, value in measured.metrics.items()} == pytest.approx(expected, abs=1e-6)
    assert measured.reasons == {}


@pytest.mark.row("Y-8")
@given(scored_rows)
def test_the_metrics_of_any_scores_equal_the_metrics_of_scikit_learn(rows: list[tuple[int, float]]) -> None:
    labels, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    called = probabilities >= 0.5

    measured = measure(labels, probabilities).metrics

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            MetricName.ACCURACY: reference.accuracy_score(labels, called),
            MetricName.PRECISION: reference.precision_score(labels, called, zero_division=0),
            MetricName.RECALL: reference.recall_score(labels, called, zero_division=0),
            MetricName.F1: reference.f1_score(labels, called, zero_division=0),
            MetricName.LOG_LOSS: reference.log_loss(labels, probabilities.astype(float), labels=[0, 1]),
        }
        if 0 < labels.sum() < len(labels):
            false_positives, true_positives, _ = reference.roc_curve(labels, probabilities, drop_intermediate=False)
            area = reference.roc_auc_score(labels, probabilities)
            expected |= {
                MetricName.ROC_AUC: area,
                MetricName.GINI: 2 * area - 1,
                MetricName.KS: np.max(np.abs(true_positives - false_positives)),
            }
        else:
            expected |= dict.fromkeys((MetricName.ROC_AUC, MetricName.GINI, MetricName.KS))
    assert set(measured) == set(MetricName)
    for name, value in expected.items():
        assert measured[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


@pytest.mark.row("Y-8")
@pytest.mark.parametrize(("labels", "word"), [([0, 0, 0], "negative"), ([1, 1], "positive")])
def test_labels_of_one_class_have_no_ranking_metrics_and_a_reason(labels: list[int], word: str) -> None:
    measured = measure(labels, [0.3] * len(labels))

    for name in (MetricName.ROC_AUC, MetricName.KS, MetricName.GINI):
        assert measured.metrics[name] is None
        assert f"rows are {word}" in measured.reasons[name]
    assert measured.curve == []
    assert measured.metrics[MetricName.LOG_LOSS] is not None


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        ([0, 1], [0.5, float("nan")]),
        ([0, 1], [0.5, 1.5]),
        ([0, 1], [-0.1, 0.5]),
        ([0, 2], [0.5, 0.5]),
        ([0, 1], [0.5]),
        ([], []),
        ([0, float("nan")], [0.5, 0.5]),
    ],
)
def test_invalid_labels_and_probabilities_are_refused(labels: list[float], probabilities: list[float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        measure(labels, probabilities)


def test_a_long_curve_is_shortened_and_keeps_its_ends_and_its_largest_gap() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 5000)
    probabilities = np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1)

    measured = measure(labels, probabilities)

    assert len(measured.curve) <= MAX_SERIES_POINTS < len(roc_curve(labels.astype(float), probabilities).thresholds)
    first, last = measured.curve[0], measured.curve[-1]
    assert (first.threshold, first.true_positive_rate, first.false_positive_rate) == (None, 0, 0)
    assert (last.true_positive_rate, last.false_positive_rate) == (1, 1)
    gap = max(abs(point.true_positive_rate - point.false_positive_rate) for point in measured.curve)
    assert gap == pytest.approx(measured.metrics[MetricName.KS])
    rates = [(point.false_positive_rate, point.true_positive_rate) for point in measured.curve]
    assert rates == sorted(rates)
