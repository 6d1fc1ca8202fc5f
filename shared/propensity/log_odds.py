"""The one form of every model: a bias, an additive table and trees, whose log-odds add up.

Whatever was fitted, one booster of LightGBM scores it, and contributions are exact: sums of trees and tables explain
themselves by the sums of their explanations.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.propensity.errors import CheckpointError
from shared.propensity.features import Matrix
from shared.propensity.forests import from_text, to_text
from shared.propensity.scorecards import FiniteNumber, ScorecardColumn, added, contributions
from shared.propensity.single_rows import SingleRows

SCORECARD_FILE = "scorecard.json"
TREES_FILE = "trees.txt"
# Rows times trees; below it, threads wait for each other more than they work.
STEPS_FOR_A_THREAD = 500_000
LogOdds = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.float64]
# One row for each of a matrix; a column for each of its columns, and one more for the base that they add to.
ContributionMatrix = npt.NDArray[np.float64]


class Scorecard(BaseModel):
    """``scorecard.json``: the part of a model that people can read."""

    model_config = ConfigDict(extra="forbid")

    bias: FiniteNumber
    width: int = Field(ge=1, description="columns of the matrix")
    columns: list[ScorecardColumn] = Field(default_factory=list)


@dataclass(frozen=True)
class LogOddsModel:
    """A sum of a bias, tables of columns, and trees in LightGBM's text."""

    width: int
    bias: float = 0.0
    columns: Sequence[ScorecardColumn] = ()
    forest: str = field(default="", repr=False)

    def log_odds(self, matrix: Matrix) -> LogOdds:
        """Returns the log-odds of the positive class of each row."""
        if len(matrix) == 1:
            return np.array([self._of_row(matrix)])
        found = np.full(len(matrix), self.bias)
        for column in self.columns:
            found += column.at(matrix[:, column.column])
        if self._booster is not None:
            found += self._booster.predict(matrix, raw_score=True, num_threads=self._threads(matrix))
        return found

    def _of_row(self, matrix: Matrix) -> float:
        """Returns the same for the only row of a matrix, without arrays."""
        row, found = matrix[0].tolist(), self.bias
        for column in self.columns:
            found += column.of(row[column.column])
        return found if self._single_rows is None else found + self._single_rows.log_odds(matrix)

    def predict(self, matrix: Matrix) -> Probabilities:
        """Returns the probability of the positive class of each row."""
        return probability(self.log_odds(matrix))

    def contributions(self, matrix: Matrix) -> ContributionMatrix:
        """Returns what each column adds to the log-odds of each row, and in the last column what they start from."""
        found = np.concatenate([contributions(self.columns, matrix), np.full((len(matrix), 1), self.bias)], axis=1)
        if self._booster is not None:
            found += self._booster.predict(matrix, pred_contrib=True, num_threads=self._threads(matrix))
        return found

    def files(self) -> dict[str, str]:
        """Returns the content of each file of a checkpoint by its name."""
        scorecard = Scorecard(bias=self.bias, width=self.width, columns=list(self.columns))
        trees = {TREES_FILE: self.forest} if self.forest else {}
        return {SCORECARD_FILE: scorecard.model_dump_json(), **trees}

    @classmethod
    def of_files(cls, files: Mapping[str, str]) -> "LogOddsModel":
        """Returns the model of these files.

        Raises:
            CheckpointError: they aren't what ``files`` returns.
        """
        try:
            scorecard = Scorecard.model_validate_json(files[SCORECARD_FILE])
        except (KeyError, ValidationError) as error:
            raise CheckpointError(f"{SCORECARD_FILE} is missing or damaged: {error}") from error
        return cls.of_trees(scorecard.width, files.get(TREES_FILE, ""), scorecard.bias, scorecard.columns)

    @classmethod
    def of_trees(
        cls, width: int, forest: str, bias: float = 0.0, columns: Sequence[ScorecardColumn] = ()
    ) -> "LogOddsModel":
        """Returns the model of trees in LightGBM's text.

        Raises:
            CheckpointError: it is no checkpoint, or of other columns.
        """
        model = cls(width, bias, columns, forest)
        if model._booster is not None and model._booster.num_feature() != width:
            raise CheckpointError(f"{TREES_FILE} is of other columns than the rest of the model")
        if any(column.column >= width for column in columns):
            raise CheckpointError(f"{SCORECARD_FILE} is of other columns than the rest of the model")
        return model

    def without_text(self) -> "LogOddsModel":
        """Returns the same model for scoring only: without its text it takes two thirds of the memory."""
        model = replace(self, forest="")
        # A cached value is no field, so the frozen class lets it be set.
        model.__dict__["_booster"] = self._booster
        return model

    def save(self, path: Path) -> None:
        """Writes everything into one file, for a training that goes on later."""
        path.write_text(json.dumps(self.files()), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "LogOddsModel":
        """Returns what ``save`` wrote. Raises CheckpointError if it is something else."""
        try:
            files = json.loads(path.read_bytes())
        except ValueError as error:
            raise CheckpointError(f"{path.name} is not a model") from error
        if not isinstance(files, dict):
            raise CheckpointError(f"{path.name} is not a model")
        return cls.of_files(files)

    @cached_property
    def _booster(self) -> Any:
        if not self.forest:
            return None
        try:
            return lightgbm.Booster(model_str=self.forest)
        except lightgbm.basic.LightGBMError as error:
            raise CheckpointError(f"{TREES_FILE} is not a LightGBM model: {error}") from error

    @cached_property
    def _single_rows(self) -> SingleRows | None:
        return None if self._booster is None else SingleRows(self._booster, self.width)

    def _threads(self, matrix: Matrix) -> int:
        return _threads_for(len(matrix) * self._booster.num_trees())


def blend(models: Iterable[tuple[float, LogOddsModel]], bias: float = 0.0) -> LogOddsModel:
    """Returns the model whose log-odds are the bias and the weighted sum of those of the models."""
    width, trees = 1, []
    by_column: dict[int, list[ScorecardColumn]] = {}
    for weight, model in models:
        width = max(width, model.width)
        if not weight:
            continue
        bias += weight * model.bias
        for column in model.columns:
            by_column.setdefault(column.column, []).append(column.scaled(weight))
        if model.forest:
            grown, constant = from_text(model.forest)
            trees += [tree.scaled(weight) for tree in grown]
            bias += weight * constant
    columns = [added(each) for _, each in sorted(by_column.items())]
    return LogOddsModel(width, bias, columns, to_text(trees, width) if trees else "")


def mean(models: Sequence[LogOddsModel]) -> LogOddsModel:
    """Returns the model whose log-odds are the mean of those of the models."""
    return blend([(1 / len(models), model) for model in models])


def probability(log_odds: LogOdds) -> Probabilities:
    """Returns the probabilities of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.minimum(np.maximum(log_odds, -700), 700))))


def _threads_for(steps: int) -> int:
    """Returns as many threads as there are processors, fewer where rows and trees are too few to share."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, steps // STEPS_FOR_A_THREAD))
