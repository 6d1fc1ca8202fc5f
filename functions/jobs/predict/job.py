"""Scores the parts of the tasks that one machine of a SageMaker processing job got."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from threading import Event

from shared.connectors.downloads import ClientFactory
from shared.dynamodb.table import Table
from shared.errors import JobFailedError
from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionRun
from shared.models.run import PredictionSettings, RunTask
from shared.propensity.scorers import Scorers
from shared.runs.plans import Plans
from shared.runs.predictions import PredictionWork
from shared.runs.store import Runs
from shared.runs.tasks import TaskWorker

# As often as the workflow invokes a function.
ATTEMPTS = 3


def predict(tasks: Path, environment: Mapping[str, str], stop: Event, client: ClientFactory) -> None:
    """Works on the tasks of a folder. One that fails three times leaves the others their turn: the run names its parts.

    ``environment`` has ``TABLE_NAME``, ``BUCKET_NAME``, ``SPACE_ID``, ``RUN_ID`` and ``WORK_ID``.
    """
    s3 = client("s3")
    plans = Plans(s3, environment["BUCKET_NAME"])
    plan = plans.load(environment["SPACE_ID"], environment["WORK_ID"])
    settings = PredictionSettings.model_validate(plan.settings)
    work = PredictionWork(Scorers().get(s3, settings.artifact), settings)
    runs = Runs(Table(client("dynamodb"), environment["TABLE_NAME"]), PredictionRun, JobKind.PREDICTION)
    worker = TaskWorker(plan, environment["RUN_ID"], runs, plans, s3, client, stop)
    for file in sorted(tasks.glob("*.json")):
        _work_on(worker, RunTask.model_validate_json(file.read_bytes()), work)


def _work_on(worker: TaskWorker, task: RunTask, work: PredictionWork) -> None:
    for _ in range(ATTEMPTS):
        try:
            worker.work_on(task, work)
        except JobFailedError:
            # No repetition mends it, and the worker has noted the reason.
            return
        except Exception:  # noqa: BLE001 - one task must not stop the others
            traceback.print_exc()
        else:
            return
