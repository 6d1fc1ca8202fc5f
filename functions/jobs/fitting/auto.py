"""Several architectures together: what one misses, another one sees.

Each is fitted on the same folds. Weights and a bias of their log-odds minimise the log loss on rows that they have not
seen, and are held near equal shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from functions.jobs.fitting.base import (
    Architecture,
    EndedEarlyError,
    FitSession,
    FitTask,
    MissingLibraryError,
    TrainingStoppedError,
)
from functions.jobs.fitting.families import family_of
from functions.jobs.time_left import Stage
from shared.propensity.architectures.configuration import (
    AdditiveCatBoostConfiguration,
    AdditiveConfiguration,
    ArchitectureConfiguration,
    AutoConfiguration,
    CatBoostConfiguration,
    LightGBMConfiguration,
    TabMConfiguration,
    XGBoostConfiguration,
    are_few,
)
from shared.propensity.dates import Numbers
from shared.propensity.holdouts import Labels
from shared.propensity.log_odds import LogOddsModel, blend

# How strongly weights are held near equal shares, in rows.
SHRINKAGE = 30.0
# Weights need no more rows.
ROWS_FOR_WEIGHTS = 200_000
# A smaller weight becomes 0: its trees would cost time and change nothing.
LEAST_WEIGHT = 0.005
# What follows the last model takes so much, compared with all models.
LAST_SHARE = 0.2
_STEPS = 200
_HALVINGS = 30


@dataclass(frozen=True)
class Member:
    """One of the architectures, with its own settings."""

    name: str
    architecture: str
    configuration: ArchitectureConfiguration
    # What one of its models takes, compared with XGBoost's.
    work: float = 1.0


SCORECARD = Member("additive_8", "additive", AdditiveConfiguration(knots=8))
STRAIGHT = Member("additive_0", "additive", AdditiveConfiguration(knots=0))
XGBOOST = Member("xgboost", "xgboost", XGBoostConfiguration())
NETWORK = Member("tabm", "tabm", TabMConfiguration())
# Of fewer rows trees learn more, also in less time.
ROWS_FOR_NETWORKS = 100_000
ON_SCORECARD = Member("additive_catboost", "additive_catboost", AdditiveCatBoostConfiguration(), 1.6)
# Trees that have to find everything by themselves need more rows of a rare label than these.
RARE_SHARE, FEW_RARE_ROWS = 0.05, 200
RARE_LABEL = (SCORECARD, STRAIGHT, ON_SCORECARD)
FEW_ROWS = (
    SCORECARD,
    STRAIGHT,
    XGBOOST,
    Member("catboost_6", "catboost", CatBoostConfiguration(max_depth=6), 3.3),
    ON_SCORECARD,
    Member("catboost_4", "catboost", CatBoostConfiguration(max_depth=4), 2.2),
)
MORE_ROWS = (
    SCORECARD,
    Member("lightgbm", "lightgbm", LightGBMConfiguration()),
    Member("catboost_8", "catboost", CatBoostConfiguration(max_depth=8)),
)


def members_for(rows: int, positives: int, gpu_count: int) -> tuple[Member, ...]:
    """Returns the architectures for so many rows, in their order: those that are last are left out first."""
    rare = min(positives, rows - positives)
    if rare < min(FEW_RARE_ROWS, RARE_SHARE * rows):
        return RARE_LABEL
    if are_few(rows, positives):
        return FEW_ROWS
    if not gpu_count:
        return MORE_ROWS
    return (*MORE_ROWS, XGBOOST, NETWORK) if rows >= ROWS_FOR_NETWORKS else (*MORE_ROWS, XGBOOST)


class Auto(Architecture[AutoConfiguration]):
    """See ``Architecture``."""

    name: ClassVar[str] = "auto"

    def stages(self, configuration: AutoConfiguration, task: FitTask) -> list[Stage]:
        """See ``Architecture``."""
        del configuration
        found = [
            replace(stage, series=member.name, work=member.work)
            for member in _members(task)
            for stage in family_of(member.architecture).stages(_resolved(member, task), task)[:1]
        ]
        # At the end, weights are chosen and the trees of all models are joined.
        return [*found, Stage(1, work=LAST_SHARE * sum(stage.models * stage.work for stage in found))]

    def fit_folds(self, configuration: AutoConfiguration, task: FitTask, session: FitSession) -> list[LogOddsModel]:
        """See ``Architecture``."""
        members = _members(task)
        fitted: dict[str, list[LogOddsModel]] = {}
        budget = None if configuration.minutes is None else configuration.minutes * 60
        ended: EndedEarlyError | None = None
        unfinished = ""
        for member in members:
            # The first is the scorecard, which is always there.
            left = None if budget is None or not fitted else budget - session.seconds()
            try:
                fitted[member.name] = _fit(member, task, session.part(member.name, left))
            except EndedEarlyError as early:
                ended = early
                # Its weight follows from how well it predicts, for which it needs a model for each fold.
                if early.models and (not fitted or len(early.models) == len(task.folds)):
                    fitted[member.name] = early.models
                    reached = early.reached or f"{len(early.models)} of {len(task.folds)} folds"
                    unfinished = f"Of {member.name}, there is only what was fitted until then: {reached}."
                break
            except MissingLibraryError as error:
                members = tuple(each for each in members if each is not member)
                session.note(f"auto left {member.name} out. {error}")
        if ended and not fitted:
            raise ended
        # Only a scorecard that is alone may lack folds.
        task = replace(task, folds=task.folds[: min(map(len, fitted.values()))])
        is_stopped = isinstance(ended, TrainingStoppedError)
        session.note(_why(task, members, list(fitted), None if is_stopped else configuration.minutes))
        if unfinished:
            session.note(unfinished)
        log_odds, labels = _held_out(list(fitted.values()), task)
        weights, bias = blend_weights(log_odds, labels)
        session.note(_weighed(list(fitted), weights, bias, log_odds, labels))
        blends = [blend(zip(weights, models, strict=True), bias) for models in zip(*fitted.values(), strict=True)]
        if is_stopped:
            raise TrainingStoppedError(blends, f"{len(fitted)} of {len(members)} architectures") from ended
        return [session.finish(index, model) for index, model in enumerate(blends)]


def _members(task: FitTask) -> tuple[Member, ...]:
    return members_for(len(task.examples), int(task.examples.labels.sum()), task.hardware.gpu_count)


def _resolved(member: Member, task: FitTask) -> ArchitectureConfiguration:
    labels = task.examples.labels
    return member.configuration.resolved(len(labels), int(labels.sum()))


def _fit(member: Member, task: FitTask, session: FitSession) -> list[LogOddsModel]:
    configuration = _resolved(member, task)
    # LightGBM's GPU code is no faster than its code for processors.
    hardware = task.hardware if member.architecture in ("xgboost", "tabm") else replace(task.hardware, gpu_count=0)
    return family_of(member.architecture).fit_folds(configuration, replace(task, hardware=hardware), session)


def _held_out(members: Sequence[Sequence[LogOddsModel]], task: FitTask) -> tuple[Numbers, Labels]:
    """Returns the log-odds of each member's models for rows that they have not seen, and the labels of these rows."""
    examples = task.examples
    rows = [np.nonzero(held)[0] for held in task.folds]
    sampled = [each[:: -(-sum(map(len, rows)) // ROWS_FOR_WEIGHTS)] for each in rows]
    columns = [
        np.concatenate([model.log_odds(examples.matrix[each]) for model, each in zip(models, sampled, strict=True)])
        for models in members
    ]
    return np.column_stack(columns), examples.labels[np.concatenate(sampled)]


def blend_weights(log_odds: Numbers, labels: Labels, shrinkage: float = SHRINKAGE) -> tuple[list[float], float]:
    """Returns a weight of at least 0 for each column of log-odds, and a bias, with the least log loss on these rows.

    By projected Newton steps. The squared distance of the weights from equal shares is penalised.
    """
    count = log_odds.shape[1]
    truth = labels.astype(np.float64)
    design = np.column_stack([log_odds, np.ones(len(truth))])
    equal = np.append(np.full(count, 1 / count), 0.0)
    penalties = np.append(np.full(count, shrinkage * count), 0.0)

    def objective(weights: Numbers) -> float:
        return _loss(truth, design @ weights) + 0.5 * float(penalties @ (weights - equal) ** 2)

    weights, now = equal, objective(equal)
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        gradient = design.T @ (chances - truth) + penalties * (weights - equal)
        hessian = design.T @ (design * (chances * (1 - chances))[:, None]) + np.diag(penalties + 1e-9)
        free = np.append((weights[:-1] > 0) | (gradient[:-1] < 0), True)
        step = np.zeros(count + 1)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        for halving in range(_HALVINGS):
            moved = weights - step / 2**halving
            moved[:-1] = np.maximum(moved[:-1], 0.0)
            if (then := objective(moved)) < now - 1e-10:
                break
        else:
            break
        weights, now = moved, then
    kept = np.where(weights[:-1] < LEAST_WEIGHT, 0.0, weights[:-1])
    return [float(weight) for weight in kept], float(weights[-1])


def _loss(truth: Numbers, log_odds: Numbers) -> float:
    return float(np.logaddexp(0.0, np.where(truth == 1, -log_odds, log_odds)).sum())


def _why(task: FitTask, members: Sequence[Member], fitted: Sequence[str], minutes: float | None) -> str:
    rows, positives, folds = len(task.examples), int(task.examples.labels.sum()), len(task.folds)
    how = f"{folds} folds" if folds > 1 else "one part of the rows for validation"
    size = "few" if are_few(rows, positives) else "many"
    text = f"auto fitted {', '.join(fitted)} with {how}, because {rows:,} rows with {positives:,} positive are {size}."
    if left_out := [member.name for member in members if member.name not in fitted]:
        why = "were not done when the training was stopped."
        if minutes is not None:
            why = f"did not fit into the {minutes:g} minutes: raise minutes to use them."
        text += f" {', '.join(left_out)} {why}"
    return text


def _weighed(names: Sequence[str], weights: Sequence[float], bias: float, log_odds: Numbers, labels: Labels) -> str:
    truth = labels.astype(np.float64)
    alone = [_loss(truth, column) / len(truth) for column in log_odds.T]
    parts = ", ".join(
        f"{name} {weight:.2f} ({loss:.4f} alone)" for name, weight, loss in zip(names, weights, alone, strict=True)
    )
    together = _loss(truth, log_odds @ np.array(weights) + bias) / len(truth)
    return (
        f"The weights of their log-odds, chosen by the log loss on rows that they had not seen, are {parts}; "
        f"together {together:.4f}."
    )
