"""A decision run ends: its offers fit the limits, its contacts are reserved, and its output appears as a whole."""

from typing import Any

from functions.workflows.batch_runs import complete_parts, end_run
from functions.workflows.decision_run.settling import Settling
from shared.decisions.runs import Offers
from shared.decisions.summaries import packed
from shared.dynamodb.repository import Modification
from shared.models.decision_run import DECISION_COLUMNS, DecisionRun, DecisionSettings
from shared.models.job_reference import JobKind
from shared.observability import workflow_step
from shared.resources import Resources
from shared.runs.store import Runs

_resources = Resources()


def finish_decision_run(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, decision_run_id}``. Safe to repeat.

    Raises JobFailedError if parts or offers of a minimum are missing, too many rows were refused, or the output cannot
    be written.
    """
    space_id, run_id = event["space_id"], event["decision_run_id"]
    plans = resources.run_plans
    runs = Runs(resources.table, DecisionRun, JobKind.DECISION_RUN, resources.clock)
    run = runs.repository.get(space_id, run_id)
    if run.status.is_final:
        return {}
    parts = complete_parts(resources, space_id, runs, run)
    offers = Offers(DecisionSettings.model_validate(plans.load(space_id, run.work_id).settings))
    settling = Settling(
        space_id, run, offers, resources.table, plans, resources.run_erasures, resources.s3, resources.clock
    )
    tasks = plans.tasks(space_id, run.work_id)
    summary, results, heeded = settling.settle(parts, tasks)
    if run.output is not None:
        resources.run_publisher.begin(space_id, runs, run)
        # An erasure that comes later names the run, because it has begun to publish.
        if resources.run_erasures.since(space_id, run.work_began_at) != heeded:
            summary, results, _ = settling.settle(parts, tasks)
    kept = {"summary": packed(summary)}
    run = runs.repository.modify(space_id, run_id, lambda _: Modification(kept))
    if run.output is not None:
        resources.run_publisher.publish(space_id, runs, run, results, DECISION_COLUMNS, summary.duplicates)
        settling.expose(results)
    end_run(resources, space_id, runs, run_id, {})
    return {}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return finish_decision_run(_resources, event)
