"""The one form of every model: a bias, an additive table, trees and networks, whose log-odds add up.

Whatever was fitted, one booster of LightGBM scores all trees. Contributions of tables and trees are exact: their sums
explain themselves by the sums of their explanations. Those of networks are estimates that add up.
"""

import base64
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
from shared.propensity.networks import TENSORS_FILE, Network, read_networks, write_networks
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
    """A sum of a bias, tables of columns, trees in LightGBM's text, and networks."""

    width: int
    bias: float = 0.0
    columns: Sequence[ScorecardColumn] = ()
    forest: str = field(default="", repr=False)
    networks: Sequence[Network] = field(default=(), repr=False)

    def log_odds(self, matrix: Matrix) -> LogOdds:
        """Returns the log-odds of the positive class of each row."""
        if len(matrix) == 1:
            return np.array([self._of_row(matrix)])
        found = np.full(len(matrix), self.bias)
        for column in self.columns:
            found += column.at(matrix[:, column.column])
        if self._booster is not None:
            found += self._booster.predict(matrix, raw_score=True, num_threads=self._threads(matrix))
        for network in self.networks:
            found += network.log_odds(matrix)
        return found

    def _of_row(self, matrix: Matrix) -> float:
        """Returns the same for the only row of a matrix, with as few arrays as possible."""
        row, found = matrix[0].tolist(), self.bias
        for column in self.columns:
            found += column.of(row[column.column])
        for network in self.networks:
            found += float(network.log_odds(matrix)[0])
        return found if self._single_rows is None else found + self._single_rows.log_odds(matrix)

    def predict(self, matrix: Matrix) -> Probabilities:
        """Returns the probability of the positive class of each row."""
        return probability(self.log_odds(matrix))

    def contributions(self, matrix: Matrix) -> ContributionMatrix:
        """Returns what each column adds to the log-odds of each row, and in the last column what they start from.

        The parts of networks are estimates.
        """
        found = np.concatenate([contributions(self.columns, matrix), np.full((len(matrix), 1), self.bias)], axis=1)
        if self._booster is not None:
            found += self._booster.predict(matrix, pred_contrib=True, num_threads=self._threads(matrix))
        for network in self.networks:
            found += network.contributions(matrix, self.width)
        return found

    def files(self) -> dict[str, bytes]:
        """Returns the content of each file of a checkpoint by its name."""
        scorecard = Scorecard(bias=self.bias, width=self.width, columns=list(self.columns))
        trees = {TREES_FILE: self.forest.encode()} if self.forest else {}
        networks = write_networks(self.networks) if self.networks else {}
        return {SCORECARD_FILE: scorecard.model_dump_json().encode(), **trees, **networks}

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> "LogOddsModel":
        """Returns the model of these files.

        Raises:
            CheckpointError: they aren't what ``files`` returns.
        """
        try:
            scorecard = Scorecard.model_validate_json(files[SCORECARD_FILE])
        except (KeyError, ValidationError) as error:
            raise CheckpointError(f"{SCORECARD_FILE} is missing or damaged: {error}") from error
        forest = files.get(TREES_FILE, b"").decode(errors="replace")
        model = cls.of_trees(scorecard.width, forest, scorecard.bias, scorecard.columns)
        return replace(model, networks=networks) if (networks := read_networks(files, model.width)) else model

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
        files = {
            name: base64.b64encode(content).decode() if name == TENSORS_FILE else content.decode()
            for name, content in self.files().items()
        }
        path.write_text(json.dumps(files), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "LogOddsModel":
        """Returns what ``save`` wrote. Raises CheckpointError if it is something else."""
        try:
            files = {
                name: base64.b64decode(content) if name == TENSORS_FILE else content.encode()
                for name, content in json.loads(path.read_bytes()).items()
            }
        except (ValueError, AttributeError) as error:
            raise CheckpointError(f"{path.name} is not a model") from error
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
    width, trees, networks = 1, [], []
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
        networks += [network.scaled(weight) for network in model.networks]
    columns = [added(each) for _, each in sorted(by_column.items())]
    return LogOddsModel(width, bias, columns, to_text(trees, width) if trees else "", networks)


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
