"""An emulated AWS for benchmarks, on a free port of this machine, gone when the benchmark ends."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from tests.fixtures.aws import LOGS_TABLE, TABLE, create_logs_table, create_table
from tests.fixtures.identity import AUDIENCE, ISSUER, Issuer

START_SECONDS = 60


@contextmanager
def emulated_store() -> Iterator[Issuer]:
    """A running DynamoDB with both tables, the environment pointing at it, and a sign-in service."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.TemporaryDirectory()
    environment = os.environ | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "ministack"],
        env=environment,
        cwd=folder.name,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        issuer = Issuer(Path(folder.name))
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            TABLE_NAME=TABLE,
            LOGS_TABLE_NAME=LOGS_TABLE,
            BUCKET_NAME="data",
            OIDC_ISSUER=ISSUER,
            OIDC_AUDIENCE=AUDIENCE,
            OIDC_JWKS_URL=issuer.jwks_url,
            POWERTOOLS_LOG_LEVEL="WARNING",
        )
        _wait(port, server)
        create_table(boto3.client("dynamodb"))
        create_logs_table(boto3.client("dynamodb"))
        yield issuer
    finally:
        server.terminate()
        server.wait(timeout=30)
        folder.cleanup()


def _wait(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"The emulator stopped at once with exit code {server.returncode}.")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    sys.exit(f"The emulator did not answer within {START_SECONDS} s.")


def gateway_event(
    method: str, path: str, token: str, space_id: str, query: dict[str, str] | None = None
) -> dict[str, object]:
    """What API Gateway hands to a function."""
    headers = {"Authorization": f"Bearer {token}", "X-Space-Id": space_id}
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
