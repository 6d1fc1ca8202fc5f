"""Rules of evaluations: who may start one, and who may read its result."""

from contextlib import suppress

from botocore.exceptions import BotoCoreError, ClientError

from shared.connectors.file_pins import FilePins
from shared.dynamodb.repository import Idempotency
from shared.errors import NotFoundError, ValidationFailedError
from shared.evaluations.store import NO_PINS, Evaluations
from shared.jobs.launcher import JobLauncher
from shared.models.base import Page
from shared.models.evaluation import Evaluation, EvaluationCreate
from shared.models.job_reference import JobKind, JobReference
from shared.models.job_status import JobStatus
from shared.observability import logger
from shared.spaces.members import SpaceContext


class EvaluationService:
    def __init__(self, evaluations: Evaluations, launcher: JobLauncher, pins: FilePins, *, max_gpu_count: int) -> None:
        self._evaluations = evaluations
        self._launcher = launcher
        self._pins = pins
        self._max_gpu_count = max_gpu_count

    def create(self, context: SpaceContext, request: EvaluationCreate, idempotency: Idempotency | None) -> Evaluation:
        """Stores a ``pending`` evaluation with the present versions of its files, and starts its workflow.

        Returns the same evaluation if it still runs.

        When the workflow can't be started the evaluation stays ``pending`` until the reconciler starts it.
        Raises ValidationFailedError for unknown ids and too many GPUs, NotFoundError for a deleted benchmark.
        """
        if request.gpu_count > self._max_gpu_count:
            raise ValidationFailedError.of("body.gpu_count", f"at most {self._max_gpu_count} GPUs are allowed here")
        first = self._evaluations.repository.answered(context.space_id, idempotency) if idempotency else None
        evaluation = first or self._store(context, request, idempotency)
        if evaluation.result.status is JobStatus.PENDING:
            job = JobReference(JobKind.EVALUATION, context.space_id, evaluation.id, evaluation.created_at)
            try:
                self._launcher.start(job)
            except (ClientError, BotoCoreError):
                logger.exception("the workflow did not start: the reconciler will try again", extra=job.execution_input)
        return evaluation

    def _store(self, context: SpaceContext, request: EvaluationCreate, idempotency: Idempotency | None) -> Evaluation:
        space_id, pins, revision = context.space_id, NO_PINS, None
        with self._pins.of_request(space_id) as pin:
            # An unknown or deleted benchmark has no files; its evaluation is refused.
            with suppress(NotFoundError):
                benchmark = self._evaluations.benchmarks.repository.get(space_id, request.benchmark_id)
                pins, revision = pin(benchmark.connectors), benchmark.revision
            evaluation = self._evaluations.create(
                space_id, context.user_id, request, idempotency, pins=pins, pinned_revision=revision
            )
        # It may be one that runs already, with pins of its own.
        self._pins.replace(pins, evaluation.pins)
        return evaluation

    def get(self, context: SpaceContext, evaluation_id: str) -> Evaluation:
        """Raises PermissionDeniedError for all but the owner of the space and the evaluation's creator."""
        evaluation = self._evaluations.get(context.space_id, evaluation_id)
        context.require_creator(evaluation.created_by, "read the evaluation; its scores are on the leaderboards")
        return evaluation

    def report(self, context: SpaceContext, evaluation_id: str) -> str:
        """Returns the report of an evaluation as an HTML file. Raises the errors of ``get``."""
        # Other requests need nothing of it.
        from functions.evaluations.report import evaluation_report

        evaluation, store = self.get(context, evaluation_id), self._evaluations
        checkpoints = store.checkpoints.get_many(context.space_id, [evaluation.checkpoint_id])
        benchmarks = store.benchmarks.repository.get_many(context.space_id, [evaluation.benchmark_id])
        return evaluation_report(
            evaluation, checkpoints.get(evaluation.checkpoint_id), benchmarks.get(evaluation.benchmark_id)
        )

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[Evaluation]:
        """Returns all evaluations for the owner of the space, and their own ones for other members."""
        if context.is_owner:
            return self._evaluations.list_after(context.space_id, after, limit)
        return self._evaluations.list_own(context.space_id, context.user_id, after, limit)
