"""Rules of connectors."""

from collections.abc import Iterator
from typing import Any

from boto3.dynamodb.conditions import Attr

from functions.connectors.preview import preview_file
from shared.clock import Clock, new_id
from shared.connectors.postgres import PostgresDatabases
from shared.connectors.scans import ConnectorCleaner, ConnectorScans
from shared.connectors.storage import (
    DOWNLOAD_LIFETIME,
    UPLOAD_LIFETIME,
    ConnectorStorages,
    FileChangedError,
    MissingFileError,
    StorageError,
)
from shared.dynamodb.reference_counts import UNREFERENCED
from shared.dynamodb.repository import ConditionNotMetError, Idempotency, Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError, Detail, NotFoundError, PreconditionFailedError, ValidationFailedError
from shared.files.errors import UnreadableFileError
from shared.models.base import Deleted, Page
from shared.models.catalog import CatalogEntry, CatalogEntryUpdate, overridden
from shared.models.connector import (
    Connector,
    ConnectorCreate,
    ConnectorStatus,
    ConnectorUpdate,
    Download,
    DownloadRequest,
    PostgresConfig,
    PostgresUpdate,
    RoleAccess,
    S3Config,
    S3Update,
    ScanAnswer,
    ScanRequest,
    ScanScope,
    UploadRequest,
    Uploads,
)
from shared.models.job_status import JobStatus
from shared.models.preview import Preview, PreviewRequest
from shared.models.schema_drift import SchemaDrift
from shared.space_usage.storage import StorageUsages
from shared.spaces.members import SpaceContext

# A Lambda function answers at most 6 MB.
LISTING_BYTES = 5_000_000
# For each question to a customer's database; an answer is due within 29.
DATABASE_SECONDS = 7
# Who changes one of these has to know the password.
WHEREABOUTS = ("host", "port", "tls", "ca_certificate")


class ConnectorService:
    def __init__(
        self,
        table: Table,
        storages: ConnectorStorages,
        databases: PostgresDatabases,
        scans: ConnectorScans,
        cleaner: ConnectorCleaner,
        storage_usages: StorageUsages,
        clock: Clock,
    ) -> None:
        self._connectors = Repository(table, Connector, kind="connector", clock=clock)
        self._storages = storages
        self._databases = databases
        self._scans = scans
        self._cleaner = cleaner
        self._storage_usages = storage_usages
        self._clock = clock

    def create(
        self, context: SpaceContext, request: ConnectorCreate, idempotency: Idempotency | None, *, validate: bool
    ) -> Connector:
        """Stores a connector; without ``s3`` or ``postgres`` it is managed: a folder of the platform's own bucket.

        A customer's bucket or database is read once to check it. If that fails, ``validate`` makes it a
        ValidationFailedError and stores nothing; otherwise the connector is stored with the status ``error`` and the
        reason.
        """
        self._check_external_id(context, request.s3)
        access = request.s3 or request.postgres
        reason = self._try(context, access) if access else None
        if reason and validate:
            raise ValidationFailedError.of("body.s3" if request.s3 else "body.postgres", reason)
        now = self._clock()
        connector = Connector(
            id=new_id(),
            created_at=now,
            updated_at=now,
            created_by=context.user_id,
            name=request.name,
            type=request.type,
            provider="postgres" if request.postgres else "aws",
            region=request.s3.region if request.s3 else self._storages.region,
            status=ConnectorStatus.ERROR if reason else ConnectorStatus.CONNECTED,
            error=reason,
            drift_policy=request.drift_policy,
            is_managed=access is None,
            personal_data=request.personal_data,
            read_options=request.read_options,
            postgres=request.postgres.location() if request.postgres else None,
            s3=request.s3.location() if request.s3 else None,
        )
        purges = self._cleaner.purges
        if access is None or access.credentials is None:
            created = self._connectors.create(context.space_id, connector, idempotency=idempotency)
            return self._with_external_id(context, created)
        purges.write(purges.note(context.space_id, connector.id))
        connector.credentials_version = self._storages.keep_credentials(connector.id, access.credentials)
        stored = self._connectors.create(
            context.space_id, connector, idempotency=idempotency, also=[purges.done(connector.id)]
        )
        if stored.id != connector.id:  # a repeated request: the first one's connector has credentials of its own
            self._cleaner.try_to_clean(context.space_id, connector.id)
        return stored

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[Connector]:
        page = self._connectors.list_after(context.space_id, after, limit)
        page.data = [self._with_external_id(context, connector) for connector in page.data]
        return page

    def get(self, context: SpaceContext, connector_id: str) -> Connector:
        return self._with_external_id(context, self._connectors.get(context.space_id, connector_id))

    def role_access(self, context: SpaceContext) -> RoleAccess:
        """Returns what the trust policy of a role must hold before a connector can use the role."""
        account_id, external_id = self._storages.account_id, self._storages.external_id(context.space_id)
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": account_id},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        return RoleAccess(account_id=account_id, external_id=external_id, trust_policy=policy)

    def _with_external_id(self, context: SpaceContext, connector: Connector) -> Connector:
        """Sets the external id that the role must require. A stored one is never used."""
        if connector.s3 is not None:
            used = self._storages.external_id(context.space_id) if connector.s3.role_arn else None
            connector.s3.external_id = used
        return connector

    def _check_external_id(self, context: SpaceContext, access: S3Config | S3Update | None) -> None:
        """Raises ValidationFailedError for another external id than the space's."""
        if access is None or access.external_id is None:
            return
        own = self._storages.external_id(context.space_id)
        if access.external_id != own:
            raise ValidationFailedError.of(
                "body.s3.external_id",
                f"can't be chosen: leave it out, and let the role's trust policy require the sts:ExternalId {own}",
            )

    def update(
        self, context: SpaceContext, connector_id: str, request: ConnectorUpdate, expected_version: int | None
    ) -> Connector:
        """Sets the fields that are sent. New access is tried first, and replaces the old one in a single write.

        Files in another place and other read options need a scan of all files, which the same write requests. What
        reads the connector at that moment goes on with what it began with, or picks the new access up. Raises
        ValidationFailedError where the new access does not work, ConflictError when others change the connector at
        the same time or it is managed.
        """
        changed = self._update(context, connector_id, request, expected_version)
        return self._with_external_id(context, changed)

    def _update(
        self, context: SpaceContext, connector_id: str, request: ConnectorUpdate, expected_version: int | None
    ) -> Connector:
        changes = request.changes()
        access = changes.keys() & {"postgres", "s3"}
        if not access and "read_options" not in changes:
            return self._connectors.update(context.space_id, connector_id, changes, expected_version=expected_version)
        current = self._connectors.get(context.space_id, connector_id)
        if expected_version not in (None, current.version):
            raise PreconditionFailedError(
                "The entity was changed since you read it. Get it again and use its new ETag."
            )
        if "s3" in changes:
            changes |= self._new_bucket(context, current, request.s3)
        if "postgres" in changes:
            changes |= self._new_database(context, current, request.postgres)
        if access:
            changes |= {"status": ConnectorStatus.CONNECTED, "error": None}
        try:
            if self._needs_scan(context, current, current.model_copy(update=changes)):
                return self._scans.change(context.space_id, current, changes)
            unchanged = Attr("version").eq(current.version)
            return self._connectors.update(
                context.space_id, connector_id, changes, expected_version=expected_version, condition=unchanged
            )
        except ConditionNotMetError:
            raise ConflictError("Others are changing the connector at the same time. Try again.") from None
        except NotFoundError:  # deleted by another request: the new keys must be removed too
            self._cleaner.try_to_clean(context.space_id, connector_id)
            raise

    def _needs_scan(self, context: SpaceContext, current: Connector, changed: Connector) -> bool:
        if changed.place != current.place:
            return True
        if changed.read_options == current.read_options:
            return False
        return current.is_managed or bool(self._scans.catalog.states(context.space_id, current.id))

    def _new_bucket(self, context: SpaceContext, current: Connector, update: S3Update) -> dict[str, Any]:
        """Returns the fields of the connector that new access to a bucket changes, once it has been found to work."""
        if current.s3 is None:
            raise ConflictError("This connector is to no bucket of yours: there is no access to one to change.")
        self._check_external_id(context, update)
        kept = self._storages.kept_credentials(current) if update.keeps_access else {}
        config = update.applied(current.s3, kept)
        if kept and config.endpoint_url != current.s3.endpoint_url:
            raise ValidationFailedError.of(
                "body.s3.secret_access_key", "is not sent to another address than before: send both keys along"
            )
        if reason := self._try(context, config):
            raise ValidationFailedError.of("body.s3", reason)
        version = current.credentials_version
        if config.credentials and not kept:
            version = self._storages.keep_credentials(current.id, config.credentials)
        return {
            "s3": config.location(),
            "region": config.region,
            "credentials_version": None if config.role_arn else version,
        }

    def _new_database(self, context: SpaceContext, current: Connector, update: PostgresUpdate) -> dict[str, Any]:
        """Returns the fields of the connector that new access to a database changes, once it has been found to work."""
        if current.postgres is None:
            raise ConflictError("This connector is to no database: there is no access to one to change.")
        kept = {} if update.has_password else self._storages.kept_credentials(current)
        config = update.applied(current.postgres, kept)
        if kept and any(getattr(config, name) != getattr(current.postgres, name) for name in WHEREABOUTS):
            raise ValidationFailedError.of(
                "body.postgres.password", "is not sent to another server than before, or less safely: send it along"
            )
        if reason := self._try(context, config):
            raise ValidationFailedError.of("body.postgres", reason)
        version = current.credentials_version
        if not kept:
            version = self._storages.keep_credentials(current.id, config.credentials)
        return {"postgres": config.location(), "credentials_version": version}

    def delete(self, context: SpaceContext, connector_id: str, expected_version: int | None) -> Deleted:
        """Removes a connector with its access keys, its catalog and, if it is managed, its files.

        The connector disappears as a whole. Files that this request can't remove are removed later.
        Raises ConflictError while a training that has not ended reads it.
        """
        try:
            deleted = self._connectors.delete(
                context.space_id,
                connector_id,
                expected_version=expected_version,
                condition=UNREFERENCED,
                also=[self._cleaner.purges.note(context.space_id, connector_id)],
            )
        except ConditionNotMetError:
            raise ConflictError(
                "A training that has not ended reads this connector. Wait for it, or delete the training first."
            ) from None
        self._cleaner.try_to_clean(context.space_id, connector_id)
        return deleted

    def list_files(self, context: SpaceContext, connector_id: str, prefix: str, limit: int) -> tuple[list[str], bool]:
        """At most ``limit`` names that begin with ``prefix``, and whether there are more. Raises StorageError."""
        names: list[str] = []
        size = 0
        for name in self._names(context, self.get(context, connector_id), prefix):
            size += len(name.encode("utf-8", "replace")) + 4
            if len(names) == limit or size > LISTING_BYTES:
                return names, True
            names.append(name)
        return names, False

    def _names(self, context: SpaceContext, connector: Connector, prefix: str) -> Iterator[str]:
        if connector.postgres:
            with self._databases.open(connector, DATABASE_SECONDS) as database:
                yield from (table for table in database.tables() if table.startswith(prefix))
        else:
            storage = self._storages.open(context.space_id, connector)
            yield from (version.file for version in storage.files(prefix))

    def presign_uploads(self, context: SpaceContext, connector_id: str, request: UploadRequest) -> Uploads:
        """Returns forms to send files straight to S3, each for one name, within an hour.

        What is stated about the files is stored before, so that their scan uses it. Raises LimitReachedError, and
        ValidationFailedError for a name that S3 can't hold.
        """
        connector = self.get(context, connector_id)
        if not connector.is_managed:
            raise ConflictError("What this connector reads is your own: upload files there, or to a managed connector.")
        storage = self._storages.open(context.space_id, connector)
        if too_long := next((name for name in request.files if not storage.fits(name)), None):
            raise ValidationFailedError.of(
                "body.files", f"the name {too_long[:40]}… is too long: with its folder it has more than 1,024 bytes"
            )
        names = dict.fromkeys(request.files)
        self._storage_usages.reserve(context.space_id, len(names) * request.max_bytes, UPLOAD_LIFETIME)
        if request.read_options:
            self._scans.catalog.state_options(context.space_id, connector_id, request.read_options)
        expires_at = self._clock() + UPLOAD_LIFETIME
        return Uploads(uploads=[storage.presigned_upload(name, request.max_bytes, expires_at) for name in names])

    def presign_download(self, context: SpaceContext, connector_id: str, request: DownloadRequest) -> Download:
        """Returns an address for 15 minutes. Raises ConflictError for a file that is the owner's, and NotFoundError."""
        connector = self.get(context, connector_id)
        if not connector.is_managed:
            raise ConflictError("What this connector reads is your own: download files there.")
        storage = self._storages.open(context.space_id, connector)
        try:
            return storage.presigned_download(request.file, self._clock() + DOWNLOAD_LIFETIME)
        except MissingFileError:
            raise NotFoundError("There is no file of this name. GET /connectors/{id}/files lists them.") from None

    def delete_file(self, context: SpaceContext, connector_id: str, file: str) -> Deleted:
        """Deletes one uploaded file with its catalog entry and its read options.

        Raises NotFoundError, and ConflictError for a file that is the owner's or may be read by a training that has
        not ended: such a training refers to its connectors, not to single files.
        """
        connector = self.get(context, connector_id)
        if not connector.is_managed:
            raise ConflictError("What this connector reads is your own: delete files there.")
        storage = self._storages.open(context.space_id, connector)
        catalog = self._scans.catalog
        if not catalog.entries(context.space_id, connector_id, [file]):
            try:
                storage.head(file)
            except MissingFileError:
                raise _no_file(file) from None
        in_use = ConflictError(
            "A training that has not ended reads this connector. Wait for it, or delete the training first."
        )
        catalog.remove(context.space_id, connector_id, file, UNREFERENCED, in_use)
        storage.delete(file)
        return Deleted(id=file)

    def scan(self, context: SpaceContext, connector_id: str, request: ScanRequest) -> ScanAnswer:
        """Starts a scan of the named files, or of all files. During a scan, another one will follow it."""
        if request.files:
            scan = self._scans.request_files(context.space_id, connector_id, request.files)
        else:
            scan = self._scans.request(context.space_id, connector_id, ScanScope.ALL)
        status = JobStatus.PENDING if scan.status is JobStatus.PENDING else JobStatus.RUNNING
        return ScanAnswer(scan_id=scan.id, status=status)

    def catalog(self, context: SpaceContext, connector_id: str, number: int, size: int) -> Page[CatalogEntry]:
        """Returns the results of scans by file name, with the connector's statements on personal data."""
        statements = self.get(context, connector_id).personal_data
        page = self._scans.catalog.page(context.space_id, connector_id, number, size)
        for entry in page.data:
            entry.columns = [overridden(column, statements) for column in entry.columns]
        return page

    def correct(self, context: SpaceContext, connector_id: str, file: str, request: CatalogEntryUpdate) -> CatalogEntry:
        """Stores how a file is written, and starts a scan that reads it so. Raises NotFoundError."""
        statements = self.get(context, connector_id).personal_data
        if request.changes():
            self._scans.correct(context.space_id, connector_id, file, request.read_options)
        entry = self._scans.catalog.entries(context.space_id, connector_id, [file]).get(file)
        if entry is None:
            raise _no_file(file)
        entry.columns = [overridden(column, statements) for column in entry.columns]
        return entry

    def preview(self, context: SpaceContext, connector_id: str, request: PreviewRequest) -> Preview:
        """Returns the first rows of a file under the options of the connector, the file and the request.

        Raises NotFoundError, ValidationFailedError for a file that can't be read, and ConflictError.
        """
        connector = self.get(context, connector_id)
        if connector.postgres:
            raise ConflictError("This connector reads tables, which need no preview: their columns have types.")
        stated = self._scans.catalog.read_options(context.space_id, connector_id, [request.file])
        options = connector.options_of(stated.get(request.file)).merged(request.read_options)
        storage = self._storages.open(context.space_id, connector)
        try:
            return preview_file(storage, request.file, options, request.rows)
        except UnreadableFileError as error:
            raise ValidationFailedError(str(error), [Detail("body.file", str(error))]) from error
        except MissingFileError:
            raise _no_file(request.file) from None
        except FileChangedError:
            raise ConflictError("The file was changed while it was read. Try again.") from None

    def drifts(self, context: SpaceContext, connector_id: str, after: str, limit: int) -> Page[SchemaDrift]:
        """Returns the changes between versions of files and tables, newest first."""
        self.get(context, connector_id)
        return self._scans.drifts.list_after(context.space_id, connector_id, after, limit)

    def acknowledge_drift(self, context: SpaceContext, connector_id: str, drift_id: str) -> SchemaDrift:
        """Raises NotFoundError."""
        self.get(context, connector_id)
        return self._scans.drifts.acknowledge(context.space_id, connector_id, drift_id, context.user_id)

    def _try(self, context: SpaceContext, config: S3Config | PostgresConfig) -> str | None:
        """Returns the reason why the bucket or database can't be read, or ``None``."""
        try:
            if isinstance(config, PostgresConfig):
                with self._databases.open_config(config, DATABASE_SECONDS) as database:
                    database.tables()
                return None
            if config.bucket == self._storages.bucket:
                raise ValidationFailedError.of("body.s3.bucket", "is not a bucket of yours")
            self._storages.check_address(config)
            self._storages.open_config(context.space_id, config).check()
        except StorageError as error:
            return error.message
        return None


def _no_file(file: str) -> NotFoundError:
    return NotFoundError(f"The connector has no file '{file}'.")
