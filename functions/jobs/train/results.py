"""Writes what a training found: the checkpoint with its model, and the remarks for the training's owner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from functions.jobs.fitting.base import TrainingStoppedError
from functions.jobs.modelling.score_rules import ScoreRule
from functions.jobs.train.plan import DataPlan
from shared.errors import JobFailedError
from shared.models.job import JobFile, Measurement, SeriesPoint, TrainingJob
from shared.propensity.architectures.configuration import ArchitectureConfiguration
from shared.propensity.artifacts import require_scorable
from shared.propensity.checkpoints import (
    CALIBRATED_VERSION,
    FORMAT_VERSION,
    NETWORK_VERSION,
    StoredCheckpoint,
    library_versions,
    write_checkpoint,
)
from shared.propensity.errors import CheckpointError
from shared.propensity.holdouts import Labels, RandomHoldout
from shared.propensity.log_odds import LogOddsModel

EQUAL_ROWS = "Rows that seem to be copies in every column that the model uses were held out together or not at all."
# On generated rows, these were below logistic regression where a label had 50 to 200 rows, at most a hundredth of all.
TREES_ALONE = ("lightgbm", "xgboost")
FEW_OF_A_LABEL, RARE_SHARE = 300, 0.02


@dataclass(frozen=True)
class Result:
    """A fitted model with what is known of it. ``rows`` were fitted on."""

    model: LogOddsModel
    configuration: ArchitectureConfiguration
    seed: int
    rule: ScoreRule
    measurement: Measurement
    series: list[SeriesPoint]
    notes: list[str]
    files: list[JobFile]
    rows: int


def write_result(folder: Path, job: TrainingJob, plan: DataPlan, result: Result) -> None:
    """Writes the checkpoint, and its metrics to stdout. Raises JobFailedError if predictions could not use it."""
    checkpoint = StoredCheckpoint(
        format_version=_format_version(result),
        training_id=job.training_id,
        created_at=datetime.now(UTC),
        architecture=job.architecture,
        target=job.target,
        positive_label=plan.positive,
        negative_label=plan.negative,
        threshold=result.rule.threshold,
        threshold_rule=result.rule.threshold_rule,
        calibration=result.rule.calibration,
        measurement=result.measurement,
        series=result.series,
        notes=result.notes,
        features=plan.schema,
        configuration=result.configuration.model_dump(),
        seed=result.seed,
        model_files=list(result.model.files()),
        holdout=plan.holdout,
        trained_files=result.files,
        trained_rows=result.rows,
        library_versions=library_versions(),
    )
    write_checkpoint(folder, checkpoint, result.model)
    _require_scorable(folder)
    for name, value in result.measurement.metrics.items():
        if value is not None:
            print(f"metric {name}={value:.6f} step=0", flush=True)  # noqa: T201 - SageMaker reads stdout


def _format_version(result: Result) -> int:
    """Returns the oldest version that has all parts of the checkpoint, so that older readers read what they can."""
    if result.model.networks:
        return NETWORK_VERSION
    return CALIBRATED_VERSION if result.rule.calibration else FORMAT_VERSION


def remarks(
    job: TrainingJob,
    plan: DataPlan,
    suspicious: Mapping[str, float],
    about_fit: Sequence[str],
    about_data: Sequence[str],
) -> list[str]:
    """Returns the notes about a training, the most important ones first."""
    return [
        *_warnings(suspicious, job.target),
        *([plan.reason] if plan.reason else []),
        *about_fit,
        *([EQUAL_ROWS] if isinstance(plan.holdout, RandomHoldout) and plan.holdout.columns else []),
        *about_data,
        *(f"The column '{column.name}' is not used: {column.reason}." for column in plan.schema.dropped[:100]),
    ]


def stop_note(stopped: TrainingStoppedError, folds: int) -> str:
    """Returns how far a training had come when it was stopped."""
    done = [stopped.reached] if stopped.reached else []
    if folds > 1 or not done:
        done.append(f"{len(stopped.models)} of {folds} models")
    return f"The training was stopped before its end. The checkpoint has what was fitted until then: {', '.join(done)}."


def label_notes(job: TrainingJob, plan: DataPlan, dropped_rows: int) -> list[str]:
    """Returns notes about the rows without a label, and about a label that the job did not name."""
    notes = []
    if dropped_rows:
        notes.append(f"{dropped_rows} rows without a value of '{job.target}' were not used.")
    if job.positive_label is None:
        notes.append(f"'{plan.positive}' is the positive label; set positive_label to change it.")
    return notes


def rarity_notes(architecture: str, labels: Labels) -> list[str]:
    """Returns a note if trees alone often rank worse than a sum of effects; ``low_base_rates`` measures it."""
    rarer = int(min(labels.sum(), len(labels) - labels.sum()))
    if architecture not in TREES_ALONE or rarer >= FEW_OF_A_LABEL or rarer > RARE_SHARE * len(labels):
        return []
    return [
        f"Only {rarer:,} of {len(labels):,} rows have the rarer label. With so few, trees alone often rank worse than "
        "'auto' and 'additive': train one of these, too, and compare."
    ]


def _require_scorable(folder: Path) -> None:
    try:
        require_scorable(folder)
    except CheckpointError as error:
        raise JobFailedError(
            f"Predictions could not use this checkpoint: {error}. Train fewer or smaller trees (n_estimators, "
            "max_depth, ensemble_size), or leave columns with many or long texts out."
        ) from error


def _warnings(suspicious: Mapping[str, float], target: str) -> list[str]:
    return [
        f"The column '{name}' alone predicts '{target}' almost perfectly (ROC AUC {area:.3f}). If its values are only "
        "known after the fact, the model is useless: add the column to excluded_columns and train again."
        for name, area in list(suspicious.items())[:20]
    ]
