"""An emulated AWS for benchmarks, on a free port of this machine, gone when the benchmark ends."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from tests.fixtures.aws import LOGS_TABLE, TABLE, create_logs_table, create_table
from tests.fixtures.emulator import emulated_aws
from tests.fixtures.identity import AUDIENCE, ISSUER, Issuer


@contextmanager
def emulated_store() -> Iterator[Issuer]:
    """A running DynamoDB with both tables, the environment pointing at it, and a sign-in service."""
    with emulated_aws() as aws, tempfile.TemporaryDirectory() as folder:
        issuer = Issuer(Path(folder))
        os.environ.update(
            **aws,
            TABLE_NAME=TABLE,
            LOGS_TABLE_NAME=LOGS_TABLE,
            BUCKET_NAME="data",
            OIDC_ISSUER=ISSUER,
            OIDC_AUDIENCE=AUDIENCE,
            OIDC_JWKS_URL=issuer.jwks_url,
            POWERTOOLS_LOG_LEVEL="WARNING",
        )
        create_table(boto3.client("dynamodb"))
        create_logs_table(boto3.client("dynamodb"))
        yield issuer


def gateway_event(
    method: str, path: str, token: str, space_id: str, query: dict[str, str] | None = None
) -> dict[str, object]:
    """What API Gateway hands to a function."""
    headers = {"Authorization": f"Bearer {token}", "X-Space-Id": space_id, "Content-Type": "application/json"}
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": {name: [value] for name, value in (query or {}).items()} or None,
        "requestContext": {"stage": "bench", "requestId": "bench", "identity": {"sourceIp": "127.0.0.1"}},
        "body": None,
        "isBase64Encoded": False,
    }


class LambdaContext:
    function_name = "bench"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:bench"
    aws_request_id = "bench"
