"""Additive models: a penalised logistic regression on bent lines and categories, kept as a table that people can read.

Needs numpy only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from functions.jobs.fitting.base import Architecture, EndedEarlyError, Examples, FitSession, FitTask
from shared.propensity.architectures.configuration import AdditiveConfiguration
from shared.propensity.dates import Numbers
from shared.propensity.features import Matrix
from shared.propensity.holdouts import Labels, Mask
from shared.propensity.log_odds import LogOdds, LogOddsModel
from shared.propensity.scorecards import ScorecardColumn

PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
KNOTS = (0, 8)
# Values beyond these quantiles count as the quantile.
_QUANTILES = (0.002, 0.998)
_LEAST_MISSING = 5
_LEAST_OF_A_CATEGORY = 10
# Rows times squared terms of one step of the solver: about a second of one processor.
_STEP_COST = 6e9
_FEWEST_TERMS = 200
# More terms than these teach nothing, and a step's equations cost the cube of their number.
_TERMS_A_ROW = 4
_MOST_ROWS = 50_000
_MOST_STEPS = 25
_HALVINGS = 20
_TOLERANCE = 1e-7


@dataclass(frozen=True)
class ScorecardFit:
    """A model for each fold, with the log-odds of each row by the model that has not seen it, and their log loss."""

    models: list[LogOddsModel]
    held_out: LogOdds
    loss: float
    penalty: float
    knots: int


class Additive(Architecture[AdditiveConfiguration]):
    """See ``Architecture``."""

    name: ClassVar[str] = "additive"

    def fit_folds(self, configuration: AdditiveConfiguration, task: FitTask, session: FitSession) -> list[LogOddsModel]:
        """See ``Architecture``. Folds share their penalty, so all of them are fitted together."""
        found = [session.finished(index) for index in range(len(task.folds))]
        if all(found):
            return [model for model in found if model]
        penalties = PENALTIES if configuration.penalty is None else (configuration.penalty,)
        choices = KNOTS if configuration.knots is None else (configuration.knots,)
        fits: list[ScorecardFit] = []
        for knots in choices:
            try:
                fits.append(fit_scorecards(task, knots, penalties, session.check))
            except EndedEarlyError as early:
                if not fits:
                    raise
                raise type(early)(fits[0].models) from early
        best = _simplest(fits, task)
        if len(fits) > 1:
            losses = ", ".join(f"{fit.loss:.4f} with {fit.knots}" for fit in fits)
            session.note(
                f"The scorecard bends its lines at {best.knots} quantiles, with a penalty of {best.penalty:g}, by the "
                f"log loss on rows that it was not fitted on ({losses})."
            )
        return [session.finish(index, model) for index, model in enumerate(best.models)]


def _simplest(fits: Sequence[ScorecardFit], task: FitTask) -> ScorecardFit:
    """Returns the first fit, or a later one that predicts unseen rows better by more than a standard error."""
    seen = np.any(task.folds, axis=0)
    labels = task.examples.labels[seen].astype(np.float64)
    best = fits[0]
    for fit in fits[1:]:
        gained = _losses(labels, best.held_out[seen]) - _losses(labels, fit.held_out[seen])
        if gained.mean() > gained.std() / len(gained) ** 0.5:
            best = fit
    return best


def fit_scorecards(
    task: FitTask,
    knots: int,
    penalties: Sequence[float] = PENALTIES,
    check: Callable[[], None] = lambda: None,
) -> ScorecardFit:
    """Returns a scorecard for each fold, all with the penalty that has the lowest log loss on the folds' rows.

    Raises:
        EndedEarlyError: ``check`` did. The error has the scorecards of the folds that are done.
    """
    examples, folds = task.examples, task.folds
    held_out = np.full((len(penalties), len(examples)), np.nan)
    models: list[list[LogOddsModel]] = [[] for _ in penalties]

    def best_of(folds: Sequence[Mask]) -> ScorecardFit:
        seen = np.any(folds, axis=0)
        losses = [_loss(examples.labels[seen].astype(np.float64), row[seen]) / seen.sum() for row in held_out]
        best = int(np.argmin(losses))
        return ScorecardFit(models[best][: len(folds)], held_out[best], losses[best], penalties[best], knots)

    for index, held in enumerate(folds):
        rows = _sample(np.nonzero(~held)[0], examples.labels)
        terms = _terms(examples.take(rows), task.categorical, knots)
        design = np.column_stack([terms.of(examples.matrix[rows]), np.ones(len(rows))])
        labels = examples.labels[rows].astype(np.float64)
        validation = terms.of(examples.matrix[held])
        weights = np.append(np.zeros(terms.count), _log_odds(labels.mean()))
        for place, penalty in enumerate(penalties):
            try:
                check()
            except EndedEarlyError as early:
                raise type(early)(best_of(folds[:index]).models if index else ()) from early
            weights = _solve(design, labels, penalty, weights)
            held_out[place, held] = validation @ weights[:-1] + weights[-1]
            models[place].append(terms.scorecard(weights))
    return best_of(folds)


@dataclass(frozen=True)
class _Term:
    """The columns of the design that one column of the matrix becomes."""

    column: int
    # Of a number.
    low: float = 0.0
    high: float = 0.0
    middle: float = 0.0
    scale: float = 1.0
    bends: tuple[float, ...] = ()
    # Of a category; a number has none.
    codes: tuple[int, ...] | None = None
    has_missing: bool = False

    @property
    def count(self) -> int:
        lines = 1 + len(self.bends) if self.codes is None else len(self.codes)
        return lines + self.has_missing

    def of(self, cells: npt.NDArray[np.float32]) -> Numbers:
        """Returns the columns of the design, not centred."""
        values = cells.astype(np.float64)
        missing = np.isnan(values)
        if self.codes is None:
            known = np.clip(np.where(missing, self.middle, values), self.low, self.high)
            lines = [(known - self.middle) / self.scale]
            lines += [np.maximum(known - bend, 0.0) / self.scale for bend in self.bends]
        else:
            lines = [(values == code).astype(np.float64) for code in self.codes]
        return np.column_stack([*lines, *([missing.astype(np.float64)] if self.has_missing else [])])

    def table(self, weights: Numbers, centre: float) -> ScorecardColumn:
        """Returns what the column adds with these weights of its part of the design, less ``centre``."""

        def at(cells: Sequence[float]) -> list[float]:
            found = self.of(np.array(cells, dtype=np.float64)) @ weights - centre
            return [float(value) for value in found]

        (missing,) = at([np.nan])
        if self.codes is None:
            points = sorted({self.low, *self.bends, self.high})
            return ScorecardColumn(column=self.column, points=points, values=at(points), missing=missing)
        # A code that no row has is no category.
        values = at([float(code) for code in range(max(self.codes, default=0) + 1)])
        return ScorecardColumn(column=self.column, values=values, missing=missing, others=-centre)


@dataclass(frozen=True)
class _Terms:
    """The design of a matrix: all terms, and the means that are taken from their columns."""

    width: int
    terms: list[_Term]
    means: Numbers

    @property
    def count(self) -> int:
        return len(self.means)

    def of(self, matrix: Matrix) -> Numbers:
        """Returns the design of the rows."""
        design = np.empty((len(matrix), self.count))
        start = 0
        for term in self.terms:
            design[:, start : start + term.count] = term.of(matrix[:, term.column])
            start += term.count
        design -= self.means
        return design

    def scorecard(self, weights: Numbers) -> LogOddsModel:
        """Returns the model of these weights, of which the last is the intercept."""
        columns, start = [], 0
        for term in self.terms:
            part = slice(start, start + term.count)
            columns.append(term.table(weights[part], float(weights[part] @ self.means[part])))
            start += term.count
        return LogOddsModel(self.width, float(weights[-1]), columns)


def _terms(examples: Examples, categorical: Sequence[int], knots: int) -> _Terms:
    """Returns the terms of rows, without those that tell least about the label where there are too many to solve for.

    The knots go first, then whole columns.
    """
    codes = set(categorical)
    affordable = min((_STEP_COST / len(examples)) ** 0.5, _STEP_COST ** (1 / 3), _TERMS_A_ROW * len(examples))
    most = max(int(affordable), _FEWEST_TERMS)

    def terms(bends: int) -> list[_Term]:
        found = (
            _category_term(index, column) if index in codes else _number_term(index, column, bends)
            for index, column in enumerate(examples.matrix.T)
        )
        return [term for term in found if term]

    found = terms(knots)
    if sum(term.count for term in found) > most:
        found = terms(0)
    if sum(term.count for term in found) > most:
        informative = [_information(term.of(examples.matrix[:, term.column]), examples.labels) for term in found]
        order = np.argsort(informative, kind="stable")[::-1]
        ends = np.cumsum([found[place].count for place in order])
        found = [found[place] for place in sorted(order[ends <= most])]
    width = examples.matrix.shape[1]
    means = [term.of(examples.matrix[:, term.column]).mean(axis=0) for term in found]
    return _Terms(width, found, np.concatenate(means) if means else np.zeros(0))


def _number_term(index: int, column: npt.NDArray[np.float32], knots: int) -> _Term | None:
    known = column[~np.isnan(column)].astype(np.float64)
    if not len(known):
        return None
    low, high = (float(value) for value in np.quantile(known, _QUANTILES))
    if low == high:
        low, high = float(known.min()), float(known.max())
    has_missing = len(column) - len(known) >= _LEAST_MISSING
    known = np.clip(known, low, high)
    scale = float(known.std())
    if scale <= 0 and not has_missing:
        return None
    quantiles = np.quantile(known, np.arange(1, knots + 1) / (knots + 1))
    bends = tuple(float(bend) for bend in np.unique(quantiles) if low < bend < high)
    return _Term(index, low, high, float(np.median(known)), scale or 1.0, bends, has_missing=has_missing)


def _category_term(index: int, column: npt.NDArray[np.float32]) -> _Term | None:
    missing = np.isnan(column)
    codes, counts = np.unique(column[~missing].astype(np.int64), return_counts=True)
    levels = tuple(int(code) for code in codes[counts >= _LEAST_OF_A_CATEGORY])
    has_missing = int(missing.sum()) >= _LEAST_MISSING
    if len(np.unique(column)) < 2:
        return None
    return _Term(index, codes=levels, has_missing=has_missing) if levels or has_missing else None


def _information(design: Numbers, labels: Labels) -> float:
    """Returns the largest correlation of a column of the design with the label."""
    spread = design.std(axis=0)
    covariance = np.abs((design - design.mean(axis=0)).T @ (labels - labels.mean())) / len(labels)
    return float(np.max(covariance / np.maximum(spread, 1e-12), initial=0.0))


def _sample(rows: npt.NDArray[np.intp], labels: Labels) -> npt.NDArray[np.intp]:
    """Returns at most as many rows as a step may take, of both labels in their shares."""
    if len(rows) <= _MOST_ROWS:
        return rows
    drawn = np.random.default_rng(0).permutation(rows)
    share = _MOST_ROWS / len(rows)
    sides = [drawn[labels[drawn] == label] for label in (0, 1)]
    return np.sort(np.concatenate([side[: max(round(len(side) * share), 1)] for side in sides]))


def _solve(design: Numbers, labels: Numbers, penalty: float, start: Numbers) -> Numbers:
    """Returns the weights with the least log loss plus half the penalty times their squares; the last one is free.

    Newton's method with step halving.
    """
    penalties = np.append(np.full(design.shape[1] - 1, penalty), 0.0)
    weights, log_odds = start, design @ start

    def objective(weights: Numbers, log_odds: Numbers) -> float:
        return _loss(labels, log_odds) + 0.5 * float(penalties @ weights**2)

    now = objective(weights, log_odds)
    for _ in range(_MOST_STEPS):
        chances = _chances(log_odds)
        gradient = design.T @ (chances - labels) + penalties * weights
        curvature = chances * (1 - chances)
        hessian = design.T @ (design * curvature[:, None])
        hessian[np.diag_indices_from(hessian)] += penalties + 1e-9
        step = np.linalg.solve(hessian, gradient)
        along = design @ step
        size = 1.0
        for _ in range(_HALVINGS):
            then = objective(weights - size * step, log_odds - size * along)
            if then <= now:
                break
            size /= 2
        else:
            break
        weights, log_odds = weights - size * step, log_odds - size * along
        gained, now = now - then, then
        if gained <= _TOLERANCE * max(now, 1.0):
            break
    return weights


def _losses(labels: Numbers, log_odds: Numbers) -> Numbers:
    return np.asarray(np.logaddexp(0.0, np.where(labels == 1, -log_odds, log_odds)))


def _loss(labels: Numbers, log_odds: Numbers) -> float:
    return float(_losses(labels, log_odds).sum())


def _chances(log_odds: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -500, 500))))


def _log_odds(rate: float) -> float:
    return float(np.log(rate / (1 - rate)))
