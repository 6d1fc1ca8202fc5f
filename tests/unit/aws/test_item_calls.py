"""The short way of calls on items does what botocore's own way does: requests, responses, errors and retries."""

import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, SSLError

from shared.aws.item_calls import shorten_item_calls
from tests.fixtures.certificates import HOST, write_certificate

ITEM = {"PK": {"S": "chat#1 é 😀"}, "n": {"N": "1.5"}, "l": {"L": [{"BOOL": True}, {"NULL": True}, {"M": {}}]}}
CANCELLED = {
    "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
    "Message": "cancelled",
    "CancellationReasons": [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Item": ITEM}],
}
HANG_UP, SILENCE = "hang up", "silence"
Answer = tuple[int, Any] | str


class Server(socketserver.ThreadingTCPServer):
    """A server that gives each request the next answer of ``script``, and notes requests and connections."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, script: list[Answer], tls: ssl.SSLContext | None = None) -> None:
        super().__init__((HOST, 0), _Handler)
        self.script = script
        self.tls = tls
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.connections = 0
        self.keeps_open = True
        self.stopping = threading.Event()
        self.ended = threading.Event()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.ended.set()

    @property
    def place(self) -> str:
        return f"{HOST}:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def setup(self) -> None:
        self.server.connections += 1
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        while first := self.rfile.readline().decode():
            lines = iter(lambda: self.rfile.readline().decode().strip(), "")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = self.rfile.read(int(headers["content-length"]))
            self.server.requests.append((first.strip(), headers, json.loads(body)))
            answer = self.server.script.pop(0) if self.server.script else (200, {})
            if isinstance(answer, str):
                self.server.stopping.wait(5 if answer == SILENCE else 0)
                return
            self._write(*answer)
            if not self.server.keeps_open:
                return

    def _write(self, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nx-amzn-RequestId: R1\r\nContent-Length: {len(content)}\r\n\r\n"
        self.wfile.write(head.encode() + content)


@contextmanager
def served(script: list[Answer], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server(list(script), tls) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.stopping.set()
        server.shutdown()


@cache
def aws_session() -> Any:
    return boto3.Session("key", "secret", "token", "eu-central-1")


def client_of(url: str, *, is_short: bool) -> Any:
    retries: Any = {"mode": "standard", "total_max_attempts": 3}
    config = Config(connect_timeout=1, read_timeout=0.3, retries=retries, parameter_validation=False)
    client: Any = aws_session().client("dynamodb", endpoint_url=url, config=config)
    if is_short:
        shorten_item_calls(client)
    return client


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns the pauses before retries, which are not waited for."""
    found: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", found.append)
    return found


def transact(client: Any) -> Any:
    put = {"Put": {"TableName": "t", "Item": ITEM, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}}
    return client.transact_write_items(TransactItems=[put], ClientRequestToken="T1")


def outcome(call: Callable[[Any], Any], client: Any, server: Server) -> dict[str, Any]:
    """Returns what a caller and the server see of a call."""
    try:
        result: Any = call(client)
    except ClientError as error:
        result = type(error).__name__, str(error), error.response
    except BotoCoreError as error:
        result = type(error).__name__
    port = server.place.rpartition(":")[2]
    requests = [
        (first, {name: headers[name] for name in ("content-type", "x-amz-target", "host")}, body)
        for first, headers, body in server.requests
    ]
    return json.loads(json.dumps({"result": result, "requests": requests}).replace(port, "PORT"))  # type: ignore[no-any-return]


def both(call: Callable[[Any], Any], script: list[Answer]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the outcomes of a call on botocore's way and on the short one."""
    found = []
    for is_short in (False, True):
        with served(script) as server:
            found.append(outcome(call, client_of(f"http://{server.place}", is_short=is_short), server))
    return found[0], found[1]


SCRIPTS: dict[str, list[Answer]] = {
    "success": [(200, {})],
    "a refused transaction": [(400, CANCELLED)],
    "a wrong request": [(400, {"__type": "x#ValidationException", "message": "no"})],
    "an error without a type": [(400, {})],
    "a failure that passes": [(500, {"__type": "x#InternalServerError", "message": "no"}), (200, {})],
    "a throttled call": [(400, {"__type": "x#ThrottlingException", "message": "slow"}), (200, {})],
    "a failure that stays": [(503, b"<html>")] * 4,
    "a lost response": [HANG_UP, (200, {})],
    "no response": [SILENCE, (200, {})],
    "lost responses": [HANG_UP] * 4,
    "a response that is no JSON": [(200, b"{")],
    "an empty response": [(200, b"")],
}
CALLS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "get": (lambda client: client.get_item(TableName="t", Key=ITEM, ConsistentRead=True), {"Item": ITEM}),
    "nothing": (lambda client: client.get_item(TableName="t", Key=ITEM), {"Item": None}),
    "query": (
        lambda client: client.query(TableName="t", KeyConditionExpression="#k = :v", Limit=5),
        {"Items": [ITEM, ITEM], "Count": 2, "ScannedCount": 2, "LastEvaluatedKey": ITEM},
    ),
    "batch": (
        lambda client: client.batch_get_item(RequestItems={"t": {"Keys": [ITEM]}}),
        {"Responses": {"t": [ITEM]}, "UnprocessedKeys": {}},
    ),
    "update": (lambda client: client.update_item(TableName="t", Key=ITEM), {"Attributes": ITEM}),
    "table": (
        lambda client: str(client.describe_table(TableName="t")["Table"]["CreationDateTime"]),
        {"Table": {"CreationDateTime": 1.5}},
    ),
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_retries_and_errors_are_those_of_botocore(script: list[Answer]) -> None:
    plain, short = both(transact, script)
    assert short == plain


@pytest.mark.parametrize(("call", "answer"), CALLS.values(), ids=CALLS)
def test_requests_and_responses_are_those_of_botocore(call: Callable[[Any], Any], answer: Any) -> None:
    plain, short = both(call, [(200, answer)])
    assert short == plain


@pytest.mark.parametrize("is_short", [False, True])
def test_a_server_that_is_gone_is_asked_again(*, is_short: bool, pauses: list[float]) -> None:
    with served([]) as server:
        url = f"http://{server.place}"
    with pytest.raises(BotoCoreError) as error:
        transact(client_of(url, is_short=is_short))
    assert (type(error.value).__name__, len(pauses)) == ("EndpointConnectionError", 2)


def test_requests_are_signed_with_all_that_is_sent() -> None:
    with served([(200, {})]) as server:
        transact(client_of(f"http://{server.place}", is_short=True))
    [(_, headers, _)] = server.requests
    assert headers["host"] == server.place
    assert headers["x-amz-security-token"] == "token"
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    assert {"content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"} <= set(signed.split(";"))


def test_calls_share_a_connection_until_the_server_ends_it(pauses: list[float]) -> None:
    with served([]) as server:
        client = client_of(f"http://{server.place}", is_short=True)
        for _ in range(3):
            transact(client)
        assert server.connections == 1
        server.keeps_open = False
        transact(client)
        assert server.ended.wait(5)
        server.keeps_open = True
        for _ in range(3):
            transact(client)
    assert (server.connections, len(server.requests), pauses) == (2, 7, [])


def test_a_proxy_is_used_as_botocore_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with served([(200, {})]) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.place}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        transact(client_of("http://dynamodb.invalid", is_short=True))
    assert proxy.requests[0][0] == "POST http://dynamodb.invalid/ HTTP/1.1"


def test_only_a_server_with_a_known_certificate_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with served([], tls) as server:
        with pytest.raises(SSLError):
            transact(client_of(f"https://{server.place}", is_short=True))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "server.pem"))
        transact(client_of(f"https://{server.place}", is_short=True))
        # The certificate is known, but it is another server's.
        port = server.place.rpartition(":")[2]
        with pytest.raises(SSLError):
            transact(client_of(f"https://localhost:{port}", is_short=True))
    assert len(server.requests) == 1
