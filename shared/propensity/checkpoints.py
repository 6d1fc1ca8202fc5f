"""Checkpoints on disk, ``checkpoint.json`` beside the files of the model, and scoring with one."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.models.base import Timestamp
from shared.models.job import CheckpointMetadata, JobFile
from shared.propensity.artifacts import CHECKPOINT_FILE, MAX_PAPER_BYTES
from shared.propensity.calibration import Calibration, corrected_contributions
from shared.propensity.ensemble import Ensemble
from shared.propensity.errors import CheckpointError
from shared.propensity.features import FeatureSchema, Matrix
from shared.propensity.holdouts import Holdout
from shared.propensity.log_odds import LogOddsModel, Probabilities, probability
from shared.propensity.xgboost_trees import read_ubjson

# One model for all folds and libraries, in ``scorecard.json`` and ``trees.txt``.
FORMAT_VERSION = 3
# The same with a calibration, which earlier versions could not read.
CALIBRATED_VERSION = 4
# The same with networks.
NETWORK_VERSION = 5
# Without the formats of dates, which are optional.
_OLDEST_FORMAT_VERSION = 1
# From this one on, a checkpoint's architecture needs no library of its own to score.
_ONE_MODEL = 3


class StoredCheckpoint(CheckpointMetadata):
    """``checkpoint.json``: all that scoring needs beside the model files, and where they came from."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), ser_json_inf_nan="null")

    training_id: str
    created_at: Timestamp
    features: FeatureSchema
    configuration: dict[str, Any] = Field(description="with every choice made that was left open")
    seed: int
    model_files: list[str] = Field(min_length=1, max_length=50)
    holdout: Holdout
    trained_files: list[JobFile]
    trained_rows: int
    library_versions: dict[str, str]
    calibration: Calibration | None = Field(default=None, description="null: the probabilities are the model's own")


class RowPrediction(BaseModel):
    """One scored row."""

    probability: float
    label: str


@dataclass(frozen=True)
class Explanation:
    """What each source column adds to the log-odds of a row's probability; with ``base_value`` they sum to them."""

    base_value: float
    contributions: dict[str, float]


class Scorer:
    """A checkpoint loaded once; scores rows and matrices."""

    def __init__(self, folder: Path) -> None:
        """Reads the folder an artifact was unpacked in.

        Raises:
            CheckpointError: it isn't a checkpoint of ours, is damaged, or is of a newer format.
        """
        self.checkpoint = read_checkpoint(folder)
        self.size_bytes = sum(path.stat().st_size for path in folder.iterdir())
        self._model = _read_model(folder, self.checkpoint)

    @property
    def explains_exactly(self) -> bool:
        """Returns whether no contribution is an estimate."""
        return isinstance(self._model, Ensemble) or not self._model.networks

    def score(self, rows: Sequence[Mapping[str, Any]]) -> list[RowPrediction]:
        """Returns the probability of the positive label, and the label it leads to, of each row.

        Raises:
            ValidationFailedError: a row lacks a column of the model, or holds a list or an object.
        """
        if not rows:
            return []
        probabilities = self.probabilities(self.checkpoint.features.encode_rows(rows))
        positive, negative = self.checkpoint.positive_label, self.checkpoint.negative_label
        return [
            RowPrediction(probability=value, label=positive if value >= self.checkpoint.threshold else negative)
            for value in probabilities.tolist()
        ]

    def probabilities(self, matrix: Matrix) -> Probabilities:
        """Returns the probability of the positive label of each row of an encoded matrix."""
        calibration = self.checkpoint.calibration
        if calibration is None or isinstance(self._model, Ensemble):
            return self._model.predict(matrix)
        return probability(calibration.corrected(self._model.log_odds(matrix)))

    def raw_probabilities(self, matrix: Matrix) -> Probabilities | None:
        """Returns the probabilities without the checkpoint's calibration; ``None`` if it has none."""
        return None if self.checkpoint.calibration is None else self._model.predict(matrix)

    def explain(self, matrix: Matrix) -> list[Explanation]:
        """Returns the reasons for the probability of each row of an encoded matrix, by the customer's columns."""
        found = self._model.contributions(matrix)
        if self.checkpoint.calibration is not None:
            found = corrected_contributions(self.checkpoint.calibration, found)
        columns = np.zeros((len(matrix), len(self.checkpoint.features.features)))
        start = 0
        for index, feature in enumerate(self.checkpoint.features.features):
            columns[:, index] = found[:, start : start + len(feature.columns)].sum(axis=1)
            start += len(feature.columns)
        names = [feature.name for feature in self.checkpoint.features.features]
        return [
            Explanation(float(base), dict(zip(names, values.tolist(), strict=True)))
            for base, values in zip(found[:, -1], columns, strict=True)
        ]


def write_checkpoint(folder: Path, checkpoint: StoredCheckpoint, model: LogOddsModel) -> None:
    """Writes the files of the model, then ``checkpoint.json``, into an existing folder."""
    for name, content in model.files().items():
        (folder / name).write_bytes(content)
    (folder / CHECKPOINT_FILE).write_text(checkpoint.model_dump_json(), encoding="utf-8")


def read_checkpoint(folder: Path) -> StoredCheckpoint:
    """``checkpoint.json`` of a folder.

    Raises:
        CheckpointError: see ``Scorer``.
    """
    path = folder / CHECKPOINT_FILE
    try:
        if path.stat().st_size > MAX_PAPER_BYTES:
            raise CheckpointError(f"{CHECKPOINT_FILE} is larger than {MAX_PAPER_BYTES // 2**20} MB")
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"the model artifact holds no {CHECKPOINT_FILE}") from error
    try:
        metadata = CheckpointMetadata.model_validate_json(text)
        if not _OLDEST_FORMAT_VERSION <= metadata.format_version <= NETWORK_VERSION:
            raise CheckpointError(
                f"the checkpoint has format {metadata.format_version}; this version reads up to {NETWORK_VERSION}"
            )
        checkpoint = StoredCheckpoint.model_validate_json(text)
    except ValidationError as error:
        raise CheckpointError(f"{CHECKPOINT_FILE} is damaged: {error}") from error
    for name in checkpoint.model_files:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"the model file '{name}' is missing from the checkpoint")
    return checkpoint


def _read_model(folder: Path, checkpoint: StoredCheckpoint) -> LogOddsModel | Ensemble:
    names = checkpoint.model_files
    if checkpoint.format_version >= _ONE_MODEL:
        model = LogOddsModel.of_files({name: (folder / name).read_bytes() for name in names})
        if model.width != len(checkpoint.features.columns):
            raise CheckpointError("the model has other columns than the checkpoint")
        return model.without_text()
    if checkpoint.architecture == "xgboost":
        return Ensemble([read_ubjson(folder / name) for name in names])
    if checkpoint.architecture == "lightgbm":
        width = len(checkpoint.features.columns)
        texts = [(folder / name).read_text(encoding="utf-8") for name in names]
        return Ensemble([LogOddsModel.of_trees(width, text) for text in texts])
    raise CheckpointError(f"the checkpoint's architecture '{checkpoint.architecture}' is unknown here")


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that fit and encode."""
    versions = {"python": platform.python_version()}
    for package in ("catboost", "lightgbm", "numpy", "polars", "safetensors", "torch", "xgboost"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
