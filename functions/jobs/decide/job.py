"""Decides for the customers in the parts of the tasks that one machine of a SageMaker processing job got."""

from collections.abc import Mapping
from pathlib import Path
from threading import Event

from functions.jobs.run_tasks import work_on_all
from shared.connectors.downloads import ClientFactory
from shared.decisions.runs import DecisionWork, Offers
from shared.decisions.scoring import PropensityScorer
from shared.dynamodb.table import Table
from shared.insights.ledger import Ledger
from shared.models.decision_run import DecisionRun, DecisionSettings
from shared.models.job_reference import JobKind
from shared.propensity.scorers import Scorers
from shared.runs.plans import Plans
from shared.runs.store import Runs
from shared.runs.tasks import TaskWorker


def decide(tasks: Path, environment: Mapping[str, str], stop: Event, client: ClientFactory) -> None:
    """Works on the tasks of a folder, see ``work_on_all``.

    ``environment`` has ``TABLE_NAME``, ``BUCKET_NAME``, ``SPACE_ID``, ``RUN_ID`` and ``WORK_ID``.
    """
    s3, table = client("s3"), Table(client("dynamodb"), environment["TABLE_NAME"])
    space_id, work_id = environment["SPACE_ID"], environment["WORK_ID"]
    plans = Plans(s3, environment["BUCKET_NAME"])
    plan = plans.load(space_id, work_id)
    offers = Offers(DecisionSettings.model_validate(plan.settings))
    propensities = PropensityScorer(offers.snapshot, s3, Scorers(), offers.snapshot)
    work = DecisionWork(space_id, offers, Ledger(table), propensities, work_id)
    runs = Runs(table, DecisionRun, JobKind.DECISION_RUN)
    worker = TaskWorker(plan, environment["RUN_ID"], runs, plans, s3, client, stop)
    work_on_all(worker, tasks, work)
