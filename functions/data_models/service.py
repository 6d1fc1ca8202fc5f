"""Rules of data models."""

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.reference_counts import UNREFERENCED
from shared.dynamodb.repository import ConditionNotMetError, Idempotency, Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError
from shared.models.base import Deleted, Page
from shared.models.data_model import DataModel, DataModelCreate, DataModelUpdate
from shared.spaces.members import SpaceContext


class DataModelService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._data_models = Repository(table, DataModel, kind="data_model", clock=clock)
        self._clock = clock

    def create(self, context: SpaceContext, request: DataModelCreate, idempotency: Idempotency | None) -> DataModel:
        now = self._clock()
        data_model = DataModel(id=new_id(), created_at=now, updated_at=now, **request.model_dump())
        return self._data_models.create(context.space_id, data_model, idempotency=idempotency)

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[DataModel]:
        return self._data_models.list_after(context.space_id, after, limit)

    def get(self, context: SpaceContext, data_model_id: str) -> DataModel:
        return self._data_models.get(context.space_id, data_model_id)

    def update(
        self, context: SpaceContext, data_model_id: str, request: DataModelUpdate, expected_version: int | None
    ) -> DataModel:
        return self._data_models.update(
            context.space_id, data_model_id, request.changes(), expected_version=expected_version
        )

    def delete(self, context: SpaceContext, data_model_id: str, expected_version: int | None) -> Deleted:
        """Raises ConflictError while a training that has not ended uses it."""
        try:
            return self._data_models.delete(
                context.space_id, data_model_id, expected_version=expected_version, condition=UNREFERENCED
            )
        except ConditionNotMetError:
            raise ConflictError(
                "A training that has not ended uses this data model. Wait for it, or delete the training first."
            ) from None
