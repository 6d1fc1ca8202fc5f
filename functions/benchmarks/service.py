"""Rules of benchmarks: what is measured may change, and then a new revision begins."""

from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Idempotency, is_identifier
from shared.dynamodb.table import Key, Table
from shared.errors import Detail, ValidationFailedError
from shared.evaluations.benchmarks import Benchmarks
from shared.models.base import Deleted, Page
from shared.models.benchmark import Benchmark, BenchmarkCreate, BenchmarkUpdate
from shared.models.connector_training import ConnectorTraining
from shared.spaces.members import SpaceContext


class BenchmarkService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._store = Benchmarks(table, clock)
        self._benchmarks = self._store.repository
        self._table = table
        self._clock = clock

    def create(self, context: SpaceContext, request: BenchmarkCreate, idempotency: Idempotency | None) -> Benchmark:
        """Raises ValidationFailedError when a connector is not in the space."""
        self._require_connectors(context, request.connectors)
        now = self._clock()
        benchmark = Benchmark(
            id=new_id(),
            created_at=now,
            created_by=context.user_id,
            updated_at=now,
            updated_by=context.user_id,
            **{name: getattr(request, name) for name in type(request).model_fields},
        )
        return self._benchmarks.create(context.space_id, benchmark, idempotency=idempotency)

    def list_page(self, context: SpaceContext, page: int, page_size: int) -> Page[Benchmark]:
        return self._benchmarks.list_page(context.space_id, page, page_size)

    def get(self, context: SpaceContext, benchmark_id: str) -> Benchmark:
        return self._benchmarks.get(context.space_id, benchmark_id)

    def update(
        self, context: SpaceContext, benchmark_id: str, request: BenchmarkUpdate, expected_version: int | None
    ) -> Benchmark:
        """Other connectors or metrics make a new revision.

        Raises PermissionDeniedError for all but the owner of the space and the benchmark's creator, and
        ValidationFailedError when a connector is not in the space.
        """
        while True:
            current = self._editable(context, benchmark_id)
            changes = self._changes(context, current, request)
            try:
                return self._benchmarks.update(
                    context.space_id,
                    benchmark_id,
                    changes,
                    expected_version=expected_version,
                    condition=Attr("revision").eq(current.revision),
                )
            except ConditionNotMetError:  # another update made a revision: continue from it
                continue

    def delete(self, context: SpaceContext, benchmark_id: str, expected_version: int | None) -> Deleted:
        """Past results stay on the leaderboards. Raises PermissionDeniedError as ``update`` does."""
        return self._store.delete(context.space_id, self._editable(context, benchmark_id), expected_version)

    def _editable(self, context: SpaceContext, benchmark_id: str) -> Benchmark:
        benchmark = self._benchmarks.get(context.space_id, benchmark_id)
        context.require_creator(benchmark.created_by, "change the benchmark")
        return benchmark

    def _changes(self, context: SpaceContext, current: Benchmark, request: BenchmarkUpdate) -> dict[str, Any]:
        changes = request.changes()
        if "connector" in changes:
            if "connectors" in changes:
                raise ValidationFailedError.of("body.connector", "says the same as connectors: send one of them")
            changes["connectors"] = [_replaced_by(changes.pop("connector"), current.connectors)]
        if "connectors" in changes:
            self._require_connectors(context, changes["connectors"])
        connectors = changes.get("connectors", current.connectors)
        metrics = changes.get("metrics", current.metrics)
        if connectors != current.connectors or set(metrics) != set(current.metrics):
            changes["revision"] = current.revision + 1
        return changes | {"updated_by": context.user_id} if changes else {}

    def _require_connectors(self, context: SpaceContext, connectors: list[ConnectorTraining]) -> None:
        keys = {each.connector_id: Key(f"connector#{context.space_id}", each.connector_id) for each in connectors}
        found = self._table.get_many([key for connector_id, key in keys.items() if is_identifier(connector_id)])
        missing = [connector_id for connector_id, key in keys.items() if key not in found]
        if missing:
            raise ValidationFailedError(
                f"body.connectors: there is no connector {', '.join(missing)} in the space; GET /connectors lists them",
                [Detail("body.connectors", f"there is no connector {connector_id}") for connector_id in missing],
            )


def _replaced_by(connector_id: str, connectors: list[ConnectorTraining]) -> ConnectorTraining:
    """Its own entry when there is one, else the first entry's settings without the names of that one's files."""
    own = [connector for connector in connectors if connector.connector_id == connector_id]
    return own[0] if own else connectors[0].model_copy(update={"connector_id": connector_id, "files": None})
