"""Standard errors of metrics and of their differences, against slow formulas, resampling and simulation."""

import numpy as np
import numpy.typing as npt
import pytest

from shared.models.job import MetricName
from shared.propensity.influences import Influence, ScoredRows, influence
from tests.fixtures.scored_rows import scored_rows


def two_models(count: int, seed: int = 0) -> tuple[ScoredRows, ScoredRows]:
    """Returns the scores of two models that share most of what they know."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=count)
    positive = random.random(count) < 1 / (1 + np.exp(1.5 - 1.5 * signal))
    noises = (0.5 * random.normal(size=count), 0.6 * random.normal(size=count))
    one, other = (scored_rows(positive, signal + noise) for noise in noises)
    return one, other


def taken(rows: ScoredRows, chosen: npt.NDArray[np.intp]) -> ScoredRows:
    return ScoredRows(rows.positive[chosen], rows.probabilities[chosen], rows.called[chosen])


def known(metric: MetricName, rows: ScoredRows) -> Influence:
    found = influence(metric, rows)
    assert found is not None
    return found


@pytest.mark.row("Y-2")
def test_the_test_of_roc_auc_is_that_of_delong() -> None:
    one, other = two_models(300)
    # As in their article: a matrix of wins for each model, and the covariances of its means.
    positive = one.positive
    areas, by_row, by_column = [], [], []
    for rows in (one, other):
        difference = rows.probabilities[positive][:, None] - rows.probabilities[~positive][None, :]
        wins = (difference > 0) + 0.5 * (difference == 0)
        areas.append(wins.mean())
        by_row.append(wins.mean(axis=1))
        by_column.append(wins.mean(axis=0))
    variances = np.cov(by_row) / positive.sum() + np.cov(by_column) / (~positive).sum()
    expected = np.sqrt(variances[0, 0] + variances[1, 1] - 2 * variances[0, 1])

    first, second = known(MetricName.ROC_AUC, one), known(MetricName.ROC_AUC, other)

    assert [first.value, second.value] == pytest.approx(areas)
    assert first.error == pytest.approx(np.sqrt(variances[0, 0]))
    assert first.minus(second).error == pytest.approx(expected)


@pytest.mark.row("Y-2")
@pytest.mark.parametrize("metric", MetricName)
def test_errors_of_values_and_differences_agree_with_a_bootstrap(metric: MetricName) -> None:
    one, other = two_models(1500, seed=3)
    random = np.random.default_rng(1)
    values = []
    for _ in range(400):
        drawn = random.integers(0, len(one), len(one))
        values.append([known(metric, taken(rows, drawn)).value for rows in (one, other)])
    resampled = np.array(values)

    first, second = known(metric, one), known(metric, other)

    # KS takes the largest gap again in each bootstrap, which spreads a little more.
    allowed = 0.25 if metric is MetricName.KS else 0.13
    assert first.error == pytest.approx(resampled[:, 0].std(), rel=allowed)
    assert first.minus(second).error == pytest.approx((resampled[:, 0] - resampled[:, 1]).std(), rel=allowed)


@pytest.mark.parametrize("metric", MetricName)
@pytest.mark.parametrize("positives", [0, 1, 2])
def test_few_rows_have_an_error_or_none(metric: MetricName, positives: int) -> None:
    positive = np.arange(5) < positives
    found = influence(metric, scored_rows(positive, np.linspace(-1, 1, 5)))
    assert found is None or np.isfinite(found.error)
    if metric in (MetricName.ROC_AUC, MetricName.KS) and positives < 2:
        assert found is None
