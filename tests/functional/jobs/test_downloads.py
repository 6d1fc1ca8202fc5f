"""A job gets its files although connections break, keys expire and versions are removed."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from shared.connectors import downloads
from shared.connectors.downloads import ATTEMPTS, Downloads
from shared.errors import JobFailedError
from shared.models.job import JobAccess, JobFile
from tests.fixtures.http_handlers import QuietHandler

CONTENT = bytes(range(256)) * 20_000
PART = 1_500_000
ETAG = hashlib.md5(CONTENT).hexdigest()  # noqa: S324 - as S3 does


class Bucket:
    """A server in place of S3 with one file. It ends the first ``breaks`` responses early."""

    def __init__(self) -> None:
        self.address = ""
        self.breaks = 0
        self.part = PART
        self.refusals: list[tuple[int, str]] = []
        self.knows_ranges = True
        self.valid_key = "first"
        self.requests: list[str] = []

    def client(self, service: str, **options: Any) -> Any:
        """Like ``boto3.client``. STS hands out the keys that are valid at the moment."""
        if service == "sts":
            return self
        options = {"aws_access_key_id": "first", "aws_secret_access_key": "secret", **options}
        config = Config(retries={"total_max_attempts": 1})
        options |= {"endpoint_url": self.address, "region_name": "eu-west-1", "config": config}
        return boto3.client(service, **options)  # type: ignore[call-overload]

    def assume_role(self, **_: Any) -> dict[str, Any]:
        key = {"AccessKeyId": self.valid_key, "SecretAccessKey": "secret", "SessionToken": "token"}
        return {"Credentials": key}


def _handler(bucket: Bucket) -> type[QuietHandler]:
    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bucket.requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
            status, code = 0, ""
            if bucket.refusals:
                status, code = bucket.refusals.pop(0)
            elif f"Credential={bucket.valid_key}/" not in self.headers["Authorization"]:
                status, code = 400, "ExpiredToken"
            elif self.headers["If-Match"] != f'"{ETAG}"':
                status, code = 412, "PreconditionFailed"
            if status:
                self.answer(status, f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode())
                return
            begin = 0
            if bucket.knows_ranges and "Range" in self.headers:
                begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            end = len(CONTENT)
            if bucket.breaks:
                bucket.breaks -= 1
                end = begin + bucket.part
            headers = {"Content-Length": str(len(CONTENT) - begin), "ETag": f'"{ETAG}"'}
            if begin:
                headers["Content-Range"] = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.answer(206 if begin else 200, CONTENT[begin:end], headers)

    return Handler


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setattr(downloads, "_pause", lambda _: None)
    bucket = Bucket()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(bucket)) as server:
        bucket.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield bucket
        server.shutdown()
        thread.join()


def download(bucket: Bucket, folder: Path, access: JobAccess | None = None, **changes: Any) -> bytes:
    values = {"bucket": "customer", "key": "a.csv", "etag": ETAG, "size_bytes": len(CONTENT), **changes}
    files = [JobFile.model_validate(values)]
    ((_, path),) = Downloads(access or JobAccess(), bucket.client).files(files, folder)
    return path.read_bytes()


@pytest.mark.row("EN-3")
def test_a_stream_that_breaks_is_continued_and_kills_no_training(bucket: Bucket, tmp_path: Path) -> None:
    bucket.breaks, bucket.part = ATTEMPTS + 2, len(CONTENT) // (ATTEMPTS + 4)
    assert download(bucket, tmp_path) == CONTENT
    begins = [int(request.partition("bytes=")[2].removesuffix("-") or 0) for request in bucket.requests]
    assert begins == sorted(set(begins)), "each request goes on where the last one ended"


@pytest.mark.row("EN-3")
def test_a_server_without_ranges_sends_a_broken_file_again(bucket: Bucket, tmp_path: Path) -> None:
    bucket.breaks, bucket.knows_ranges = 2, False
    assert download(bucket, tmp_path) == CONTENT


@pytest.mark.row("EN-3")
def test_a_bucket_that_asks_to_slow_down_is_asked_again_but_not_for_ever(bucket: Bucket, tmp_path: Path) -> None:
    bucket.refusals = [(503, "SlowDown")] * ATTEMPTS
    assert download(bucket, tmp_path) == CONTENT
    bucket.refusals = [(503, "SlowDown")] * (ATTEMPTS + 1)
    with pytest.raises(JobFailedError, match=r"cannot be read: SlowDown"):
        download(bucket, tmp_path)


def test_a_bucket_that_refuses_access_is_not_asked_again(bucket: Bucket, tmp_path: Path) -> None:
    bucket.refusals = [(403, "AccessDenied")]
    with pytest.raises(JobFailedError, match="AccessDenied"):
        download(bucket, tmp_path)
    assert len(bucket.requests) == 1


@pytest.mark.row("EN-3")
def test_keys_of_a_role_that_expire_during_a_long_download_are_renewed(bucket: Bucket, tmp_path: Path) -> None:
    role = JobAccess(role_arn="arn:aws:iam::210987654321:role/inference", external_id="of the space")
    reading = Downloads(role, bucket.client)
    bucket.valid_key = "second"
    file = JobFile(bucket="customer", key="a.csv", etag=ETAG, size_bytes=len(CONTENT))
    paths = [path for _, path in reading.files([file] * 3, tmp_path)]
    assert {path.read_bytes() for path in paths} == {CONTENT}


@pytest.mark.row("EN-3")
def test_a_role_whose_service_is_throttled_is_assumed_later(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume, failures = bucket.assume_role, iter([1, 2])

    def throttled(**values: Any) -> dict[str, Any]:
        for _ in failures:
            raise ClientError({"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, "AssumeRole")
        return assume(**values)

    monkeypatch.setattr(bucket, "assume_role", throttled)
    assert download(bucket, tmp_path, JobAccess(role_arn="arn:aws:iam::210987654321:role/inference")) == CONTENT


@pytest.mark.row("FL-10")
@pytest.mark.parametrize("refusal", [(404, "NoSuchVersion"), (403, "AccessDenied")])
def test_the_same_content_is_read_although_its_old_version_was_removed(
    bucket: Bucket, tmp_path: Path, refusal: tuple[int, str]
) -> None:
    bucket.refusals = [refusal]
    assert download(bucket, tmp_path, version_id="old") == CONTENT
    assert ["versionId" in request for request in bucket.requests] == [True, False]


def test_another_content_is_not_read_when_the_version_was_removed(bucket: Bucket, tmp_path: Path) -> None:
    bucket.refusals = [(404, "NoSuchVersion"), (412, "PreconditionFailed")]
    with pytest.raises(JobFailedError, match="has changed since the job started"):
        download(bucket, tmp_path, version_id="old")
