"""Creates the due evaluations of a training, each exactly once.

The transaction that ends a training, or adds a benchmark to a succeeded training, records the due evaluations with
their ids. The workflow or the request then creates them. The reconciler creates due evaluations that remain.
"""

from collections.abc import Collection

from shared.errors import LimitReachedError, NotFoundError, ValidationFailedError
from shared.evaluations.store import Evaluations
from shared.jobs.launcher import JobLauncher
from shared.models.evaluation import DueEvaluation, Evaluation, EvaluationCreate
from shared.models.job_reference import JobKind, JobReference
from shared.models.job_status import JobStatus
from shared.models.training import Training
from shared.observability import logger


class DueEvaluations:
    def __init__(self, evaluations: Evaluations, launcher: JobLauncher) -> None:
        self._evaluations = evaluations
        self._launcher = launcher

    def create_due(self, space_id: str, training: Training, benchmark_ids: Collection[str]) -> None:
        """Creates and starts the due evaluations of these benchmarks. After the last one, it closes the training.

        Those for which the space has no place stay due. The reconciler calls this again.
        """
        jobs = self._evaluations.jobs
        due = jobs.due(training.id)
        wanted = [each for each in due if each.benchmark_id in training.benchmark_ids]
        left = [each for each in wanted if each.benchmark_id not in benchmark_ids]
        try:
            for each in wanted:
                if each not in left:
                    self._start(space_id, each)
        except LimitReachedError as error:
            logger.info("an evaluation waits for a place", extra={"training_id": training.id, "why": error.message})
            return
        if not left:
            jobs.close_when_created(training.id, due)

    def create(self, space_id: str, due: DueEvaluation) -> Evaluation:
        """Creates a due evaluation, or returns it if it exists. Raises the same errors as ``Evaluations.create``."""
        request = EvaluationCreate(benchmark_id=due.benchmark_id, checkpoint_id=due.checkpoint_id, gpu_count=0)
        return self._evaluations.create(space_id, due.created_by, request, evaluation_id=due.id)

    def _start(self, space_id: str, due: DueEvaluation) -> None:
        try:
            evaluation = self.create(space_id, due)
        except (NotFoundError, ValidationFailedError) as error:
            logger.info("a due evaluation can no longer be created", extra={"why": error.message, **due.model_dump()})
            return
        if evaluation.result.status is JobStatus.PENDING:
            self._launcher.start(JobReference(JobKind.EVALUATION, space_id, evaluation.id, evaluation.created_at))
