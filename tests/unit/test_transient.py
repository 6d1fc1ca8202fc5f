"""Which failures of AWS pass."""

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)

from shared.errors import ConflictError, ContendedError
from shared.transient import is_outage, is_transient


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")  # type: ignore[typeddict-item]


@pytest.mark.row("EN-3")
@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (refusal("SlowDown", 503), True),
        (refusal("503", 503), True),
        (refusal("ThrottlingException"), True),
        (refusal("AccessDenied", 403), False),
        (refusal("NoSuchBucket", 404), False),
        (refusal("ExpiredToken"), False),
        (EndpointConnectionError(endpoint_url="https://s3"), True),
        (ConnectTimeoutError(endpoint_url="https://s3"), True),
        (ReadTimeoutError(endpoint_url="https://s3"), True),
        (ResponseStreamingError(error="broken"), True),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), True),
        (SSLError(endpoint_url="https://s3", error=ValueError("certificate")), False),
        (NoCredentialsError(), False),
    ],
)
def test_a_failure_passes_if_the_same_call_may_succeed_later(error: ClientError | BotoCoreError, passes: bool) -> None:
    assert (is_transient(error), is_outage(error)) == (passes, passes)


def test_a_busy_table_is_an_outage_and_a_conflict_is_none() -> None:
    assert is_outage(ContendedError("busy"))
    assert not is_outage(ConflictError("in use"))
    assert not is_outage(KeyError("x"))
