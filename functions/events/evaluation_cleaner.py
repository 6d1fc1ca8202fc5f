"""Removes files of evaluations that have ended: what only their jobs needed, and what those without a result left."""

from shared.dynamodb.cleanup_list import CleanupList
from shared.errors import NotFoundError
from shared.evaluations.store import Evaluations
from shared.models.job_status import JobStatus
from shared.resources import Resources


class EvaluationCleaner:
    """Cleans up after evaluations that have ended."""

    def __init__(self, resources: Resources) -> None:
        self._evaluations = Evaluations(resources.table, resources.clock)
        self._storages = resources.connector_storages

    @property
    def purges(self) -> CleanupList:
        return self._evaluations.purges

    def clean(self, space_id: str, evaluation_id: str) -> None:
        """Removes the pins and the job specification of an ended evaluation. Safe to repeat.

        The result stays, because comparisons read the scores of single rows. Without a result, all files go.
        """
        with self.purges.settling(evaluation_id):
            try:
                evaluation = self._evaluations.repository.get(space_id, evaluation_id)
            except NotFoundError:
                return  # its space is being removed, with all files
            status = evaluation.result.status
            if not status.is_final:
                return  # its end notes it again
            folder = f"spaces/{space_id}/evaluations/{evaluation_id}/"
            unneeded = f"{folder}input/" if status is JobStatus.SUCCEEDED else folder
            for prefix in (unneeded, *evaluation.pins.values()):
                self._storages.managed(prefix).delete_all()
