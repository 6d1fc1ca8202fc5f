"""Allocates offers to customers: at most one each, within capacities and minimums, for the highest sum of values.

Small problems are solved exactly by HiGHS. For large ones, each limit gets a price, and each customer the offer whose
value exceeds its prices most. Any prices bound the best possible sum (Lagrange's dual), so the gap is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import JobFailedError

Values = npt.NDArray[np.float64]
Chosen = npt.NDArray[np.int32]

NOTHING = -1
# Values of customers and options up to which HiGHS solves the problem exactly within seconds.
EXACT_VALUES = 60_000
EXACT_SECONDS = 60.0
# Rows that are worked on together, so that intermediate results stay in the processor's cache.
_CHUNK = 16_384
_SAMPLE = 40_000
_SAMPLE_STEPS, _STEPS = 250, 40
# Prices move faster while they keep their direction, and slower after each turn (Rprop).
_FASTER, _SLOWER = 1.3, 0.5
_SWEEPS = 6


@dataclass(frozen=True)
class OptionLimit:
    """How many offers of some options a run makes. ``name`` is for messages."""

    name: str
    options: tuple[int, ...]
    capacity: int | None = None
    minimum: int = 0


@dataclass(frozen=True)
class Allocation:
    """``choice`` is the option of each customer, or ``NOTHING``. No allocation exceeds ``bound``."""

    choice: Chosen
    value: float
    bound: float
    method: str
    prices: dict[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Returns by how much, as a share of the bound, a better allocation could exceed this one at most."""
        return max(0.0, self.bound - self.value) / self.bound if self.bound > 0 else 0.0


def allocate(values: Values, limits: Sequence[OptionLimit]) -> Allocation:
    """Returns an allocation for a matrix of customers and options, with minus infinity for what is not allowed.

    Raises JobFailedError if a minimum cannot be met.
    """
    _require_possible(values, limits)
    free = _best(values)
    if _holds(free, limits, values.shape[1]):
        value = _value(values, free)
        return Allocation(free, value, value, "none")
    if values.size <= EXACT_VALUES and (exact := _exact(values, limits)) is not None:
        return exact
    return _Prices(values, limits).allocation()


def _require_possible(values: Values, limits: Sequence[OptionLimit]) -> None:
    for limit in limits:
        if not limit.minimum:
            continue
        able = sum(
            int(np.isfinite(values[rows][:, list(limit.options)]).any(axis=1).sum()) for rows in _chunks(len(values))
        )
        if able < limit.minimum:
            raise JobFailedError(
                f"The minimum of {limit.minimum:,} for {limit.name} cannot be met: only {able:,} customers may get it."
            )


def _chunks(size: int) -> Iterator[slice]:
    for start in range(0, size, _CHUNK):
        yield slice(start, min(start + _CHUNK, size))


def _best(values: Values) -> Chosen:
    """Returns the best option of each customer, as without limits."""
    choice = np.empty(len(values), dtype=np.int32)
    for rows in _chunks(len(values)):
        block = values[rows]
        best = block.argmax(axis=1)
        choice[rows] = np.where(np.isfinite(block[np.arange(len(block)), best]), best, NOTHING)
    return choice


def _value(values: Values, choice: Chosen) -> float:
    made = (choice != NOTHING).nonzero()[0]
    return float(values[made, choice[made]].sum())


def _counts(choice: Chosen, options: int) -> npt.NDArray[np.int64]:
    return np.bincount(choice[choice != NOTHING], minlength=options)


def _holds(choice: Chosen, limits: Sequence[OptionLimit], options: int) -> bool:
    counts = _counts(choice, options)
    made = [int(counts[list(limit.options)].sum()) for limit in limits]
    return all(
        limit.minimum <= each and (limit.capacity is None or each <= limit.capacity)
        for limit, each in zip(limits, made, strict=True)
    )


def _exact(values: Values, limits: Sequence[OptionLimit]) -> Allocation | None:
    """Returns the best allocation by HiGHS, or ``None`` if it takes too long. Raises JobFailedError without any."""
    import highspy

    rows, columns = np.isfinite(values).nonzero()
    size, customers = len(rows), len(values)
    members: list[npt.NDArray[np.int64]] = [(rows == each).nonzero()[0] for each in np.unique(rows)]
    members += [np.isin(columns, limit.options).nonzero()[0] for limit in limits]
    lower = [0.0] * (len(members) - len(limits)) + [float(limit.minimum) for limit in limits]
    upper = [1.0] * (len(members) - len(limits))
    upper += [float(customers if limit.capacity is None else limit.capacity) for limit in limits]
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    for name, option in (("threads", 1), ("time_limit", EXACT_SECONDS), ("mip_rel_gap", 0.0)):
        solver.setOptionValue(name, option)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = size, len(members)
    model.sense_ = highspy.ObjSense.kMaximize
    model.col_cost_ = values[rows, columns]
    model.col_lower_, model.col_upper_ = np.zeros(size), np.ones(size)
    model.row_lower_, model.row_upper_ = np.array(lower), np.array(upper)
    model.integrality_ = [highspy.HighsVarType.kInteger] * size
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.cumsum([0, *map(len, members)])
    model.a_matrix_.index_ = np.concatenate(members)
    model.a_matrix_.value_ = np.ones(int(model.a_matrix_.start_[-1]))
    solver.passModel(model)
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        raise JobFailedError("The minimums cannot be met together with the capacities. Lower a minimum.")
    if status != highspy.HighsModelStatus.kOptimal:
        return None
    chosen = (np.array(solver.getSolution().col_value) > 0.5).nonzero()[0]
    choice = np.full(customers, NOTHING, dtype=np.int32)
    choice[rows[chosen]] = columns[chosen]
    value = _value(values, choice)
    return Allocation(choice, value, max(value, float(solver.getInfo().mip_dual_bound)), "exact")


class _Prices:
    """Prices of limits, and the allocation that follows from them.

    A limit with a price above 0 is a capacity that many want; below 0, it is a minimum that few want.
    """

    def __init__(self, values: Values, limits: Sequence[OptionLimit]) -> None:
        self._values = values
        self._limits = limits
        options = values.shape[1]
        self._within = np.zeros((options, len(limits)))
        for column, limit in enumerate(limits):
            self._within[list(limit.options), column] = 1.0
        self._capacity = np.array([np.inf if each.capacity is None else each.capacity for each in limits], dtype=float)
        self._minimum = np.array([each.minimum for each in limits], dtype=float)
        self._prices = np.zeros(len(limits))

    def allocation(self) -> Allocation:
        rng = np.random.default_rng(0)
        customers = len(self._values)
        steps = self._first_steps()
        if customers > 2 * _SAMPLE:
            sample = self._values[np.sort(rng.choice(customers, _SAMPLE, replace=False))]
            self._descend(sample, steps, _SAMPLE_STEPS, _SAMPLE / customers)
            steps = np.maximum(np.abs(self._prices), steps) * 0.01
            bound = self._descend(self._values, steps, _STEPS, 1.0)
        else:
            bound = self._descend(self._values, steps, _SAMPLE_STEPS, 1.0)
        choice = _Offers(self._values, self._limits, self._within, self._prices).choice()
        value = _value(self._values, choice)
        named = {limit.name: float(price) for limit, price in zip(self._limits, self._prices, strict=True) if price}
        return Allocation(choice, value, max(bound, value), "prices", named)

    def _first_steps(self) -> Values:
        block = self._values[:_SAMPLE]
        finite = block[np.isfinite(block)]
        scale = float(np.abs(finite).mean()) if finite.size else 1.0
        return np.full(len(self._limits), scale / 10)

    def _descend(self, values: Values, steps: Values, rounds: int, share: float) -> float:
        """Moves the prices towards the lowest bound, keeps the best ones, and returns their bound for ``values``."""
        prices, steps, before = self._prices.copy(), steps.copy(), np.zeros(len(self._prices))
        lowest, best = np.inf, prices.copy()
        capacity, minimum = self._capacity * share, self._minimum * share
        for _ in range(rounds):
            bound, demand = self._bound(values, prices, capacity, minimum)
            if bound < lowest:
                lowest, best = bound, prices.copy()
            # Without a price, a limit that holds stays without one.
            wanted = np.where(demand > capacity, 1.0, np.where(demand < minimum, -1.0, -np.sign(prices)))
            turned = wanted * before < 0
            steps = np.where(turned, steps * _SLOWER, np.where(wanted * before > 0, steps * _FASTER, steps))
            moved = prices + wanted * steps
            # A price that changes its sign stops at 0 first.
            prices = np.where(moved * prices < 0, 0.0, moved)
            before = wanted
        self._prices = best
        return float(lowest)

    def _bound(
        self, values: Values, prices: Values, capacity: Values, minimum: Values
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """Returns the bound of these prices, and how many offers of each limit customers want then."""
        costs, total = self._within @ prices, 0.0
        demand = np.zeros(values.shape[1])
        for rows in _chunks(len(values)):
            left = values[rows] - costs
            best = left.argmax(axis=1)
            worth = left[np.arange(len(left)), best]
            total += float(np.maximum(worth, 0.0).sum())
            demand += np.bincount(best[worth >= 0], minlength=values.shape[1])
        paid = np.where(prices > 0, prices * np.where(np.isinf(capacity), 0.0, capacity), prices * minimum)
        return total + float(paid.sum()), demand @ self._within


class _Offers:
    """Makes offers by prices so that all limits hold."""

    def __init__(self, values: Values, limits: Sequence[OptionLimit], within: Values, prices: Values) -> None:
        self._values = values
        self._limits = limits
        self._within = within
        self._prices = prices
        self._costs = within @ prices
        self._choice = np.full(len(values), NOTHING, dtype=np.int32)
        self._room = np.array([len(values) if each.capacity is None else each.capacity for each in limits])

    def choice(self) -> Chosen:
        self._offer()
        for _ in range(_SWEEPS):
            if not self._improve():
                break
        for place, limit in enumerate(self._limits):
            self._fill(place, limit)
        return self._choice

    def _is_open(self) -> npt.NDArray[np.bool_]:
        """Returns which options have room in all their limits."""
        closed = (self._within[:, self._room <= 0] > 0).any(axis=1)
        return np.asarray(~closed)

    def _offer(self) -> None:
        """Gives customers their best open option. Where too many want one, those who would lose most come first."""
        waiting = np.arange(len(self._values))
        while len(waiting):
            options, regrets = self._wishes(waiting)
            wanting = (options != NOTHING).nonzero()[0]
            accepted = self._accepted(options[wanting], regrets[wanting])
            given = wanting[accepted]
            self._choice[waiting[given]] = options[given]
            self._room -= self._taken(options[given])
            if len(accepted) == len(wanting):
                return
            waiting = np.delete(waiting[wanting], accepted)

    def _wishes(self, customers: npt.NDArray[np.int64]) -> tuple[Chosen, Values]:
        """Returns the best open option of each customer, and how much worse the next one is."""
        options = np.full(len(customers), NOTHING, dtype=np.int32)
        regrets = np.zeros(len(customers))
        closed = ~self._is_open()
        for rows in _chunks(len(customers)):
            left = self._values[customers[rows]] - self._costs
            left[:, closed] = -np.inf
            places = np.arange(len(left))
            best = left.argmax(axis=1)
            worth = left[places, best]
            left[places, best] = -np.inf
            regrets[rows] = worth - np.maximum(left.max(axis=1), 0.0)
            options[rows] = np.where(worth >= 0, best, NOTHING)
        return options, regrets

    def _accepted(self, options: Chosen, regrets: Values) -> npt.NDArray[np.int64]:
        """Returns the places of the wishes that fit the limits, those with the highest regret first."""
        kept = np.ones(len(options), dtype=bool)
        for place, room in enumerate(self._room):
            members = (kept & (self._within[options, place] > 0)).nonzero()[0]
            if len(members) > room:
                ordered = np.argsort(-regrets[members], kind="stable")
                kept[members[ordered[max(room, 0) :]]] = False
        return kept.nonzero()[0]

    def _taken(self, options: Chosen) -> npt.NDArray[np.int64]:
        counts = np.bincount(options[options != NOTHING], minlength=len(self._within))
        return np.asarray(counts @ self._within).astype(np.int64)

    def _improve(self) -> bool:
        """Moves customers to options with room where that is worth more than the place they leave."""
        has_moved = False
        self._costs = self._within @ np.where((self._room > 0) & (self._prices > 0), 0.0, self._prices)
        for option in self._is_open().nonzero()[0]:
            room = int(self._room[self._within[option] > 0].min(initial=len(self._values)))
            gains = self._gains(int(option))
            able = (gains > 0).nonzero()[0]
            moved = able[np.argsort(-gains[able], kind="stable")[: max(room, 0)]]
            if len(moved):
                has_moved = True
                self._move(moved, int(option))
        return has_moved

    def _move(self, customers: npt.NDArray[np.int64], option: int) -> None:
        self._room += self._taken(self._choice[customers])
        self._choice[customers] = option
        self._room -= self._taken(self._choice[customers])

    def _gains(self, option: int) -> Values:
        """Returns what each customer's change to an option is worth; minus infinity where it is not allowed."""
        now = np.zeros(len(self._values))
        made = (self._choice != NOTHING).nonzero()[0]
        now[made] = self._values[made, self._choice[made]] - self._costs[self._choice[made]]
        gains = self._values[:, option] - self._costs[option] - now
        gains[self._choice == option] = -np.inf
        return np.asarray(gains)

    def _fill(self, place: int, limit: OptionLimit) -> None:
        """Moves those who lose least to a limit whose minimum is not reached. Raises JobFailedError without enough."""
        missing = limit.minimum - int(self._taken(self._choice)[place])
        if missing <= 0:
            return
        counts = self._taken(self._choice)
        minimums = np.array([each.minimum for each in self._limits])
        for customer, option in self._cheapest(place, limit):
            leaves = (
                self._within[self._choice[customer]] if self._choice[customer] != NOTHING else np.zeros(len(counts))
            )
            enters = self._within[option]
            change = (enters - leaves).astype(np.int64)
            if ((change > 0) & (self._room - change < 0)).any() or ((change < 0) & (counts + change < minimums)).any():
                continue
            self._move(np.array([customer]), option)
            counts += change
            missing -= 1
            if not missing:
                return
        raise JobFailedError(
            f"The minimum of {limit.minimum:,} for {limit.name} cannot be met with the other limits: "
            f"{missing:,} offers are missing. Lower it, or raise a capacity."
        )

    def _cheapest(self, place: int, limit: OptionLimit) -> Iterator[tuple[int, int]]:
        """Yields customers without an offer of the limit, each with the option that costs least, cheapest first."""
        options = np.array(limit.options)
        gains: Any = np.stack([self._gains(int(option)) for option in options])
        made = self._choice != NOTHING
        gains[:, made & (self._within[self._choice, place] > 0)] = -np.inf
        best = gains.argmax(axis=0)
        worth = gains[best, np.arange(gains.shape[1])]
        for customer in np.argsort(-worth, kind="stable"):
            if not np.isfinite(worth[customer]):
                return
            yield int(customer), int(options[best[customer]])
