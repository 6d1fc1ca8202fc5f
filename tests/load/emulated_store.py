"""The emulated AWS of the benchmarks, and calls of functions as Lambda makes them."""

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.httpsession import URLLib3Session
from rich.progress import track

from functions.spaces.invite_mails import InviteMails
from functions.spaces.service import SpaceService
from shared.dynamodb.table import Item, Table
from shared.models.space import SpaceCreate
from shared.resources import Resources
from tests.fixtures.aws import LOGS_TABLE, TABLE, create_logs_table, create_table
from tests.fixtures.emulator import emulated_aws
from tests.fixtures.identity import AUDIENCE, ISSUER, Issuer

WRITES = ("PutItem", "TransactWriteItems", "BatchWriteItem")
Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


@contextmanager
def emulated_store() -> Iterator[Issuer]:
    """Runs DynamoDB with both tables and points the environment to it. Yields an issuer of tokens."""
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
    method: str, path: str, token: str, space_id: str, query: dict[str, str] | None = None, body: Any = None
) -> dict[str, Any]:
    """Returns the event that API Gateway sends to a function."""
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
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


class LambdaContext:
    function_name = "bench"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:bench"
    aws_request_id = "bench"


class FunctionUser:
    """A user who calls the functions of one process. The clock is stopped, so repeated requests are equal."""

    def __init__(self, issuer: Issuer, resources: Resources) -> None:
        self.resources = resources
        self.token = issuer.token("bench", expires_in=7200)
        self.principal = resources.token_verifier.verify(self.token)
        now = resources.clock()
        resources.clock = lambda: now
        mails = InviteMails(None, None, None)
        self._spaces = SpaceService(
            resources.table, resources.job_launcher, mails, resources.storage_usages, resources.clock
        )
        self.space_id = self.new_space()

    def new_space(self) -> str:
        space = SpaceCreate(name="Bench", description="")
        return self._spaces.create(self.principal, space, None).id

    def request(
        self, handler: Handler, method: str, path: str, *, space_id: str = "", body: Any = None, **query: str
    ) -> Callable[[], str]:
        """Returns a function that sends the request and returns the response's body, or ends with its error."""
        event = gateway_event(method, path, self.token, space_id or self.space_id, query or None, body)

        def send() -> str:
            response = handler(event, LambdaContext())
            text: str = response["body"]
            if response["statusCode"] not in (200, 201):
                raise SystemExit(f"{method} {path}: {text[:1000]}")
            return text

        return send


class RecordedStore:
    """A layer between a client of DynamoDB and the emulator. A repeated read gets the recorded response.

    Measured times then exclude the emulator, which sorts a whole partition for each query. DynamoDB does not do this.
    With ``records_writes`` all writes of an operation get the response of the first write.
    """

    def __init__(self, client: Any, *, records_writes: bool = False) -> None:
        self.requests = 0
        self.read_units = 0
        self._records_writes = records_writes
        without_delay: Any = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        # The emulator needs more time for large partitions than our timeout for DynamoDB allows.
        self._session = URLLib3Session(timeout=120, socket_options=without_delay)
        self._responses: dict[tuple[str, bytes], tuple[int, Any, bytes]] = {}
        client._endpoint.http_session = self

    def send(self, request: Any) -> AWSResponse:
        """Sends a request with the signature of botocore's session."""
        target = request.headers["X-Amz-Target"].decode()
        is_recorded_write = self._records_writes and target.rpartition(".")[2] in WRITES
        key = (target, b"" if is_recorded_write else bytes(request.body))
        if key not in self._responses:
            response = self._session.send(request)
            self._responses[key] = (response.status_code, response.headers, response.content)
        status, headers, content = self._responses[key]
        self.requests += 1
        self.read_units += -(-len(content) // 4096)
        return AWSResponse(request.url, status, headers, _Body(content))

    def usage(self, run: Callable[[], object]) -> tuple[int, int]:
        """Returns the read units and the requests of a call.

        The emulator returns wrong units. These units are 4 KB of the response's JSON, which is larger than the items.
        """
        units, requests = self.read_units, self.requests
        run()
        return self.read_units - units, self.requests - requests


class _Body(BytesIO):
    """A response's body with the interface of urllib3."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


def write_items(table: Table, items: Sequence[Item]) -> None:
    """Stores items in batches, without conditions."""
    batches = [items[start : start + 25] for start in range(0, len(items), 25)]
    with ThreadPoolExecutor(4) as pool:
        written = pool.map(table.put_all, batches)
        for _ in track(written, f"writing {len(items):,} items", total=len(batches), transient=True):
            pass
