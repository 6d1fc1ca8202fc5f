"""Removes files of trainings that have ended: what only their jobs needed, and everything of those without a model."""

from shared.dynamodb.cleanup_list import CleanupList
from shared.errors import NotFoundError
from shared.models.training import Training
from shared.resources import Resources
from shared.trainings.store import Trainings


class TrainingCleaner:
    """Cleans up after trainings that have ended or were deleted."""

    def __init__(self, resources: Resources) -> None:
        self._trainings = Trainings(resources.table, resources.clock)
        self._storages = resources.connector_storages

    @property
    def purges(self) -> CleanupList:
        return self._trainings.purges

    def clean(self, space_id: str, training_id: str) -> None:
        """Removes the saved models of an ended training, and all its files if it has no checkpoint. Safe to repeat.

        A checkpoint needs the model and the job specification, also after its training was deleted. S3 keeps old
        versions for as long as the data bucket's lifecycle says (90 days).
        """
        with self.purges.settling(training_id):
            training = self._find(space_id, training_id)
            if training is not None and not training.status.is_final:
                return  # its end notes it again
            folder = f"spaces/{space_id}/trainings/{training_id}/"
            unneeded = [f"{folder}checkpoints/"]
            if training is not None and not training.checkpoint_ids:
                unneeded = [folder, *training.pins.values()]
            for prefix in unneeded:
                self._storages.managed(prefix).delete_all()

    def _find(self, space_id: str, training_id: str) -> Training | None:
        try:
            return self._trainings.get(space_id, training_id)
        except NotFoundError:
            return self._trainings.find_deleted(space_id, training_id)
