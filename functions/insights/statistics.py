"""Computes intervals of rates and of their differences at 95 %, and tests the sizes of samples."""

import math
from collections.abc import Sequence

# The 97.5th percentile of the normal distribution.
_Z = 1.959964


def rate_interval(successes: int, trials: int) -> tuple[float, float]:
    """Returns Wilson's interval (1927), because it is valid for few trials and for rates near 0 and 1."""
    rate, square = successes / trials, _Z**2
    middle = (rate + square / (2 * trials)) / (1 + square / trials)
    half = _Z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_interval(treated: tuple[int, int], baseline: tuple[int, int]) -> tuple[float, float]:
    """Returns Newcombe's interval (1998) of the difference of two rates, given as successes and trials."""
    (low, high), (base_low, base_high) = rate_interval(*treated), rate_interval(*baseline)
    rate, base = treated[0] / treated[1], baseline[0] / baseline[1]
    below = math.hypot(rate - low, base_high - base)
    above = math.hypot(high - rate, base - base_low)
    return rate - base - below, rate - base + above


def fit_probability(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Returns the probability that chance alone moves counts as far from their shares (Pearson's chi-squared test)."""
    from scipy.special import chdtrc

    total, whole = sum(counts), sum(shares)
    expected = [total * share / whole for share in shares]
    statistic = sum((count - each) ** 2 / each for count, each in zip(counts, expected, strict=True))
    return float(chdtrc(len(counts) - 1, statistic))
