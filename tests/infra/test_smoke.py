"""The smoke command reports what fails and deletes what it made. ``tests/e2e/test_smoke.py`` runs all of it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import boto3
import pytest

from infra.operations.smoke import Outcome, Smoke
from tests.fixtures.http_handlers import QuietHandler


class BrokenApi(QuietHandler, BaseHTTPRequestHandler):
    """An API whose users sign in and make spaces, and nothing else."""

    requests: list[str]
    stranger = 401

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(size)
        request = f"{self.command} {self.path}"
        self.requests.append(request)
        signed_in = len(self.headers.get("Authorization", "")) > 100
        known = {"POST /spaces": (201, {"id": "s1"}), "DELETE /spaces/s1": (204, None)}
        status, body = known.get(request, (500, {"error": "Broken.", "request_id": "r1"}))
        if not signed_in:
            status, body = self.stranger, {"error": "Who?"}
        text = b"" if body is None else json.dumps(body).encode()
        self.answer(status, text)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()


@pytest.fixture
def api() -> Iterator[tuple[str, type[BrokenApi]]]:
    handler = type("Api", (BrokenApi,), {"requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()


class Account:
    """CloudFormation with one stack, and its user pool."""

    region_name = "eu-west-1"

    def __init__(self, url: str) -> None:
        self.users: list[str] = []
        outputs = {"ApiUrl": url, "UserPoolId": "pool", "UserPoolClientId": "client"}
        self._stack = {
            "StackName": "inference-dev-api",
            "StackStatus": "CREATE_COMPLETE",
            "Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()],
        }

    def client(self, service: str) -> Any:
        assert service in ("cloudformation", "cognito-idp")
        return self

    def get_paginator(self, operation: str) -> Any:
        assert operation == "describe_stacks"
        return self

    def paginate(self) -> Any:
        return [{"Stacks": [self._stack]}]

    def admin_create_user(self, *, Username: str, **_: Any) -> None:  # noqa: N803 - boto3's names
        self.users.append(Username)

    def admin_set_user_password(self, **_: Any) -> None:
        pass

    def admin_initiate_auth(self, **_: Any) -> Any:
        return {"AuthenticationResult": {"IdToken": "x" * 200}}

    def admin_delete_user(self, *, Username: str, **_: Any) -> None:  # noqa: N803
        self.users.remove(Username)


def run(account: Account, stage: str = "dev") -> dict[str, Outcome]:
    smoke = Smoke(cast("boto3.Session", account), stage, report=lambda _: None)
    return {one.check: one for one in smoke.run()}


@pytest.mark.row("OP-6")
def test_a_broken_stage_fails_its_checks_and_what_was_made_is_deleted(
    api: tuple[str, type[BrokenApi]],
) -> None:
    url, handler = api
    account = Account(url)

    outcomes = run(account)

    statuses = {check: one.status for check, one in outcomes.items()}
    assert statuses["a user signs in"] == "passed", outcomes["a user signs in"].note
    assert statuses["files are uploaded and scanned"] == "FAILED"
    assert "500: Broken. (request id r1)" in outcomes["files are uploaded and scanned"].note
    assert [check for check, status in statuses.items() if status == "not run"] == [
        "a model trains on a CPU", "the model is measured", "a decision uses the model", "a file is scored",
        "a file gets its decisions",
    ]  # fmt: skip
    assert statuses["what was made is deleted"] == "passed"
    assert handler.requests[-1] == "DELETE /spaces/s1"
    assert account.users == []


def test_a_stage_that_lets_strangers_in_fails(api: tuple[str, type[BrokenApi]]) -> None:
    url, handler = api
    handler.stranger = 200
    assert "returned 200 to a stranger" in run(Account(url))["a stranger is refused"].note


def test_a_stage_that_is_not_there_is_named() -> None:
    outcomes = list(run(Account("http://127.0.0.1:9"), "nowhere").values())
    assert [one.status for one in outcomes] == ["FAILED", *["not run"] * 10]
    assert "nowhere is not deployed" in outcomes[0].note
