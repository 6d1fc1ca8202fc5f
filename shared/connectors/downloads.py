"""Downloads the pinned files of a job, however long that takes and however often a connection breaks."""

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import JobFailedError
from shared.models.job import JobAccess, JobFile
from shared.network.address_guard import AddressGuard
from shared.transient import is_transient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 1 << 20
DOWNLOADS_AT_ONCE = 8
# Without a byte in between. They take some minutes.
ATTEMPTS = 10
LONGEST_PAUSE_SECONDS = 60
# Keys of an assumed role are valid for an hour.
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
# The version was removed, or only present contents may be read. Their ETag says whether the content is the pinned one.
_NO_VERSION = ("NoSuchVersion", "AccessDenied")
ClientFactory = Callable[..., Any]


class Downloads:
    """Downloads from the bucket of one connector. Its client is made again when its keys have expired."""

    def __init__(self, access: JobAccess, client: ClientFactory) -> None:
        self._access = access
        self._make = client
        self._s3 = self._connect()
        self._lock = Lock()

    def files(self, files: Sequence[JobFile], scratch: Path) -> Iterator[tuple[JobFile, Path]]:
        """Yields the files in their order, and downloads several files at the same time.

        Raises JobFailedError for a file that has changed or can't be read.
        """
        paths = [scratch / f"{index}-{Path(file.key).name[-100:]}" for index, file in enumerate(files)]
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            for start in range(0, len(files), DOWNLOADS_AT_ONCE):
                some = slice(start, start + DOWNLOADS_AT_ONCE)
                list(pool.map(self._download, files[some], paths[some]))
                yield from zip(files[some], paths[some], strict=True)

    def _download(self, file: JobFile, path: Path) -> None:
        attempt = 0
        with path.open("wb") as target:
            while True:
                begin, s3 = target.tell(), self._s3
                try:
                    _continue(s3, file, target)
                    return
                except (ClientError, BotoCoreError) as error:
                    attempt = 1 if target.tell() > begin else attempt + 1
                    is_expired = _code(error) in _EXPIRED
                    if attempt > ATTEMPTS or not (is_expired or is_transient(error)):
                        raise _unreadable(file, error) from error
                if is_expired:
                    self._renew(s3)
                _pause(attempt)

    def _renew(self, expired: "S3Client") -> None:
        with self._lock:
            if self._s3 is expired:
                self._s3 = self._connect()

    def _connect(self, attempt: int = 1) -> "S3Client":
        try:
            return s3_client(self._access, self._make)
        except JobFailedError as error:
            cause = error.__cause__
            if attempt > ATTEMPTS or not isinstance(cause, (ClientError, BotoCoreError)) or not is_transient(cause):
                raise
        _pause(attempt)
        return self._connect(attempt + 1)


def s3_client(access: JobAccess, client: ClientFactory) -> "S3Client":
    """Returns an S3 client with the connector's credentials, or with the job's own if the connector has none.

    Raises:
        JobFailedError: the role or the stored keys cannot be used.
        ForbiddenAddressError: the endpoint of the connector is in a private network.
    """
    options: dict[str, Any] = {"region_name": access.region, "endpoint_url": access.endpoint_url}
    try:
        if access.role_arn:
            role: dict[str, Any] = {"RoleArn": access.role_arn, "RoleSessionName": "propensity-job"}
            if access.external_id:
                role["ExternalId"] = access.external_id
            credentials = client("sts").assume_role(**role)["Credentials"]
            options |= {
                "aws_access_key_id": credentials["AccessKeyId"],
                "aws_secret_access_key": credentials["SecretAccessKey"],
                "aws_session_token": credentials["SessionToken"],
            }
        elif secret := read_secret(access.credentials_parameter, access.credentials_secret_arn, client):
            keys = json.loads(secret)
            options |= {
                "aws_access_key_id": keys["access_key_id"],
                "aws_secret_access_key": keys["secret_access_key"],
            }
    except (ClientError, BotoCoreError) as error:
        hint = f" Its role must require the sts:ExternalId {access.external_id}." if access.external_id else ""
        raise JobFailedError(f"The credentials of the connector cannot be used: {reason_of(error)}.{hint}") from error
    except (ValueError, KeyError) as error:
        raise JobFailedError("The stored credentials of the connector are damaged. Enter them again.") from error
    # A customer chose the address, so it may lead into our network, and its name may change between check and call.
    guard = AddressGuard(allow_loopback=os.environ.get("ALLOW_LOOPBACK") == "true")
    if access.endpoint_url:
        guard.check_url(access.endpoint_url, "endpoint_url")
    s3: S3Client = client("s3", **{name: value for name, value in options.items() if value})
    if access.endpoint_url:
        guard.guard_client(s3)
    return s3


def read_secret(parameter: str | None, secret_arn: str | None, client: ClientFactory) -> str | None:
    """Returns the text of the secret in Parameter Store or Secrets Manager, or ``None`` without either name."""
    if parameter:
        return str(client("ssm").get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"])
    if secret_arn:
        return str(client("secretsmanager").get_secret_value(SecretId=secret_arn)["SecretString"])
    return None


def reason_of(error: ClientError | BotoCoreError) -> str:
    """Returns AWS's error code and message, or botocore's message."""
    if isinstance(error, ClientError):
        problem = error.response.get("Error", {})
        return f"{problem.get('Code', 'unknown')} ({problem.get('Message', '').rstrip('.')})"
    return str(error).rstrip(".")


def _continue(s3: "S3Client", file: JobFile, target: IO[bytes]) -> None:
    """Appends the rest of the file to the part that is there."""
    begin = target.tell()
    if begin and begin == file.size_bytes:
        return
    pinned = {"Bucket": file.bucket, "Key": file.key, "IfMatch": f'"{file.etag.strip(chr(34))}"'}
    if begin:
        pinned["Range"] = f"bytes={begin}-"
    version = {"VersionId": file.version_id} if file.version_id else {}
    try:
        found = s3.get_object(**pinned, **version)  # type: ignore[arg-type]
    except ClientError as error:
        if not version or _code(error) not in _NO_VERSION:
            raise
        found = s3.get_object(**pinned)  # type: ignore[arg-type]
    if "ContentRange" not in found:  # the server sends all of it
        target.seek(0)
        target.truncate()
    for chunk in found["Body"].iter_chunks(CHUNK_BYTES):
        target.write(chunk)


def _unreadable(file: JobFile, error: ClientError | BotoCoreError) -> JobFailedError:
    if isinstance(error, ClientError) and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412:
        return JobFailedError(
            f"The file '{file.label}' has changed since the job started. Start it again to use the new content."
        )
    return JobFailedError(f"The file '{file.label}' cannot be read: {reason_of(error)}.")


def _code(error: ClientError | BotoCoreError) -> str | None:
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(LONGEST_PAUSE_SECONDS, 2**attempt)))  # noqa: S311 - spreads retries
