"""TabICL teaches trees: what scores, explains and is kept are the trees.

The transformer needs its examples and its weights for each prediction, which functions have no room for. So the
training asks it once, for probabilities of rows that it is not shown, and trees learn these beside the labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from functions.jobs.fitting.base import (
    Architecture,
    EndedEarlyError,
    Examples,
    FitSession,
    FitTask,
    MissingLibraryError,
    fit_each,
)
from functions.jobs.fitting.lightgbm import LightGBM
from functions.jobs.modelling.metrics import roc_curve
from functions.jobs.modelling.repeated_rows import matrix_keys
from functions.jobs.modelling.splits import validation_folds
from shared.errors import JobFailedError
from shared.propensity.architectures.configuration import LightGBMConfiguration, TabICLConfiguration
from shared.propensity.features import Matrix
from shared.propensity.holdouts import Labels
from shared.propensity.log_odds import LogOdds, LogOddsModel, Probabilities, probability

# Rows times columns that the transformer is shown together, and the fewest rows for which that is of use.
CELLS_OF_A_CONTEXT = 1_000_000
FEWEST_CONTEXT_ROWS = 1_000
# Parts of the fitted rows. The transformer is asked for each of them, and shown the others.
PARTS = 4
# How much the trees are fitted to the transformer's probabilities, and not to labels.
SHARES = {"half_taught": 0.5, "taught": 1.0}
LABELS = "labels"

Rows = npt.NDArray[np.intp]


class Teaching(Protocol):
    """What predicts rows from examples that it is shown."""

    def log_odds(self, context: Examples, matrix: Matrix) -> LogOdds:
        """Returns the log-odds of the rows of a matrix."""


@dataclass(frozen=True)
class Lesson:
    """The log-odds of the teacher for the rows that a model is fitted on, and for its validation rows.

    No row is among those that were shown for it. NaN for rows that the teacher was not asked for.
    """

    fitted: LogOdds
    validation: LogOdds

    def targets(self, labels: Labels, share: float) -> Probabilities:
        """Returns what trees are fitted to: labels, moved by a share towards the teacher's probabilities."""
        truth = labels.astype(np.float64)
        asked = ~np.isnan(self.fitted)
        truth[asked] += share * (probability(self.fitted[asked]) - truth[asked])
        return truth


class TabICL(Architecture[TabICLConfiguration]):
    """See ``Architecture``."""

    name: ClassVar[str] = "tabicl"

    def fit_folds(self, configuration: TabICLConfiguration, task: FitTask, session: FitSession) -> list[LogOddsModel]:
        """See ``Architecture``. Trees that learn from labels alone are fitted first, to compare the others with."""
        found = [session.finished(index) for index in range(len(task.folds))]
        if all(found):
            return [model for model in found if model]
        teacher = _teacher(configuration, task)
        models = {LABELS: _students(task, session.part(LABELS))}
        try:
            lessons = learn(configuration, task, teacher, session)
            for name, share in SHARES.items():
                targets = [lesson.targets(task.examples.labels, share) for lesson in lessons]
                models[name] = _students(task, session.part(name), targets)
        except EndedEarlyError as early:
            raise type(early)(models[LABELS], "trees that learned from labels alone") from early
        chosen = _chosen(models, task)
        session.note(_compared(models, chosen, lessons, task))
        return [session.finish(index, model) for index, model in enumerate(models[chosen])]


def _teacher(configuration: TabICLConfiguration, task: FitTask) -> Teaching:
    if task.weights is None:
        raise JobFailedError("The job was given no weights for the architecture tabicl. Choose another architecture.")
    try:
        from functions.jobs.fitting.neural.in_context import Teacher
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingLibraryError(
            "The training container has no PyTorch, which the architecture tabicl needs. Use AWS's PyTorch "
            "containers, or choose another architecture."
        ) from error
    return Teacher(task.weights, configuration.views, task.categorical, task.hardware, task.seed)


def learn(
    configuration: TabICLConfiguration, task: FitTask, teacher: Teaching, session: FitSession
) -> Sequence[Lesson]:
    """Returns the lesson of each model.

    Raises:
        JobFailedError: the data have too many columns.
        EndedEarlyError: the session ended.
    """
    examples = task.examples
    columns = examples.matrix.shape[1] + int(np.isnan(examples.matrix).any(axis=0).sum())
    most = min(configuration.context_rows, CELLS_OF_A_CONTEXT // columns)
    if columns * FEWEST_CONTEXT_ROWS > CELLS_OF_A_CONTEXT:
        raise JobFailedError(
            f"The architecture tabicl reads at most {CELLS_OF_A_CONTEXT // FEWEST_CONTEXT_ROWS:,} columns, and these "
            f"data have {columns:,}, of which those with missing values count twice. Leave columns out "
            "(excluded_columns), or choose another architecture."
        )
    shown = len(examples) - int(min(fold.sum() for fold in task.folds))
    if shown > most:
        session.note(
            f"TabICL was shown {most:,} of up to {shown:,} rows together, because of its {columns:,} columns and "
            f"context_rows {configuration.context_rows:,}."
        )
    random = np.random.default_rng(task.seed)

    def ask(context: Rows, asked: Rows, into: LogOdds, limit: int) -> None:
        session.check()
        context = _drawn(context, examples.labels, most, random)
        if len(np.unique(examples.labels[context])) == 2:
            asked = random.permutation(asked)[:limit]
            into[asked] = teacher.log_odds(examples.take(context), examples.matrix[asked])

    lessons = []
    for index, held in enumerate(task.folds):
        lesson = Lesson(*(np.full(len(examples), np.nan) for _ in range(2)))
        rows = np.nonzero(~held)[0]
        parts = _parts(task, index, rows)
        limit = max(configuration.taught_rows // len(parts), 1)
        for part in parts:
            ask(np.setdiff1d(rows, part), part, lesson.fitted, limit)
        ask(rows, np.nonzero(held)[0], lesson.validation, limit)
        lessons.append(lesson)
    return lessons


def _parts(task: FitTask, index: int, rows: Rows) -> list[Rows]:
    """Returns parts of the rows of a model: the other folds, if there are several, because these keep groups whole."""
    others = [np.nonzero(fold)[0] for place, fold in enumerate(task.folds) if place != index]
    if len(others) > 1:
        return others
    examples = task.examples.take(rows)
    folds = validation_folds(PARTS, 1 / PARTS, examples.labels, matrix_keys(examples.matrix), task.seed)
    return [rows[fold] for fold in folds if fold.any()]


def _drawn(rows: Rows, labels: Labels, most: int, random: np.random.Generator) -> Rows:
    """Returns at most so many rows, with the same share of each label, and at least one of each."""
    if len(rows) <= most:
        return rows
    strata = [random.permutation(rows[labels[rows] == label]) for label in (0, 1)]
    kept = [stratum[: max(round(most * len(stratum) / len(rows)), 1)] for stratum in strata]
    return np.sort(np.concatenate(kept))


def _students(task: FitTask, session: FitSession, targets: Sequence[Probabilities] | None = None) -> list[LogOddsModel]:
    """Returns the trees of each fold, which stop early by the labels of the fold's rows."""
    labels = task.examples.labels
    configuration = LightGBMConfiguration().resolved(len(labels), int(labels.sum()))
    # LightGBM's GPU code is no faster than its code for processors.
    task = replace(task, hardware=replace(task.hardware, gpu_count=0))

    def fit(index: int) -> LogOddsModel:
        taught = None if targets is None else targets[index]
        own = replace(task, examples=replace(task.examples, taught=taught))
        return LightGBM().fit_fold(configuration, own, index, session)

    return fit_each(len(task.folds), fit)


def _chosen(models: Mapping[str, Sequence[LogOddsModel]], task: FitTask) -> str:
    """Returns the trees of labels, or others that predict unseen rows better by more than a standard error."""
    labels = _validated(task)
    losses = {name: _losses(_unseen(each, task), labels) for name, each in models.items()}
    best = LABELS
    for name in SHARES:
        gained = losses[best] - losses[name]
        if gained.mean() > gained.std() / len(gained) ** 0.5:
            best = name
    return best


def _compared(
    models: Mapping[str, Sequence[LogOddsModel]], chosen: str, lessons: Sequence[Lesson], task: FitTask
) -> str:
    """Returns how far the trees and their teacher are apart, on the validation rows that the teacher was asked for."""
    said = np.concatenate([lesson.validation[held] for lesson, held in zip(lessons, task.folds, strict=True)])
    asked = ~np.isnan(said)
    labels = _validated(task)[asked]
    if len(np.unique(labels)) < 2:
        return "TabICL could not be measured, because there are too few rows of a label. The trees learned from labels."

    def quality(log_odds: LogOdds) -> str:
        area = roc_curve(labels, probability(log_odds[asked])).area
        return f"a log loss of {_losses(log_odds[asked], labels).mean():.4f} and a ROC AUC of {area:.4f}"

    alone = quality(_unseen(models[LABELS], task))
    text = f"On {len(labels):,} validation rows, TabICL has {quality(said)}; trees that learned from labels {alone}"
    if chosen == LABELS:
        return f"{text}. Its probabilities did not help the trees, so the model has learned nothing from it."
    share = f"{SHARES[chosen]:.0%}"
    return (
        f"{text}; trees that learned {share} from TabICL {quality(_unseen(models[chosen], task))}. "
        "These are the model: TabICL itself does not score."
    )


def _validated(task: FitTask) -> Labels:
    return np.concatenate([task.examples.labels[held] for held in task.folds])


def _unseen(models: Sequence[LogOddsModel], task: FitTask) -> LogOdds:
    """Returns the log-odds of the validation rows of each model."""
    matrix = task.examples.matrix
    return np.concatenate([model.log_odds(matrix[held]) for model, held in zip(models, task.folds, strict=True)])


def _losses(log_odds: LogOdds, labels: Labels) -> LogOdds:
    return np.logaddexp(0.0, np.where(labels == 1, -log_odds, log_odds))
