"""What a job is given: the files it reads, pinned to the content they have now, and the machine it runs on."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from functions.workflows.instances import instance_types
from shared.aws.training_jobs import job_name_prefix
from shared.connectors.catalog import FileState
from shared.connectors.storage import (
    ConnectorStorage,
    FileVersion,
    MissingFileError,
    StorageError,
)
from shared.dynamodb.repository import Repository
from shared.errors import JobFailedError, NotFoundError, ValidationFailedError
from shared.models.catalog import CatalogEntry, CatalogStatus, overridden
from shared.models.connector import Connector
from shared.models.connector_training import ConnectorTraining
from shared.models.job import EvaluationJob, JobDataset, JobFile, JobProgress, TrainingJob
from shared.models.reading import TYPED_COLUMNS_LIMIT, ReadOptions
from shared.models.schema_drift import DriftPolicy
from shared.resources import Resources
from shared.settings import Settings

MAX_FILES = 10_000
# How many files are checked in the catalog before the job starts. The job itself checks all of them.
CHECKED_FILES = 100
SHOWN_COLUMNS = 30
SHOWN_FILES = 5
MAX_RUNTIME_SECONDS = 24 * 3600
# A spot job may wait for a machine as long as it may run.
MAX_WAIT_SECONDS = 2 * MAX_RUNTIME_SECONDS
BASE_VOLUME_GB = 30
MAX_VOLUME_GB = 16_384
# What AWS answers when it is worth asking again.
TRANSIENT = ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ThrottlingException", "503", "500")


class JobInputs:
    """Finds the data of jobs and lays out their papers in S3."""

    def __init__(self, resources: Resources) -> None:
        self._settings = resources.settings
        self._s3 = resources.s3
        self._connectors = Repository(resources.table, Connector, kind="connector", clock=resources.clock)
        self._storages = resources.connector_storages
        self._catalog = resources.catalog
        self._drifts = resources.schema_drifts

    def datasets(self, space_id: str, parts: Sequence[ConnectorTraining], target: str | None) -> list[JobDataset]:
        """Returns the data set of each connector's part; ``target`` is the column that all of their files must have.

        Raises JobFailedError for a connector that is deleted or refuses access, a file that is missing, empty or
        can't be read according to the catalog, and a target column that is not there.
        """
        return [self._dataset(space_id, part, part.target or target) for part in parts]

    def progress(self) -> JobProgress | None:
        """Returns the address for a job's reports, if this deployment takes reports."""
        settings = self._settings
        if settings.webhook_url is None or settings.webhook_secret_arn is None:
            return None
        return JobProgress(webhook_url=settings.webhook_url, secret_arn=settings.webhook_secret_arn)

    def lay_out(self, job: TrainingJob | EvaluationJob) -> dict[str, Any]:
        """Writes ``job.json`` and returns what the state machine needs to start the SageMaker job.

        Raises JobFailedError when this deployment has no machine or container for it.
        """
        settings = self._settings
        entity_id = job.training_id if isinstance(job, TrainingJob) else job.evaluation_id
        folder = f"spaces/{job.space_id}/{job.kind}s/{entity_id}"
        size_bytes = sum(file.size_bytes for dataset in job.datasets for file in dataset.files)
        plan = {
            "space_id": job.space_id,
            f"{job.kind}_id": entity_id,
            "job_name_prefix": job_name_prefix(job.kind, entity_id),
            "job_uri": f"s3://{settings.bucket_name}/{folder}/input/",
            "output_uri": f"s3://{settings.bucket_name}/{folder}/output/",
            "checkpoint_uri": f"s3://{settings.bucket_name}/{folder}/checkpoints/",
            "image_uri": _image(settings, job.gpu_count),
            "instance_types": instance_types(settings, job.gpu_count),
            "instance_count": 1,
            "volume_gb": min(BASE_VOLUME_GB + 3 * (size_bytes >> 30), MAX_VOLUME_GB),
            "max_runtime_seconds": MAX_RUNTIME_SECONDS,
            "max_wait_seconds": MAX_WAIT_SECONDS,
            "spot": settings.spot_training,
        }
        self._s3.put_object(
            Bucket=settings.bucket_name,
            Key=f"{folder}/input/job.json",
            Body=job.model_dump_json().encode(),
            ContentType="application/json",
        )
        return plan

    def _dataset(self, space_id: str, part: ConnectorTraining, target: str | None) -> JobDataset:
        try:
            connector = self._connectors.get(space_id, part.connector_id)
        except NotFoundError:
            raise JobFailedError(f"The connector {part.connector_id} was deleted.") from None
        try:
            storage = self._storages.open(space_id, connector)
            versions = _named(storage, connector, part.files) if part.files else _all(storage, connector)
        except StorageError as error:
            if error.aws_code in TRANSIENT:
                raise
            raise JobFailedError(f"The connector '{connector.name}' can't be read: {error.message}") from error
        except ValidationFailedError as error:  # its endpoint may not be called
            raise JobFailedError(f"The connector '{connector.name}' can't be read: {error.message}") from error
        checked = [version.file for version in versions[:CHECKED_FILES]]
        catalog = self._catalog.entries(space_id, connector.id, checked)
        options = self._options(space_id, connector, versions)
        read = {each.file: catalog[each.file] for each in versions if _is_of(catalog.get(each.file), each)}
        known = {file: entry for file, entry in read.items() if _is_current(entry, options[file])}
        _check_catalog(connector, known, target)
        if part.split and part.split.column and len(known) == len(versions):
            _check_split(connector, known, part.split.column)
        self._check_drifts(space_id, connector, versions)
        all_states = self._catalog.states(space_id, connector.id)
        states = _states_of(versions, all_states)
        date_formats = agreed_date_formats(all_states.values())
        files = [
            JobFile(
                bucket=storage.bucket,
                key=storage.key(version.file),
                etag=version.etag,
                # A listing has no versions; the scan that read this content has recorded one.
                version_id=version.version_id or states[version.file].version_id,
                size_bytes=version.size_bytes,
                name=version.file,
                format=known[version.file].format if version.file in known else None,
                scan_id=states[version.file].scan_id,
                read_options=_with_date_formats(options[version.file], states[version.file], date_formats),
            )
            for version in versions
        ]
        access = connector.job_access(self._settings.parameter_prefix)
        return JobDataset.model_validate(
            {
                "connector_id": connector.id,
                "files": files,
                "access": access,
                "identifying_columns": _identifying_columns(connector, read.values()),
                **part.job_settings(),
            }
        )

    def _check_drifts(self, space_id: str, connector: Connector, versions: Sequence[FileVersion]) -> None:
        """What a drift broke fails now and in words rather than as a model that lacks a feature, if so agreed."""
        if connector.drift_policy is not DriftPolicy.BLOCK:
            return
        broken = self._drifts.broken_files(space_id, connector.id)
        names = [each.file for each in versions if each.file in broken]
        if names:
            raise JobFailedError(
                f"The columns of {len(names)} file(s) of the connector '{connector.name}' drifted: "
                f"in '{names[0]}' {broken[names[0]]}. Upload it as it was, or acknowledge the drift "
                f"(GET /connectors/{connector.id}/drifts) to train with what is there now."
            )

    def _options(self, space_id: str, connector: Connector, versions: Sequence[FileVersion]) -> dict[str, ReadOptions]:
        """Returns the read options of each file: the connector's with its own."""
        stated = self._catalog.read_options(space_id, connector.id)
        usual = connector.options_of(None)
        return {
            each.file: connector.options_of(stated[each.file]) if each.file in stated else usual for each in versions
        }


def _named(storage: ConnectorStorage, connector: Connector, names: Sequence[str]) -> list[FileVersion]:
    versions = []
    for name in dict.fromkeys(names):
        try:
            version = storage.head(name)
        except MissingFileError:
            raise JobFailedError(
                f"The connector '{connector.name}' has no file '{name}'. "
                f"{'Scan it' if connector.postgres else 'Upload it'}, or name another."
            ) from None
        if version.size_bytes == 0:
            raise JobFailedError(f"The file '{name}' of the connector '{connector.name}' is empty.")
        versions.append(version)
    return versions


def _all(storage: ConnectorStorage, connector: Connector) -> list[FileVersion]:
    versions = []
    for version in storage.files():
        if version.size_bytes:
            versions.append(version)
        if len(versions) > MAX_FILES:
            raise JobFailedError(
                f"The connector '{connector.name}' has more than {MAX_FILES:,} files. Join them, or name some."
            )
    if not versions:
        what_next = "Scan it: that reads its tables" if connector.postgres else "Upload some"
        raise JobFailedError(f"The connector '{connector.name}' has no files with data in them. {what_next}.")
    return versions


def _states_of(versions: Sequence[FileVersion], states: Mapping[str, FileState]) -> dict[str, FileState]:
    """Returns the states of files. A file whose present content was not scanned is pending."""
    pending = FileState(CatalogStatus.PENDING)
    found = {each.file: states.get(each.file, pending) for each in versions}
    return {each.file: found[each.file] if found[each.file].etag == each.etag else pending for each in versions}


def agreed_date_formats(states: Iterable[FileState]) -> dict[str, str]:
    """Returns the format of each column with dates under which all scanned files can be read, where there is only one.

    A file that leaves the format open is then read like the others.
    """
    possible: dict[str, set[str]] = {}
    for state in states:
        if state.status == CatalogStatus.SCANNED:
            for column, formats in state.date_formats.items():
                possible[column] = possible.get(column, set(formats)) & set(formats)
    return {column: min(formats) for column, formats in possible.items() if len(formats) == 1}


def _with_date_formats(options: ReadOptions, state: FileState, agreed: Mapping[str, str]) -> ReadOptions | None:
    """Returns the options with the agreed formats of the columns that the file leaves open; ``None`` for no options."""
    own = options.date_formats or {}
    is_current = state.status == CatalogStatus.SCANNED and state.options_digest == options.digest
    found = {
        column: agreed[column]
        for column, formats in (state.date_formats if is_current and options.date_format is None else {}).items()
        if len(formats) > 1 and column in agreed and column not in own
    }
    formats = dict(islice((own | found).items(), TYPED_COLUMNS_LIMIT))
    options = options.merged(ReadOptions(date_formats=formats)) if formats else options
    return None if options.digest is None else options


def _is_of(entry: CatalogEntry | None, version: FileVersion) -> bool:
    return entry is not None and entry.etag == version.etag


def _is_current(entry: CatalogEntry, options: ReadOptions) -> bool:
    """Returns whether a scan has read the file as the job will read it."""
    return entry.status is not CatalogStatus.PENDING and entry.options_digest == options.digest


def _check_catalog(connector: Connector, known: dict[str, CatalogEntry], target: str | None) -> None:
    """What the scan found out already need not wait for the job to fail."""
    for entry in known.values():
        if entry.status is CatalogStatus.ERROR:
            raise JobFailedError(
                f"The file '{entry.file}' of the connector '{connector.name}' can't be read: {entry.error} "
                "Upload it again, or name the files to use."
            )
    scanned = [entry for entry in known.values() if entry.columns]
    if known and all(entry.rows == 0 for entry in known.values()):
        raise JobFailedError(f"The files of the connector '{connector.name}' have no rows.")
    lacking = [entry for entry in scanned if target not in {column.name for column in entry.columns}]
    if target is not None and lacking:
        names = _some([entry.file for entry in lacking], SHOWN_FILES)
        columns = _some([column.name for column in lacking[0].columns], SHOWN_COLUMNS)
        raise JobFailedError(f"The target column '{target}' is not in file(s) {names}; columns are {columns}.")


def _check_split(connector: Connector, known: dict[str, CatalogEntry], column: str) -> None:
    if all(column not in {each.name for each in entry.columns} for entry in known.values()):
        raise JobFailedError(f"The column '{column}' of the split is in no file of the connector '{connector.name}'.")


def _identifying_columns(connector: Connector, entries: Iterable[CatalogEntry]) -> list[str]:
    """Returns the columns that identify persons in any of the files."""
    columns = (overridden(column, connector.personal_data) for entry in entries for column in entry.columns)
    return sorted({column.name for column in columns if column.personal_data and column.personal_data.is_direct})


def _some(names: Sequence[str], limit: int) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _image(settings: Settings, gpu_count: int) -> str:
    image = settings.training_image_gpu if gpu_count else settings.training_image_cpu
    if image is None:
        name = "TRAINING_IMAGE_GPU" if gpu_count else "TRAINING_IMAGE_CPU"
        raise JobFailedError(f"This deployment has no container for it: its operator has to set {name}.")
    return image
