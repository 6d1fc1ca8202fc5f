"""Fixtures of an emulated AWS with DynamoDB streams."""

import urllib.request
from collections.abc import Iterator

import boto3
import pytest

from tests.fixtures.audit import Stream, watch_table
from tests.fixtures.aws import BUCKET, create_logs_table, create_table
from tests.fixtures.emulator import emulated_aws


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    """Yields the address of an emulator with streams. Unlike moto, the emulator copies no tables in a transaction."""
    with emulated_aws() as environment, pytest.MonkeyPatch.context() as patches:
        for variable, value in environment.items():
            patches.setenv(variable, value)
        patches.setattr(boto3, "DEFAULT_SESSION", boto3.Session())
        yield environment["AWS_ENDPOINT_URL"]


@pytest.fixture
def aws(emulator: str) -> Iterator[None]:
    create_table(boto3.client("dynamodb"))
    watch_table()
    create_logs_table(boto3.client("dynamodb"))
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield
    reset = urllib.request.Request(f"{emulator}/_ministack/reset", method="POST")  # noqa: S310 - our own emulator
    urllib.request.urlopen(reset).close()  # noqa: S310


@pytest.fixture
def stream(aws: None) -> Stream:
    return Stream()
