"""Connectors: places of a space's files, and the access to them."""

import re
import ssl
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.models.base import ALSO_WITH_POINT, KEEP, ColumnName, Entity, Model, Name, PartialUpdate, Timestamp
from shared.models.job_status import JobStatus
from shared.models.reading import ReadOptions
from shared.models.schema_drift import DriftPolicy

FILE_NAME_BYTES = 1024
SCAN_FILES_LIMIT = 1000
SCAN_FILES_CHARACTERS = 200_000
UPLOAD_FILES_LIMIT = 100
# S3's own limit for one POST.
UPLOAD_BYTES_LIMIT = 5 << 30
TABLES_LIMIT = 1000
STATEMENTS_LIMIT = 1000
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class ConnectorType(StrEnum):
    AWS_S3 = "aws-s3"
    POSTGRES = "postgres"


class TlsMode(StrEnum):
    """``require`` encrypts without checking the certificate; ``disable`` works only for servers on this machine."""

    VERIFY_FULL = "verify-full"
    REQUIRE = "require"
    DISABLE = "disable"


def check_certificate(text: str) -> str:
    """Returns certificates in PEM. Raises ValueError for any other text."""
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError, TypeError):  # TypeError: not ASCII
        raise ValueError("must be certificates in PEM, each between BEGIN CERTIFICATE and END CERTIFICATE") from None
    return text


class ConnectorStatus(StrEnum):
    """Whether the last attempt to reach the files succeeded."""

    CONNECTED = "connected"
    ERROR = "error"


def check_file_name(name: str) -> str:
    """Returns a file's name relative to its connector, as it may be uploaded and scanned."""
    if CONTROL_CHARACTER.search(name):
        raise ValueError("holds a control character")
    if "${filename}" in name:
        raise ValueError("holds ${filename}, which S3 would replace")
    if name.startswith("/") or name.endswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError("must be a relative path such as folder/file.csv, without empty parts, '.' or '..'")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    if size > FILE_NAME_BYTES:
        raise ValueError(f"is longer than {FILE_NAME_BYTES} bytes in UTF-8")
    return name


FileName = Annotated[str, StringConstraints(min_length=1, max_length=FILE_NAME_BYTES), AfterValidator(check_file_name)]


BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]$")]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+){1,3}-[0-9]{1,2}$")]
Prefix = Annotated[str, StringConstraints(max_length=FILE_NAME_BYTES)]
ExternalId = Annotated[
    str | None,
    StringConstraints(max_length=1224),
    Field(
        description="what the role's trust policy must require as `sts:ExternalId`; the API derives it from the space "
        "(`GET /connectors/access/aws-role`), and refuses any other one"
    ),
]
EndpointUrl = Annotated[str, StringConstraints(max_length=2048)]
AccessKeyId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{3,128}$")]
SecretAccessKey = Annotated[SecretStr, Field(min_length=1, max_length=1024)]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}$")]


class S3Location(Model):
    """A customer's bucket, without secrets."""

    bucket: BucketName
    region: Region
    prefix: Prefix = Field(default="", description="the folder that the connector reads; a final slash is added")
    role_arn: RoleArn | None = None
    external_id: ExternalId = None
    endpoint_url: EndpointUrl | None = None

    @field_validator("prefix")
    @classmethod
    def _a_folder(cls, prefix: str) -> str:
        if CONTROL_CHARACTER.search(prefix):
            raise ValueError("holds a control character")
        prefix = prefix.lstrip("/")
        return f"{prefix.rstrip('/')}/" if prefix else ""


class S3Config(S3Location):
    """A customer's bucket and the access to it: a role that trusts the platform, or a pair of access keys."""

    access_key_id: AccessKeyId | None = None
    secret_access_key: SecretAccessKey | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> "S3Config":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together: send both")
        if (self.role_arn is None) == (self.access_key_id is None):
            raise ValueError("send either role_arn (preferred) or access_key_id and secret_access_key")
        return self

    @property
    def credentials(self) -> dict[str, str] | None:
        """Returns the secrets, which are stored separately from the connector."""
        if self.access_key_id is None or self.secret_access_key is None:
            return None
        return {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key.get_secret_value()}

    def location(self) -> S3Location:
        """Returns the part that is stored: without secrets, and without the external id, which is always derived."""
        values = self.model_dump(exclude={"access_key_id", "secret_access_key", "external_id"})
        return S3Location.model_validate(values)


class S3Update(PartialUpdate):
    """Changes to a bucket and the access to it. A new role or pair of access keys replaces the previous access."""

    bucket: BucketName = KEEP
    region: Region = KEEP
    prefix: Prefix = KEEP
    role_arn: RoleArn = KEEP
    external_id: ExternalId = None
    endpoint_url: EndpointUrl | None = None
    access_key_id: AccessKeyId = KEEP
    secret_access_key: SecretAccessKey = KEEP

    @model_validator(mode="after")
    def _one_way_in(self) -> "S3Update":
        keys = self.model_fields_set & {"access_key_id", "secret_access_key"}
        if len(keys) == 1:
            raise ValueError("access_key_id and secret_access_key belong together: send both")
        if keys and "role_arn" in self.model_fields_set:
            raise ValueError("send either role_arn (preferred) or access_key_id and secret_access_key")
        return self

    @property
    def has_keys(self) -> bool:
        """Returns whether access keys are sent."""
        return "access_key_id" in self.model_fields_set

    @property
    def keeps_access(self) -> bool:
        """Returns whether neither keys nor a role are sent."""
        return not self.has_keys and "role_arn" not in self.model_fields_set

    def applied(self, current: S3Location, kept_keys: dict[str, str]) -> S3Config:
        """Returns the configuration after the changes; ``kept_keys`` are the stored access keys that stay."""
        stays = current.model_dump() | kept_keys | {"external_id": None}
        if self.has_keys:
            stays |= {"role_arn": None}
        return S3Config.model_validate({**stays, **self.changes()})


HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,253}$")]
Port = Annotated[int, Field(ge=1, le=65_535, strict=True), ALSO_WITH_POINT]
# What PostgreSQL calls an identifier.
SqlName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[^\x00]*$")]
TableNames = Annotated[list[SqlName], Field(min_length=1, max_length=TABLES_LIMIT)]
Certificate = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(check_certificate)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1024)]


class PostgresLocation(Model):
    """A schema of a customer's PostgreSQL database, without the password.

    Its tables and views take the place of files. A scan writes each of them as Parquet to the platform's bucket, where
    trainings read it.
    """

    host: HostName
    port: Port = 5432
    database: SqlName
    user: SqlName
    schema_name: SqlName = "public"
    tables: TableNames | None = Field(
        default=None, description="the tables and views to read; all that the user may read when left out"
    )
    tls: TlsMode = TlsMode.VERIFY_FULL
    ca_certificate: Certificate | None = Field(
        default=None, description="PEM of the authority that signs the server's certificate; public ones when left out"
    )


class PostgresConfig(PostgresLocation):
    password: Password

    @property
    def credentials(self) -> dict[str, str]:
        """Returns the secrets, which are stored separately from the connector."""
        return {"password": self.password.get_secret_value()}

    def location(self) -> PostgresLocation:
        """Returns the part without secrets, which is stored and returned."""
        return PostgresLocation.model_validate(self.model_dump(exclude={"password"}))


class PostgresUpdate(PartialUpdate):
    """Changes to a database and the access to it."""

    host: HostName = KEEP
    port: Port = KEEP
    database: SqlName = KEEP
    user: SqlName = KEEP
    schema_name: SqlName = KEEP
    tables: TableNames | None = None
    tls: TlsMode = KEEP
    ca_certificate: Certificate | None = None
    password: Password = KEEP

    @property
    def has_password(self) -> bool:
        return "password" in self.model_fields_set

    def applied(self, current: PostgresLocation, kept: dict[str, str]) -> PostgresConfig:
        """Returns the configuration after the changes."""
        return PostgresConfig.model_validate({**current.model_dump(), **kept, **self.changes()})


PersonalDataStatements = Annotated[
    dict[ColumnName, bool],
    Field(
        max_length=STATEMENTS_LIMIT,
        description="by column, whether it identifies persons, which overrides the scans; such columns are no features",
    ),
]


ConnectorReadOptions = Annotated[
    ReadOptions | None,
    Field(description="how the files are written; a change affects later scans and jobs, and all files are read again"),
]


class ConnectorUpdate(PartialUpdate):
    drift_policy: DriftPolicy = KEEP
    name: Name = KEEP
    personal_data: PersonalDataStatements = Field(default_factory=dict)
    postgres: PostgresUpdate = KEEP
    read_options: ConnectorReadOptions = None
    s3: S3Update = KEEP


class ConnectorCreate(Model):
    drift_policy: DriftPolicy = DriftPolicy.RECORD
    name: Name
    personal_data: PersonalDataStatements = Field(default_factory=dict)
    postgres: PostgresConfig | None = Field(default=None, description="only for the type postgres")
    read_options: ConnectorReadOptions = None
    s3: S3Config | None = Field(default=None, description="without it the connector is managed: files are uploaded")
    type: ConnectorType

    @model_validator(mode="after")
    def _of_one_type(self) -> "ConnectorCreate":
        if (self.type is ConnectorType.POSTGRES) != (self.postgres is not None):
            raise ValueError("the type postgres and the object postgres belong together: send both")
        if self.postgres is not None and self.s3 is not None:
            raise ValueError("a connector is to a bucket or to a database: send either s3 or postgres")
        return self


class Connector(Entity):
    """``error`` says why the last attempt to reach the files failed."""

    name: str
    type: ConnectorType = ConnectorType.AWS_S3
    provider: str
    region: str
    status: ConnectorStatus
    error: str | None = None
    created_by: str
    drift_policy: DriftPolicy = DriftPolicy.RECORD
    is_managed: bool = True
    personal_data: dict[str, bool] = Field(default_factory=dict)
    postgres: PostgresLocation | None = None
    read_options: ConnectorReadOptions = None
    s3: S3Location | None = None
    # Version of the parameter with the keys or the password. Running jobs can still read their earlier version.
    credentials_version: int | None = Field(default=None, exclude=True)
    # The running scan, and whether another one must follow.
    scan_id: str | None = Field(default=None, exclude=True)
    rescan_requested: bool = Field(default=False, exclude=True)

    @property
    def place(self) -> tuple[Any, ...]:
        """Returns values that change when the files or tables are in another place."""
        if self.postgres:
            found = self.postgres
            return (found.host, found.port, found.database, found.schema_name, found.tables)
        return (self.s3.bucket, self.s3.prefix, self.s3.endpoint_url) if self.s3 else ()

    def options_of(self, stated: ReadOptions | None) -> ReadOptions:
        """Returns the options to read a file with; ``stated`` are the file's own."""
        return (self.read_options or ReadOptions()).merged(stated)

    def prefix(self, space_id: str) -> str:
        """Returns the prefix of the connector's files in their bucket; a database's tables are in the data bucket."""
        if self.postgres:
            return snapshots_prefix(space_id, self.id)
        return self.s3.prefix if self.s3 else managed_prefix(space_id, self.id)

    def credentials_parameter(self, parameter_prefix: str) -> str | None:
        """Returns the SSM parameter that holds the access keys or the password, where there are any."""
        if self.postgres is None and (self.s3 is None or self.s3.role_arn):
            return None
        name = credentials_parameter(parameter_prefix, self.id)
        return name if self.credentials_version is None else f"{name}:{self.credentials_version}"


def managed_prefix(space_id: str, connector_id: str) -> str:
    """Returns the prefix of a managed connector's files in the data bucket."""
    return f"spaces/{space_id}/connectors/{connector_id}/"


def snapshots_prefix(space_id: str, connector_id: str) -> str:
    """Returns the prefix of a database's tables in the data bucket. No events are sent for it."""
    return f"spaces/{space_id}/snapshots/{connector_id}/"


def credentials_parameter(parameter_prefix: str, connector_id: str) -> str:
    """Returns the name of the SSM parameter that holds a connector's access keys or password."""
    return f"{parameter_prefix}/connectors/{connector_id}"


class UploadRequest(Model):
    files: list[FileName] = Field(min_length=1, max_length=UPLOAD_FILES_LIMIT)
    max_bytes: Annotated[int, ALSO_WITH_POINT] = Field(
        strict=True,
        default=UPLOAD_BYTES_LIMIT,
        ge=1,
        le=UPLOAD_BYTES_LIMIT,
        description="no file is larger; each form reserves this much of the space's storage while it is valid",
    )
    read_options: dict[FileName, ReadOptions] = Field(
        default_factory=dict,
        max_length=UPLOAD_FILES_LIMIT,
        description="by file, how it is written; later uploads under the name are read like that, too",
    )

    @field_validator("read_options")
    @classmethod
    def _of_the_files(cls, options: dict[str, ReadOptions], info: ValidationInfo) -> dict[str, ReadOptions]:
        unknown = sorted(options.keys() - set(info.data.get("files", options)))
        if unknown:
            raise ValueError(f"names the file '{unknown[0]}', which is not in files")
        return options


class RoleAccess(Model):
    """What a role must trust, so that the API may read a bucket for this space and for no other one."""

    account_id: str = Field(description="the AWS account of the API")
    external_id: str = Field(description="of the space; it never changes")
    trust_policy: dict[str, Any] = Field(description="the role's trust policy, ready to use")


class Upload(Model):
    """An S3 presigned POST: send ``fields``, then the content as ``file``, as multipart/form-data to ``url``."""

    file: str
    url: str
    fields: dict[str, str]
    expires_at: Timestamp


class Uploads(Model):
    uploads: list[Upload]


class DownloadRequest(Model):
    file: FileName = Field(description="a name as in the list of files, or the `file` of an export")


class Download(Model):
    """An address of one content of a file. Who has it needs no token, until it expires."""

    file: str
    url: str
    size_bytes: int
    expires_at: Timestamp


class ScanRequest(Model):
    files: list[FileName] | None = Field(
        default=None, max_length=SCAN_FILES_LIMIT, description="names as in the list of files; all files when left out"
    )

    @field_validator("files")
    @classmethod
    def _bounded(cls, files: list[str] | None) -> list[str] | None:
        if files is not None and sum(map(len, files)) > SCAN_FILES_CHARACTERS:
            raise ValueError(
                f"hold more than {SCAN_FILES_CHARACTERS:,} characters in all; scan them in several requests"
            )
        return list(dict.fromkeys(files)) if files else None


class ScanScope(StrEnum):
    """Files that a scan reads: all that changed since the last scan, or those that requests or events named."""

    ALL = "all"
    NAMED = "named"


class Scan(Entity):
    """One scan. Its counts are set at its end."""

    connector_id: str
    status: JobStatus = JobStatus.PENDING
    scope: ScanScope = ScanScope.ALL
    error: str | None = None
    total: int = 0
    scanned: int = 0
    failed: int = 0


class ScanAnswer(Model):
    """The scan that carries out the request: a new one, or the running one, which another scan will follow."""

    scan_id: str
    status: Literal[JobStatus.PENDING, JobStatus.RUNNING]
