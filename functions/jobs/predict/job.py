"""Scores the parts of the tasks that one machine of a SageMaker processing job got."""

from collections.abc import Mapping
from pathlib import Path
from threading import Event

from functions.jobs.run_tasks import work_on_all
from shared.connectors.downloads import ClientFactory
from shared.dynamodb.table import Table
from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionRun
from shared.models.run import PredictionSettings
from shared.propensity.scorers import Scorers
from shared.runs.plans import Plans
from shared.runs.predictions import PredictionWork
from shared.runs.store import Runs
from shared.runs.tasks import TaskWorker


def predict(tasks: Path, environment: Mapping[str, str], stop: Event, client: ClientFactory) -> None:
    """Works on the tasks of a folder, see ``work_on_all``.

    ``environment`` has ``TABLE_NAME``, ``BUCKET_NAME``, ``SPACE_ID``, ``RUN_ID`` and ``WORK_ID``.
    """
    s3 = client("s3")
    plans = Plans(s3, environment["BUCKET_NAME"])
    plan = plans.load(environment["SPACE_ID"], environment["WORK_ID"])
    settings = PredictionSettings.model_validate(plan.settings)
    work = PredictionWork(Scorers().get(s3, settings.artifact), settings)
    runs = Runs(Table(client("dynamodb"), environment["TABLE_NAME"]), PredictionRun, JobKind.PREDICTION)
    worker = TaskWorker(plan, environment["RUN_ID"], runs, plans, s3, client, stop)
    work_on_all(worker, tasks, work)
