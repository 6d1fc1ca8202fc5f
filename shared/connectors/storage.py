"""The files of one connector: a prefix of the data bucket, or a customer's bucket read with the customer's leave."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from shared.aws.clients import making_clients
from shared.errors import UpstreamError, ValidationFailedError
from shared.models.connector import Connector, Download, S3Config, Upload, credentials_parameter
from shared.models.job import JobAccess
from shared.models.run import is_manifest
from shared.network.address_guard import AddressGuard

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

    from shared.connectors.external_ids import ExternalIds

UPLOAD_LIFETIME = timedelta(hours=1)
DOWNLOAD_LIFETIME = timedelta(minutes=15)
CHUNK_BYTES = 1 << 20
# S3's limit of a key.
KEY_BYTES = 1024
# How long a process relies on its test of a role's trust policy.
TESTED_SECONDS = 900


class StorageError(UpstreamError):
    """The customer's bucket, role, keys or database refused us; ``is_transient`` if it may accept the call later."""

    is_transient: bool = False


class MissingFileError(Exception):
    """There is no file of that name."""


class FileChangedError(Exception):
    """The file has other content than it was asked for."""


@dataclass(frozen=True)
class FileVersion:
    """One content of a file; the name is relative to the connector."""

    file: str
    etag: str
    size_bytes: int
    version_id: str | None = None
    # SHA-256 of the content, where we wrote it.
    digest: str | None = None


@dataclass(frozen=True)
class Keys:
    """A pair of access keys, and the token of temporary ones."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class ConnectorStorage:
    """Files of a connector. Raises StorageError if a customer's bucket refuses, and AWS's errors for our own."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str, *, is_managed: bool) -> None:
        self._client = client
        self.bucket = bucket
        self._prefix = prefix
        self._is_managed = is_managed

    def key(self, file: str) -> str:
        """Returns the object's key in the bucket."""
        return f"{self._prefix}{file}"

    def fits(self, file: str) -> bool:
        """Returns whether S3 can hold a file of this name here."""
        return len(self.key(file).encode(errors="replace")) <= KEY_BYTES

    def files(self, prefix: str = "") -> Iterator[FileVersion]:
        """Yields the files whose names begin with ``prefix``, in the order of their UTF-8 bytes.

        Markers of folders and manifests of runs are left out, because they hold no data.
        """
        if not self.fits(prefix):
            return
        with self._translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.key(prefix))
            for page in pages:
                for found in page.get("Contents", []):
                    name = found["Key"].removeprefix(self._prefix)
                    if name and not (name.endswith("/") and found["Size"] == 0) and not is_manifest(name):
                        yield FileVersion(name, found["ETag"].strip('"'), found["Size"])

    def check(self) -> None:
        """Checks whether files can be listed."""
        with self._translated():
            self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._prefix, MaxKeys=1)

    def head(self, file: str) -> FileVersion:
        """Returns the file as it is now. Raises MissingFileError."""
        if not self.fits(file):
            raise MissingFileError(file)
        with self._translated(file):
            try:
                found = self._client.head_object(Bucket=self.bucket, Key=self.key(file))
            except ClientError as error:
                # S3 answers 403 for a missing key unless the whole bucket may be listed.
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403 and not self._lists(file):
                    raise MissingFileError(file) from error
                raise
        return FileVersion(
            file,
            found["ETag"].strip('"'),
            found["ContentLength"],
            found.get("VersionId"),
            found["Metadata"].get("sha256"),
        )

    def _lists(self, file: str) -> bool:
        listing = self._client.list_objects_v2(Bucket=self.bucket, Prefix=self.key(file), MaxKeys=1)
        return any(found["Key"] == self.key(file) for found in listing.get("Contents", []))

    def beginning(self, version: FileVersion, size: int) -> bytes:
        """Returns at most ``size`` first bytes of this content. Raises FileChangedError and MissingFileError."""
        with self._translated(version.file):
            found = self._client.get_object(
                Bucket=self.bucket,
                Key=self.key(version.file),
                IfMatch=f'"{version.etag}"',
                Range=f"bytes=0-{size - 1}",
            )
            return found["Body"].read(size)

    def download(self, version: FileVersion, target: Path) -> None:
        """Streams exactly this content. Raises FileChangedError when the file has other content, MissingFileError."""
        with self._translated(version.file):
            body = self._client.get_object(Bucket=self.bucket, Key=self.key(version.file), IfMatch=f'"{version.etag}"')[
                "Body"
            ]
            left = version.size_bytes
            with target.open("wb") as file:
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise FileChangedError(version.file)
                    file.write(chunk)

    def write(self, file: str, content: bytes) -> None:
        """Writes a file over one of the same name. Only managed connectors are written to."""
        self._client.put_object(Bucket=self.bucket, Key=self.key(file), Body=content)

    def presigned_upload(self, file: str, max_bytes: int, expires_at: Any) -> Upload:
        """Returns a POST form for this very key and at most so many bytes."""
        form = self._client.generate_presigned_post(
            Bucket=self.bucket,
            Key=self.key(file),
            Conditions=[["content-length-range", 1, max_bytes]],
            ExpiresIn=int(UPLOAD_LIFETIME.total_seconds()),
        )
        return Upload(file=file, url=form["url"], fields=form["fields"], expires_at=expires_at)

    def presigned_download(self, file: str, expires_at: datetime) -> Download:
        """Returns an address from which anyone can read this content of the file. Raises MissingFileError."""
        found = self.head(file)
        name = quote(file.rpartition("/")[2], safe="")
        wanted = {"Bucket": self.bucket, "Key": self.key(file)}
        wanted |= {"VersionId": found.version_id} if found.version_id else {}
        wanted["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{name}"
        lifetime = int(DOWNLOAD_LIFETIME.total_seconds())
        url = self._client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=lifetime)
        return Download(file=file, url=url, size_bytes=found.size_bytes, expires_at=expires_at)

    def replace(self, file: str, content: Path, digest: str, reserve: Callable[[int], None]) -> FileVersion:
        """Writes a file over one with other content; ``digest`` identifies the content.

        ``reserve`` gets the bytes before they are written, and raises an error if the space has no room for them.
        """
        with suppress(MissingFileError):
            found = self.head(file)
            if found.digest == digest:
                return found
        size = content.stat().st_size
        reserve(size)
        with content.open("rb") as body:
            written = self._client.put_object(
                Bucket=self.bucket, Key=self.key(file), Body=body, Metadata={"sha256": digest}
            )
        return FileVersion(file, written["ETag"].strip('"'), size, written.get("VersionId"), digest)

    def delete(self, file: str) -> None:
        """Deletes a file of a managed connector."""
        self._client.delete_object(Bucket=self.bucket, Key=self.key(file))

    def delete_all(self) -> None:
        """Deletes every file; S3 keeps deleted versions for as long as the bucket's lifecycle says."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._prefix)
        for page in pages:
            if keys := [{"Key": found["Key"]} for found in page.get("Contents", [])]:
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})  # type: ignore[typeddict-item]
                if answer.get("Errors"):
                    raise StorageError(f"Some files could not be deleted: {answer['Errors'][0].get('Message')}")

    @contextmanager
    def _translated(self, file: str | None = None) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = error.response.get("Error", {}).get("Code", "")
            if file is not None and code in ("NoSuchKey", "404", "NotFound"):
                raise MissingFileError(file) from error
            if file is not None and (status == 412 or code == "PreconditionFailed"):
                raise FileChangedError(file) from error
            if self._is_managed:
                raise
            raise storage_error(error, self.bucket) from error
        except BotoCoreError as error:
            if self._is_managed:
                raise
            raise storage_error(error, self.bucket) from error


class ConnectorStorages:
    """Opens the storage of a connector."""

    def __init__(
        self,
        s3: "S3Client",
        ssm: "SSMClient",
        sts: "STSClient",
        guard: AddressGuard,
        external_ids: "ExternalIds",
        *,
        bucket: str,
        parameter_prefix: str,
        tests_roles: bool = True,
    ) -> None:
        self._s3 = s3
        self._ssm = ssm
        self._sts = sts
        self._guard = guard
        self.bucket = bucket
        self._parameter_prefix = parameter_prefix
        self._external_ids = external_ids
        # Emulators of AWS check no trust policy.
        self._tests_roles = tests_roles
        # Until when the trust policy of a role needs no other test.
        self._tested: dict[str, float] = {}

    def open(self, space_id: str, connector: Connector) -> ConnectorStorage:
        """Raises StorageError when the customer's role or keys can't be used."""
        if connector.s3 is None:
            return self.managed(connector.prefix(space_id))
        found = connector.s3
        if found.role_arn:
            keys = self._assume(found.role_arn, space_id)
            self._require_tested(found.role_arn, space_id)
        else:
            try:
                keys = Keys(**self.kept_credentials(connector))
            except (ClientError, BotoCoreError) as error:
                raise storage_error(error, found.bucket) from error
        return self._foreign(found.bucket, found.prefix, found.region, found.endpoint_url, keys)

    def job_access(self, space_id: str, connector: Connector) -> JobAccess:
        """Returns the access by which a job reads the connector's files."""
        if connector.s3 is None:
            return JobAccess()
        role_arn = connector.s3.role_arn
        return JobAccess(
            region=connector.s3.region,
            endpoint_url=connector.s3.endpoint_url,
            role_arn=role_arn,
            external_id=self.external_id(space_id) if role_arn else None,
            credentials_parameter=connector.credentials_parameter(self._parameter_prefix),
        )

    def external_id(self, space_id: str) -> str:
        """Returns the external id that the roles of the space must require. No space can choose another one."""
        return self._external_ids.of(space_id)

    @property
    def account_id(self) -> str:
        """Returns the AWS account that roles must trust."""
        return self._sts.get_caller_identity()["Account"]

    @property
    def region(self) -> str:
        """Returns the region of the data bucket."""
        return self._s3.meta.region_name

    def managed(self, prefix: str) -> ConnectorStorage:
        """Returns the storage below a prefix of the data bucket."""
        return ConnectorStorage(self._s3, self.bucket, prefix, is_managed=True)

    def open_config(self, space_id: str, config: S3Config) -> ConnectorStorage:
        """Returns the storage that a request describes, before anything of it is stored."""
        if config.role_arn:
            keys = self._assume(config.role_arn, space_id)
            if self._trusts_everyone(config.role_arn):
                raise ValidationFailedError.of("body.s3.role_arn", self._too_trusting(space_id))
        else:
            secret = config.secret_access_key.get_secret_value() if config.secret_access_key else ""
            keys = Keys(config.access_key_id or "", secret)
        return self._foreign(config.bucket, config.prefix, config.region, config.endpoint_url, keys)

    def kept_credentials(self, connector: Connector) -> dict[str, str]:
        """Returns the stored credentials of a connector."""
        name = connector.credentials_parameter(self._parameter_prefix)
        if name is None:
            return {}
        found = self._ssm.get_parameter(Name=name, WithDecryption=True)
        kept: dict[str, str] = json.loads(found["Parameter"]["Value"])
        return kept

    def keep_credentials(self, connector_id: str, credentials: dict[str, str]) -> int:
        """Stores access keys or a password, encrypted and apart from the connector. Returns the parameter's version.

        Earlier versions stay readable for scans and jobs that began with them (SSM keeps a hundred), until the
        connector is deleted.
        """
        name = credentials_parameter(self._parameter_prefix, connector_id)
        stored = self._ssm.put_parameter(Name=name, Value=json.dumps(credentials), Type="SecureString", Overwrite=True)
        return stored["Version"]

    def drop_credentials(self, connector_id: str) -> None:
        """Forgets the access keys or the password, if there are any."""
        name = credentials_parameter(self._parameter_prefix, connector_id)
        try:
            self._ssm.delete_parameter(Name=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ParameterNotFound":
                raise

    def check_address(self, config: S3Config) -> None:
        """Raises ForbiddenAddressError for an endpoint that may not be called."""
        if config.endpoint_url is not None:
            self._guard.check_url(config.endpoint_url, "body.s3.endpoint_url")

    def _assume(self, role_arn: str, space_id: str) -> Keys:
        external_id = self.external_id(space_id)
        try:
            return self._keys_of(role_arn, external_id)
        except (ClientError, BotoCoreError) as error:
            code, words = _problem(error)
            raise _refusal(
                error,
                f"The role {role_arn} can't be assumed: {code} ({words}). Its trust policy must name the API's account "
                f"and require the sts:ExternalId {external_id}, which belongs to this space and can't be chosen.",
            ) from error

    def _require_tested(self, role_arn: str, space_id: str) -> None:
        """Raises StorageError for a role whose trust policy became too wide since the connector was made."""
        now = time.monotonic()
        if self._tested.get(role_arn, now) > now:
            return
        if self._trusts_everyone(role_arn):
            raise StorageError(f"The role {role_arn} {self._too_trusting(space_id)}.")
        self._tested[role_arn] = now + TESTED_SECONDS

    def _too_trusting(self, space_id: str) -> str:
        return (
            "trusts this API for every space: let its trust policy require the sts:ExternalId "
            f"{self.external_id(space_id)}"
        )

    def _keys_of(self, role_arn: str, external_id: str) -> Keys:
        found = self._sts.assume_role(
            RoleArn=role_arn, RoleSessionName="inference-connector", ExternalId=external_id, DurationSeconds=3600
        )["Credentials"]
        return Keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])

    def _trusts_everyone(self, role_arn: str) -> bool:
        """Returns whether the role takes any external id, so that every space could use it.

        Raises StorageError when AWS gives no clear answer.
        """
        if not self._tests_roles:
            return False
        try:
            self._keys_of(role_arn, self._external_ids.of_nobody())
        except (ClientError, BotoCoreError) as error:
            code, words = _problem(error)
            if code != "AccessDenied":
                raise _refusal(error, f"The role {role_arn} can't be tested: {code} ({words}). Try again.") from error
            return False
        return True

    def _foreign(
        self, bucket: str, prefix: str, region: str | None, endpoint_url: str | None, keys: Keys
    ) -> ConnectorStorage:
        import boto3
        from botocore.config import Config

        if endpoint_url is not None:
            self._guard.check_url(endpoint_url, "s3.endpoint_url")
        config = Config(
            signature_version="s3v4",
            connect_timeout=3,
            read_timeout=10,
            retries={"total_max_attempts": 2, "mode": "standard"},
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        )
        with making_clients:
            client: S3Client = boto3.client(
                "s3",
                region_name=region,
                config=config,
                endpoint_url=endpoint_url,
                aws_access_key_id=keys.access_key_id,
                aws_secret_access_key=keys.secret_access_key,
                aws_session_token=keys.session_token,
            )
        if endpoint_url is not None:
            self._guard.guard_client(client)
        return ConnectorStorage(client, bucket, prefix, is_managed=False)


def storage_error(error: ClientError | BotoCoreError, bucket: str) -> StorageError:
    """Returns the failure in AWS's own code and words."""
    code, words = _problem(error)
    return _refusal(
        error,
        f"The bucket {bucket} can't be read: {code} ({words}). "
        "Check the bucket's name, its region, and what the role or access keys allow.",
    )


def _refusal(cause: ClientError | BotoCoreError, message: str) -> StorageError:
    # Few requests need it, and every import makes a cold start longer.
    from shared.transient import is_transient

    error = StorageError(message)
    error.is_transient = is_transient(cause)
    return error


def _problem(error: ClientError | BotoCoreError) -> tuple[str, str]:
    """Returns AWS's name for an error and its words."""
    if isinstance(error, ClientError):
        problem = error.response.get("Error", {})
        code, words = problem.get("Code", "Unknown"), problem.get("Message", "")
    else:
        code, words = type(error).__name__, str(error)
    return code, words.rstrip(".")[:300]
