"""Publishes the output of a run: all parts appear in the output's folder, the manifest last, or none does."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.connectors.storage import ConnectorStorage, ConnectorStorages, MissingFileError
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import JobFailedError, LimitReachedError, NotFoundError
from shared.models.connector import Connector
from shared.models.run import MANIFEST_FILE, Manifest, ManifestFile, PartResult, Run, RunOutput
from shared.runs.folders import first_in_the_way
from shared.runs.plans import Plans, part_file
from shared.runs.store import Runs
from shared.space_binding import BoundThreads
from shared.space_usage.storage import StorageUsages

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COPIES_AT_ONCE = 10
# The longest time of the function that copies.
COPYING = timedelta(minutes=15)


class Publisher:
    """Copies finished parts to the folders of runs."""

    def __init__(
        self,
        table: Table,
        s3: "S3Client",
        storages: ConnectorStorages,
        plans: Plans,
        storage_usages: StorageUsages,
    ) -> None:
        self._connectors = Repository(table, Connector, kind="connector")
        self._s3 = s3
        self._storages = storages
        self._plans = plans
        self._storage_usages = storage_usages

    def begin(self, space_id: str, runs: Runs[Any], run: Run) -> None:
        """Notes that files of the output are about to appear in its folder. Nobody stops the run from then on.

        Raises JobFailedError if the connector is gone, the folder is not empty any more, or the run has ended.
        """
        output = _output(run)
        storage = self._storage(space_id, output)
        was_begun = runs.begin_publishing(space_id, run.id)
        if not was_begun and (found := first_in_the_way(storage, output.folder)) is not None:
            runs.end_publishing(space_id, run.id)
            raise JobFailedError(
                f"The folder '{output.folder}' got the file '{found}' while the run worked, so nothing was "
                "written to it. Delete the file and restart the run."
            )

    def publish(
        self,
        space_id: str,
        runs: Runs[Any],
        run: Run,
        results: Sequence[PartResult],
        columns: Mapping[str, str],
        duplicates: int | None,
    ) -> None:
        """Copies the parts from their folders after ``begin``, then writes the manifest. Safe to repeat.

        Raises JobFailedError if the connector is gone, the storage of the space has no room, or the run has ended.
        """
        output = _output(run)
        storage = self._storage(space_id, output)
        folder = f"{output.folder}/"
        self._reserve(space_id, results)

        def copy(result: PartResult) -> None:
            source = self._plans.part_key(space_id, run.work_id, result.number, result.folder)
            self._s3.copy_object(
                Bucket=storage.bucket,
                Key=storage.key(f"{folder}{part_file(result.number)}"),
                CopySource={"Bucket": self._plans.bucket, "Key": source},
            )

        with BoundThreads(COPIES_AT_ONCE) as pool:
            list(pool.map(copy, results))
        if runs.has_ended(space_id, run.id):
            raise JobFailedError("The run has ended already.")
        manifest = Manifest(
            kind=runs.kind,
            run_id=run.id,
            columns=dict(columns),
            rows=sum(result.rows_written for result in results),
            rows_refused=sum(sum(result.refused.values()) for result in results),
            duplicates=duplicates,
            files=[
                ManifestFile(file=part_file(each.number), rows=each.rows_written, size_bytes=each.size_bytes)
                for each in results
            ],
        )
        storage.write(f"{folder}{MANIFEST_FILE}", manifest.model_dump_json().encode())

    def _reserve(self, space_id: str, results: Sequence[PartResult]) -> None:
        """Reserves the room of the output until a measurement has seen it. Raises JobFailedError."""
        try:
            self._storage_usages.reserve(space_id, sum(each.size_bytes for each in results), COPYING)
        except LimitReachedError as error:
            raise JobFailedError(f"Nothing was published. {error.message} Then restart the run.") from error

    def withdraw(self, space_id: str, run: Run) -> None:
        """Deletes what a run that fails has published, if it began to. Safe to repeat.

        The folder must be the run's still.
        """
        if not run.is_publishing:
            return
        output = _output(run)
        try:
            storage = self._storage(space_id, output)
        except JobFailedError:
            # Its files are deleted with it.
            return
        names = (MANIFEST_FILE, *map(part_file, range(run.parts)))
        with BoundThreads(COPIES_AT_ONCE) as pool:
            list(pool.map(lambda name: storage.delete(f"{output.folder}/{name}"), names))

    def withdraw_own(self, space_id: str, run: Run) -> None:
        """Does the same after the run's end, unless another run has published to the folder since."""
        output = _output(run)
        try:
            found = self._storage(space_id, output).head(f"{output.folder}/{MANIFEST_FILE}")
        except JobFailedError:
            return
        except MissingFileError:
            self.withdraw(space_id, run)
            return
        content = self._storage(space_id, output).beginning(found, found.size_bytes)
        if Manifest.model_validate_json(content).run_id == run.id:
            self.withdraw(space_id, run)

    def _storage(self, space_id: str, output: RunOutput) -> ConnectorStorage:
        try:
            connector = self._connectors.get(space_id, output.connector_id)
        except NotFoundError:
            raise JobFailedError("The connector of the output was deleted.") from None
        return self._storages.open(space_id, connector)


def _output(run: Run) -> RunOutput:
    if run.output is None:
        raise ValueError("the run has no output")
    return run.output
