"""An evaluation starts: its job specification is written, with the benchmark's files as they were at the request.

Files are pinned now if the benchmark has changed since, and for evaluations that follow a training.
"""

from typing import Any

from functions.workflows.job_inputs import JobInputs
from shared.dynamodb.table import repeat_on_conflict
from shared.errors import JobFailedError, NotFoundError
from shared.evaluations.store import NO_PINS, BenchmarkChangedError, Evaluations
from shared.models.evaluation import Evaluation
from shared.models.job import EvaluationJob
from shared.models.job_status import JobStatus
from shared.observability import workflow_step
from shared.resources import Resources

_resources = Resources()


def prepare_evaluation(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Writes ``job.json``, then moves the evaluation to ``running`` at the benchmark's revision of that moment.

    Takes ``{space_id, evaluation_id}``; returns the input of the SageMaker job, the same when
    it is done again. Raises JobFailedError when the benchmark or the checkpoint is gone, and when the files can't be
    used: see ``JobInputs.datasets``.
    """
    space_id, evaluation_id = event["space_id"], event["evaluation_id"]
    evaluations, inputs = resources.evaluations, JobInputs(resources)
    evaluation = _unfinished(evaluations.repository.get(space_id, evaluation_id))
    checkpoint = evaluations.checkpoints.get_many(space_id, [evaluation.checkpoint_id]).get(evaluation.checkpoint_id)
    if checkpoint is None:
        raise JobFailedError("The checkpoint was deleted before it could be evaluated.")
    if evaluation.result.status is JobStatus.RUNNING:
        plan = inputs.lay_out(_written_job(resources, space_id, evaluation_id))
    else:

        def start() -> dict[str, Any]:
            revision, job = _new_job(evaluations, inputs, space_id, evaluation, checkpoint.target)
            plan = inputs.lay_out(job)
            _unfinished(evaluations.start(space_id, evaluation, revision))
            return plan

        plan = repeat_on_conflict(start, "The benchmark changes again and again.", (BenchmarkChangedError,))
    return {**plan, "model_uri": f"s3://{checkpoint.artifact.bucket}/{checkpoint.artifact.key}"}


def _unfinished(evaluation: Evaluation) -> Evaluation:
    if evaluation.result.status.is_final:
        raise JobFailedError(f"The evaluation has ended {evaluation.result.status} already.")
    return evaluation


def _new_job(
    evaluations: Evaluations, inputs: JobInputs, space_id: str, evaluation: Evaluation, target: str | None
) -> tuple[int, EvaluationJob]:
    try:
        benchmark = evaluations.benchmarks.repository.get(space_id, evaluation.benchmark_id)
    except NotFoundError:
        raise JobFailedError("The benchmark was deleted before the evaluation began.") from None
    pins = evaluation.pins if evaluation.pinned_revision == benchmark.revision else NO_PINS
    job = EvaluationJob(
        evaluation_id=evaluation.id,
        space_id=space_id,
        checkpoint_id=evaluation.checkpoint_id,
        benchmark_id=benchmark.id,
        gpu_count=evaluation.gpu_count,
        # A checkpoint reads its own features only, so it needs no profile of other columns.
        datasets=inputs.datasets(
            space_id, inputs.parts(space_id, benchmark.connectors, pins), target, needs_profiles=False
        ),
        metrics=benchmark.metrics,
        progress=inputs.progress(),
    )
    return benchmark.revision, job


def _written_job(resources: Resources, space_id: str, evaluation_id: str) -> EvaluationJob:
    """Returns what an earlier try wrote: the job may run by it already."""
    key = f"spaces/{space_id}/evaluations/{evaluation_id}/input/job.json"
    found = resources.s3.get_object(Bucket=resources.settings.bucket_name, Key=key)
    return EvaluationJob.model_validate_json(found["Body"].read())


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return prepare_evaluation(_resources, event)
