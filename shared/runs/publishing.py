"""Publishes the output of a run: all parts appear in the output's folder, the manifest last, or none does."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.connectors.storage import ConnectorStorage, ConnectorStorages
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import JobFailedError, NotFoundError
from shared.models.connector import Connector
from shared.models.run import MANIFEST_FILE, Manifest, ManifestFile, PartResult, Run, RunOutput
from shared.runs.plans import PARTS, Plans, part_file
from shared.runs.store import Runs
from shared.space_binding import BoundThreads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COPIES_AT_ONCE = 10


class Publisher:
    """Copies finished parts to the folders of runs."""

    def __init__(self, table: Table, s3: "S3Client", storages: ConnectorStorages, plans: Plans) -> None:
        self._connectors = Repository(table, Connector, kind="connector")
        self._s3 = s3
        self._storages = storages
        self._plans = plans

    def publish(
        self,
        space_id: str,
        runs: Runs[Any],
        run: Run,
        results: Sequence[PartResult],
        columns: Mapping[str, str],
        stage: str = PARTS,
    ) -> None:
        """Copies the parts of a stage, then writes the manifest. Safe to repeat.

        Raises JobFailedError if the connector is gone, the folder is not empty any more, or the run has ended.
        """
        output = _output(run)
        storage = self._storage(space_id, output)
        folder = f"{output.folder}/"
        was_begun = runs.begin_publishing(space_id, run.id)
        if not was_begun and (found := next(storage.files(folder), None)) is not None:
            runs.end_publishing(space_id, run.id)
            raise JobFailedError(
                f"The folder '{output.folder}' got the file '{found.file}' while the run worked, so nothing was "
                "written to it. Delete the file and restart the run."
            )

        def copy(result: PartResult) -> None:
            source = self._plans.part_key(space_id, run.work_id, result.number, stage)
            self._s3.copy_object(
                Bucket=storage.bucket,
                Key=storage.key(f"{folder}{part_file(result.number)}"),
                CopySource={"Bucket": self._plans.bucket, "Key": source},
            )

        with BoundThreads(COPIES_AT_ONCE) as pool:
            list(pool.map(copy, results))
        manifest = Manifest(
            kind=runs.kind,
            run_id=run.id,
            columns=dict(columns),
            rows=sum(result.rows_written for result in results),
            rows_refused=sum(sum(result.refused.values()) for result in results),
            files=[
                ManifestFile(file=part_file(each.number), rows=each.rows_written, size_bytes=each.size_bytes)
                for each in results
            ],
        )
        storage.write(f"{folder}{MANIFEST_FILE}", manifest.model_dump_json().encode())

    def withdraw(self, space_id: str, run: Run) -> None:
        """Deletes what a run that fails has published, if it began to. Safe to repeat."""
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
