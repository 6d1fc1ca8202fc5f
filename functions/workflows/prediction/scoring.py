"""A function scores the parts of one task of a prediction run."""

from typing import Any

import boto3

from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionRun
from shared.models.run import PredictionSettings, RunTask
from shared.propensity.scorers import Scorers
from shared.resources import Resources
from shared.runs.predictions import PredictionWork
from shared.runs.store import Runs
from shared.runs.tasks import TaskWorker

_scorers = Scorers()


def score_parts(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, prediction_id, work_id, task}``. Safe to repeat. Raises JobFailedError, see ``TaskWorker``."""
    space_id, run_id = event["space_id"], event["prediction_id"]
    plan = resources.run_plans.load(space_id, event["work_id"])
    settings = PredictionSettings.model_validate(plan.settings)
    runs = Runs(resources.table, PredictionRun, JobKind.PREDICTION, resources.clock)
    work = PredictionWork(_scorers.get(resources.s3, settings.artifact), settings)
    worker = TaskWorker(plan, run_id, runs, resources.run_plans, resources.s3, boto3.client)
    worker.work_on(RunTask.model_validate(event["task"]), work)
    return {}
