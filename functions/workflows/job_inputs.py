"""What a job is given: the files it reads, in their pinned versions, and the machine it runs on."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from functions.workflows.job_files import DataPart, JobFiles, PinnedProfile
from shared.aws.training_jobs import job_name_prefix
from shared.connectors.catalog import FileState
from shared.connectors.storage import FileVersion
from shared.errors import JobFailedError
from shared.jobs.instances import instance_types
from shared.models.catalog import CatalogStatus
from shared.models.connector import Connector
from shared.models.connector_training import ConnectorTraining
from shared.models.job import EvaluationJob, JobDataset, JobFile, JobProgress, TrainingJob
from shared.models.reading import TYPED_COLUMNS_LIMIT, ReadOptions
from shared.models.schema_drift import DriftPolicy
from shared.resources import Resources
from shared.settings import Settings
from shared.space_usage.jobs import MAX_JOB_SECONDS

SHOWN_COLUMNS = 30
SHOWN_FILES = 5
# A spot job may wait for a machine as long as it may run.
MAX_WAIT_SECONDS = 2 * MAX_JOB_SECONDS
BASE_VOLUME_GB = 30
# For the files, what they are decoded to, and the encoded rows of data that do not fit into the memory.
VOLUME_PER_BYTE = 8
MAX_VOLUME_GB = 16_384


class JobInputs:
    """Finds the data of jobs and lays out their papers in S3."""

    def __init__(self, resources: Resources) -> None:
        self.files = JobFiles(resources)
        self._settings = resources.settings
        self._s3 = resources.s3
        self._drifts = resources.schema_drifts
        self._storages = resources.connector_storages

    def parts(self, space_id: str, connectors: Sequence[ConnectorTraining], pins: Mapping[str, str]) -> list[DataPart]:
        """Returns the files of each connector's part; those without pins as they are now.

        Raises JobFailedError for a connector that is deleted or refuses access, and for missing and empty files.
        """
        return [self.files.part(space_id, each, pins.get(each.connector_id)) for each in connectors]

    def datasets(
        self, space_id: str, parts: Sequence[DataPart], target: str | None, *, needs_profiles: bool
    ) -> list[JobDataset]:
        """Returns the data set of each part; ``target`` is the column that all files must have.

        Raises JobFailedError for a file that can't be read according to the catalog, and a target column that is not
        there; where profiles are needed, also for a file without one, because only a profile names the columns that
        identify persons.
        """
        return [self._dataset(space_id, part, target, needs_profiles=needs_profiles) for part in parts]

    def progress(self) -> JobProgress | None:
        """Returns the address for a job's reports, if this deployment takes reports."""
        settings = self._settings
        if settings.webhook_url is None or settings.webhook_secret_arn is None:
            return None
        return JobProgress(webhook_url=settings.webhook_url, secret_arn=settings.webhook_secret_arn)

    def lay_out(self, job: TrainingJob | EvaluationJob) -> dict[str, Any]:
        """Writes ``job.json`` and returns what the state machine needs to start the SageMaker job.

        Raises JobFailedError when this deployment has no machine or container for it, or an instance has no file.
        """
        if isinstance(job, TrainingJob):
            _require_a_file_for_each_instance(job)
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
            "instance_count": job.instance_count if isinstance(job, TrainingJob) else 1,
            "volume_gb": min(BASE_VOLUME_GB + VOLUME_PER_BYTE * (size_bytes >> 30), MAX_VOLUME_GB),
            "max_runtime_seconds": MAX_JOB_SECONDS,
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

    def _dataset(self, space_id: str, part: DataPart, target: str | None, *, needs_profiles: bool) -> JobDataset:
        connector = part.connector
        contents = self.files.contents(space_id, part)
        profiles = list(self.files.profiles(space_id, part, contents))
        current = {each.file: each for each in profiles if each.is_current}
        if needs_profiles and (unknown := [each.file for each in part.versions if each.file not in current]):
            raise JobFailedError(
                f"The file '{unknown[0]}' of the connector '{connector.name}' changed while the job was prepared. "
                "Start it again to use the new content."
            )
        _check_profiles(connector, list(current.values()), part.settings.target or target)
        if part.settings.split and part.settings.split.column and len(current) == len(part.versions):
            _check_split(connector, list(current.values()), part.settings.split.column)
        self._check_drifts(space_id, connector, [each for each in part.versions if each.file not in contents.replaced])
        date_formats = agreed_date_formats(contents.present.values())
        files = [
            JobFile(
                bucket=part.storage.bucket,
                key=part.storage.key(version.file),
                etag=version.etag,
                # A listing has no versions; the scan that read this content has recorded one.
                version_id=version.version_id or contents.pinned[version.file].version_id,
                size_bytes=version.size_bytes,
                name=version.file,
                format=current[version.file].format if version.file in current else None,
                scan_id=contents.pinned[version.file].scan_id,
                read_options=_with_date_formats(
                    part.options[version.file], contents.pinned[version.file], date_formats
                ),
            )
            for version in part.versions
        ]
        return JobDataset.model_validate(
            {
                "connector_id": connector.id,
                "files": files,
                "access": self._storages.job_access(space_id, connector),
                "identifying_columns": _identifying_columns(connector, profiles),
                **part.settings.job_settings(),
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


def _check_profiles(connector: Connector, profiles: Sequence[PinnedProfile], target: str | None) -> None:
    """What the scan found out already need not wait for the job to fail."""
    for profile in profiles:
        if profile.status is CatalogStatus.ERROR:
            raise unreadable(connector, profile.file, profile.error)
    if profiles and all(profile.rows == 0 for profile in profiles):
        raise JobFailedError(f"The files of the connector '{connector.name}' have no rows.")
    lacking = [profile for profile in profiles if profile.columns and target not in profile.columns]
    if target is not None and lacking:
        names = _some([profile.file for profile in lacking], SHOWN_FILES)
        columns = _some(lacking[0].columns, SHOWN_COLUMNS)
        raise JobFailedError(f"The target column '{target}' is not in file(s) {names}; columns are {columns}.")


def unreadable(connector: Connector, file: str, error: str | None) -> JobFailedError:
    """Returns the error for a file whose scan failed."""
    return JobFailedError(
        f"The file '{file}' of the connector '{connector.name}' can't be read: {error} "
        "Upload it again, or name the files to use."
    )


def _check_split(connector: Connector, profiles: Sequence[PinnedProfile], column: str) -> None:
    if all(column not in profile.columns for profile in profiles):
        raise JobFailedError(f"The column '{column}' of the split is in no file of the connector '{connector.name}'.")


def _identifying_columns(connector: Connector, profiles: Sequence[PinnedProfile]) -> list[str]:
    """Returns the columns that identify persons in any of the files, by a scan or by the connector's owner."""
    stated = {column for column, is_personal in connector.personal_data.items() if is_personal}
    return sorted(stated.union(*(profile.identifying for profile in profiles)))


def _some(names: Sequence[str], limit: int) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _require_a_file_for_each_instance(job: TrainingJob) -> None:
    files = sum(len(dataset.files) for dataset in job.datasets)
    if files < job.instance_count:
        raise JobFailedError(
            f"{job.instance_count} instances share the files of a training, and there are only {files}. Set "
            f"instance_count to at most {files}, or split the data into more files of about the same size."
        )


def _image(settings: Settings, gpu_count: int) -> str:
    image = settings.training_image_gpu if gpu_count else settings.training_image_cpu
    if image is None:
        name = "TRAINING_IMAGE_GPU" if gpu_count else "TRAINING_IMAGE_CPU"
        raise JobFailedError(f"This deployment has no container for it: its operator has to set {name}.")
    return image
