"""The begin and the end of a run of any kind. Between them, its engine has the tasks carried out."""

from collections.abc import Mapping, Sequence
from typing import Any

from functions.workflows.job_inputs import BASE_VOLUME_GB
from shared.errors import JobFailedError, NotFoundError
from shared.jobs.failures import count_failed_job, explain
from shared.jobs.instances import instance_types
from shared.models.job_status import JobStatus
from shared.models.run import PartResult, Run, RunEngine
from shared.resources import Resources
from shared.runs.store import Runs

SHOWN_PROBLEMS = 3
_NO_RESULT = "it ended three times without a result, within the time and memory of its machine"


def prepare_run(resources: Resources, space_id: str, runs: Runs[Any], run_id: str) -> dict[str, Any]:
    """Sets a run to ``running``, and returns what its state machine needs for the engine. Safe to repeat.

    Raises JobFailedError for a run that has ended, and if this deployment has no container for a job.
    """
    try:
        run: Run = runs.start(space_id, run_id)
    except NotFoundError:
        raise JobFailedError("The run is gone.") from None
    if run.status.is_final:
        raise JobFailedError(f"The run has {run.status} already.")
    plans, settings = resources.run_plans, resources.settings
    found: dict[str, Any] = {
        "space_id": space_id,
        f"{runs.kind}_id": run_id,
        "work_id": run.work_id,
        "engine": run.engine,
        "tasks_key": plans.tasks_key(space_id, run.work_id),
    }
    if run.engine is not RunEngine.PROCESSING:
        return found
    if settings.training_image_cpu is None:
        raise JobFailedError("This deployment has no container for it: its operator has to set TRAINING_IMAGE_CPU.")
    tasks = plans.tasks(space_id, run.work_id)
    largest = max(task.file.size_bytes for task in tasks)
    job = {
        "name": f"{runs.kind}-{run_id}".replace("_", "-"),
        "image_uri": settings.training_image_cpu,
        "instance_type": instance_types(settings, 0)[0],
        "instance_count": run.instance_count,
        # A file, and two decoded copies while one becomes the other.
        "volume_gb": BASE_VOLUME_GB + 3 * (largest >> 30),
        "tasks_uri": f"s3://{plans.bucket}/{plans.spread(space_id, run.work_id, tasks)}",
    }
    return {**found, "job": job}


def complete_parts(resources: Resources, space_id: str, runs: Runs[Any], run: Run) -> list[PartResult]:
    """Returns the results of all parts, in their order.

    Raises JobFailedError if parts are missing, or too many rows were refused.
    """
    plan = resources.run_plans.load(space_id, run.work_id)
    found = runs.finished(space_id, run.work_id)
    progress = runs.progress(space_id, run)
    if progress.rows_refused > plan.max_refused_rows:
        reasons = ", ".join(
            f"{reason} ({count:,})" for reason, count in list(progress.refused.items())[:SHOWN_PROBLEMS]
        )
        raise JobFailedError(
            f"{progress.rows_refused:,} of {run.rows:,} rows were refused, more than the share "
            f"{run.max_refused_share:g} of max_refused_share allows: {reasons}. Correct the files, or allow more."
        )
    missing = [number for number in range(run.parts) if number not in found]
    if missing:
        raise JobFailedError(_why(resources, space_id, runs, run, missing))
    return [found[number] for number in range(run.parts)]


def end_run(resources: Resources, space_id: str, runs: Runs[Any], run_id: str, values: dict[str, Any]) -> None:
    """Ends a run as ``succeeded``, and removes its parts. If this dies in between, the reconciler removes them."""
    runs.end(space_id, run_id, JobStatus.SUCCEEDED, values)
    resources.run_cleaner(runs).clean(space_id, run_id)


def fail_run(resources: Resources, event: Mapping[str, Any], runs: Runs[Any]) -> dict[str, Any]:
    """Ends a run as ``failed``, with nothing published. Its finished parts wait for a restart.

    Takes the execution's input with Step Functions' own ``error`` and ``cause``. A run that has ended stays as it is.
    """
    space_id, run_id = event["space_id"], event[f"{runs.kind}_id"]
    failure = explain(str(event.get("error") or ""), str(event.get("cause") or ""))
    count_failed_job(failure)
    try:
        run = runs.repository.get(space_id, run_id)
    except NotFoundError:
        return {"status": None}
    if not run.status.is_final:
        # Before the end, which gives the folder back. If this dies in between, the reconciler begins again.
        resources.run_publisher.withdraw(space_id, run)
        run = runs.end(space_id, run_id, failure.status, {"error": failure.error})
    return {"status": run.status}


def _why(resources: Resources, space_id: str, runs: Runs[Any], run: Run, missing: Sequence[int]) -> str:
    problems = runs.problems(space_id, run.work_id)
    tasks = resources.run_plans.tasks(space_id, run.work_id)
    places = {part.number: (task.file.label, part.first) for task in tasks for part in task.parts}
    shown = [
        f"part {number} (the file '{places[number][0]}' from row {places[number][1] + 1:,}): "
        f"{problems.get(number, _NO_RESULT)}"
        for number in missing[:SHOWN_PROBLEMS]
    ]
    more = f"; and {len(missing) - len(shown)} more" if len(missing) > len(shown) else ""
    return (
        f"{len(missing)} of {run.parts} parts failed: {'; '.join(shown)}{more}. Nothing was published. A restart "
        "(POST /{id}/restart) goes on with the parts that are finished."
    )
