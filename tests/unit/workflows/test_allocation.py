"""Allocations hold all limits, and their sums are close to the best possible, which HiGHS finds for small cases."""

from collections.abc import Iterator

import numpy as np
import pytest

from functions.workflows.decision_run.allocation import (
    NOTHING,
    Allocation,
    OptionLimit,
    Values,
    _exact,
    _Prices,
    allocate,
)
from shared.errors import JobFailedError

CASES = 120


def problem(seed: int) -> tuple[Values, list[OptionLimit]]:
    """Returns a small random problem with ties, options that some may not get, and limits that share options."""
    random = np.random.default_rng(seed)
    customers, options = int(random.integers(1, 60)), int(random.integers(1, 8))
    values = random.random((customers, options)) * random.choice([1, 10, 100], options)
    if random.random() < 0.4:
        values[:, random.integers(0, options)] = 0.5
    if random.random() < 0.3:
        values = np.round(values, 1)
    values[random.random(values.shape) < 0.3] = -np.inf
    limits = []
    for option in range(options):
        capacity = int(random.integers(0, customers // 2 + 2))
        minimum = int(random.integers(0, capacity + 1)) if random.random() < 0.3 else 0
        if random.random() < 0.6:
            limits.append(OptionLimit(f"action {option}", (option,), capacity, minimum))
    if random.random() < 0.5:
        limits.append(OptionLimit("a channel", tuple(range(0, options, 2)), int(random.integers(0, customers + 1))))
    if random.random() < 0.3:
        limits.append(
            OptionLimit("another channel", tuple(range(options // 2, options)), None, int(random.integers(0, 3)))
        )
    return values, limits


def problems() -> Iterator[tuple[Values, list[OptionLimit]]]:
    return map(problem, range(CASES))


def require_valid(found: Allocation, values: Values, limits: list[OptionLimit]) -> None:
    made = (found.choice != NOTHING).nonzero()[0]
    offered = values[made, found.choice[made]]
    assert np.isfinite(offered).all()
    assert found.value == pytest.approx(offered.sum())
    for limit in limits:
        count = int(np.isin(found.choice, limit.options).sum())
        assert limit.minimum <= count <= (len(values) if limit.capacity is None else limit.capacity), limit


def attempt(values: Values, limits: list[OptionLimit], *, by_prices: bool) -> Allocation | None:
    try:
        return _Prices(values, limits).allocation() if by_prices else _exact(values, limits)
    except JobFailedError:
        return None


@pytest.mark.row("BD-4")
def test_allocations_by_prices_hold_all_limits_and_are_close_to_the_exact_ones() -> None:
    losses, possible = [], 0
    for values, limits in problems():
        exact, priced = attempt(values, limits, by_prices=False), attempt(values, limits, by_prices=True)
        assert exact is not None or priced is None
        if exact is None:
            continue
        possible += 1
        require_valid(exact, values, limits)
        assert exact.gap < 1e-6
        if priced is not None:
            require_valid(priced, values, limits)
            assert priced.value <= exact.value + 1e-9 <= priced.bound + 2e-9
            losses.append(1 - priced.value / exact.value if exact.value else 0.0)
    assert CASES > possible == len(losses) > CASES // 2
    assert np.mean(losses) < 0.005


@pytest.mark.row("BD-4")
def test_the_gap_of_many_customers_is_below_half_a_percent() -> None:
    random = np.random.default_rng(5)
    customers, options = 30_000, 20
    values = random.beta(1.2, 8, (customers, options)) * random.uniform(5, 200, options)
    values[:, ::6] = 4.0  # acceptance rates are the same for everybody
    values[random.random(values.shape) < 0.3] = -np.inf
    limits = [
        OptionLimit(str(each), (each,), int(customers * random.uniform(0.001, 0.05)), 20 * (each % 9 == 0))
        for each in range(16)
    ]
    limits += [
        OptionLimit("calls", tuple(range(0, options, 3)), customers // 20),
        OptionLimit("mails", (1, 4, 7, 19), 6000, 5900),
    ]
    found = allocate(values, limits)
    require_valid(found, values, limits)
    assert found.method == "prices"
    assert 0 <= found.gap < 0.005
    assert np.array_equal(allocate(values, limits).choice, found.choice)


@pytest.mark.row("BD-4")
def test_without_limits_that_bind_everybody_gets_the_best_and_the_first_of_equals() -> None:
    values = np.array([[1.0, 1.0, 0.5], [-np.inf, 0.0, -np.inf], [-np.inf] * 3])
    found = allocate(values, [OptionLimit("a", (0,), 1), OptionLimit("b", (1, 2), 5, 1)])
    assert (found.choice.tolist(), found.method, found.gap) == ([0, 1, NOTHING], "none", 0.0)


def test_a_capacity_of_nothing_leaves_the_others() -> None:
    found = allocate(np.array([[3.0, 1.0], [3.0, -np.inf]]), [OptionLimit("a", (0,), 0)])
    assert found.choice.tolist() == [1, NOTHING]


@pytest.mark.parametrize("minimum", [3, 2])
def test_a_minimum_that_cannot_be_met_says_so(minimum: int) -> None:
    values = np.array([[1.0, 2.0], [1.0, -np.inf], [-np.inf, 1.0]])
    limits = [OptionLimit("the loan", (0,), None, minimum), OptionLimit("the card", (1,), None, 2)]
    with pytest.raises(JobFailedError, match="minimum"):
        allocate(values, limits)
