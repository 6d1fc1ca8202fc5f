"""The stores of runs of all kinds."""

from typing import Any

from shared.clock import Clock, utc_now
from shared.dynamodb.table import Table
from shared.models.decision_run import DecisionRun
from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionRun
from shared.runs.store import Runs


def runs_of_all_kinds(table: Table, clock: Clock = utc_now) -> dict[JobKind, Runs[Any]]:
    """Returns the store of each kind of run."""
    return {
        JobKind.PREDICTION: Runs(table, PredictionRun, JobKind.PREDICTION, clock),
        JobKind.DECISION_RUN: Runs(table, DecisionRun, JobKind.DECISION_RUN, clock),
    }
