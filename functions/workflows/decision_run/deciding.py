"""A function decides for the customers in the parts of one task of a decision run."""

from typing import Any

import boto3

from shared.decisions.runs import DecisionWork, Offers
from shared.decisions.scoring import PropensityScorer
from shared.models.decision_run import DecisionRun, DecisionSettings
from shared.models.job_reference import JobKind
from shared.models.run import RunTask
from shared.propensity.scorers import Scorers
from shared.resources import Resources
from shared.runs.store import Runs
from shared.runs.tasks import TaskWorker

_scorers = Scorers()


def decide_parts(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, decision_run_id, work_id, task}``. Safe to repeat. Raises JobFailedError for a bad file."""
    space_id, work_id = event["space_id"], event["work_id"]
    plan = resources.run_plans.load(space_id, work_id)
    offers = Offers(DecisionSettings.model_validate(plan.settings))
    scorer = PropensityScorer(offers.snapshot, resources.s3, _scorers, offers.snapshot)
    work = DecisionWork(space_id, offers, resources.insights.ledger, scorer, work_id)
    runs = Runs(resources.table, DecisionRun, JobKind.DECISION_RUN, resources.clock)
    worker = TaskWorker(plan, event["decision_run_id"], runs, resources.run_plans, resources.s3, boto3.client)
    worker.work_on(RunTask.model_validate(event["task"]), work)
    return {}
