"""The owner of a space calls every operation: each works, and none writes private data to the log."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import httpx2
import pytest

from shared.observability import logger
from tests.conftest import empty_aws
from tests.fixtures.aws import WEBHOOK_SECRET, settings_for
from tests.fixtures.identity import Issuer
from tests.fixtures.operations import PRIVATE, Operation, leaves, operations
from tests.fixtures.tenants import two_tenants
from tests.fixtures.upstream import FakeUpstream, Refusal

ORDER = {"GET": 0, "POST": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}
# What comes at the end, because nothing works after it.
LAST = ("DELETE /clusters", "POST /clusters", "DELETE /spaces/{id}", "POST /spaces/{id}/restore")
# What the training that the walk has started still reads, says the answer.
IN_USE = {"DELETE /connectors/{id}", "DELETE /data-models/{id}"}
# Secrets that are answered.
ANSWERED_ONCE = (
    ("POST /api-keys", "key"),
    ("POST /webhook-endpoints", "secret"),
    ("POST /webhook-endpoints/{id}/rotate-secret", "secret"),
)
# What asks a language model.
ASKING = {"POST /arguments", "POST /chats", "POST /insights", "POST /personas/completions", "POST /v1/chat/completions"}


def walk() -> list[Operation]:
    def position(operation: Operation) -> tuple[int, int]:
        last = LAST.index(str(operation)) + 1 if str(operation) in LAST else 0
        return last, ORDER[operation.method]

    return sorted(operations(), key=position)


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Collects all that is logged: ours at any level, that of libraries at the levels of the functions."""
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger.registered_handler, "stream", written)
        patch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, logging.StreamHandler(written)])
        patch.setattr(logging.getLogger(), "level", logging.INFO)
        patch.setattr(logger._logger, "level", logging.DEBUG)
        yield written


@dataclass
class Walked:
    """What the walk has led to."""

    answers: dict[str, httpx2.Response]
    lines: list[str]


@pytest.fixture(scope="module")
def walked(
    aws_session: boto3.Session,
    setup_client: Callable[[str], Any],
    issuer: Issuer,
    scoring_model: bytes,
    upstreams: list[FakeUpstream],
) -> Walked:
    with (
        empty_aws(aws_session, setup_client),
        logged() as log,
        two_tenants(settings_for(issuer), issuer, scoring_model, upstreams) as world,
    ):
        invite = {"emails": ["alice@example.com"], "roles": ["trainings:get"]}
        world.bob.post(f"/spaces/{world.bobs['/spaces/{id}']}/invite", json=invite).raise_for_status()
        answers = {str(operation): operation.send(world.alice, world.alices) for operation in walk()}
        upstreams[1].script = lambda body: Refusal(500, {"error": {"message": f"can't answer {body['messages']}"}})
        for operation in walk():
            if str(operation) in ASKING:
                assert operation.send(world.bob, world.bobs).status_code in (200, 502, 503)
        return Walked(answers, log.getvalue().splitlines())


@pytest.mark.row("C-2", "C-4")
def test_the_owner_gets_through_with_every_example(walked: Walked) -> None:
    """Else refusing them to others would prove nothing."""
    refused = {name: answer for name, answer in walked.answers.items() if not answer.is_success}
    assert {name: answer.text for name, answer in refused.items() if name not in IN_USE} == {}
    assert {answer.status_code for answer in refused.values()} <= {409}


def test_nothing_private_is_logged(walked: Walked) -> None:
    """Neither what is sent nor what is answered once, also when the model's server repeats it in its error."""
    answered = [walked.answers[name].json()[field] for name, field in ANSWERED_ONCE]
    secrets = (*PRIVATE, *answered, "@example.com", WEBHOOK_SECRET, *tokens_of(walked))
    assert sum('"message":"request"' in line for line in walked.lines) > len(walked.answers)
    assert [line for line in walked.lines if any(secret in line for secret in secrets)] == []


@pytest.mark.row("C-18")
def test_every_answer_bears_the_request_id_of_its_log_line(walked: Walked) -> None:
    lines = [json.loads(line) for line in walked.lines if line.startswith("{")]
    logged = {line["request_id"] for line in lines if line["message"] == "request"}
    answered = {name: answer.headers.get("X-Request-Id") for name, answer in walked.answers.items()}
    assert len(set(answered.values())) == len(answered)
    assert {name for name, request_id in answered.items() if request_id not in logged} == set()


@pytest.mark.row("C-10")
def test_every_time_is_answered_in_utc_and_marked_so(walked: Walked) -> None:
    times = [
        (name, place, value)
        for name, answer in walked.answers.items()
        if answer.content and answer.headers["Content-Type"] == "application/json"
        for place, value in leaves(answer.json())
        if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", value)
    ]
    assert len(times) > len(walked.answers)
    assert [each for each in times if not re.fullmatch(r"[\d-]{10}T[\d:]{8}(\.\d+)?Z", each[2])] == []


def tokens_of(walked: Walked) -> set[str]:
    """Returns the signatures of the bearer tokens that were sent."""
    return {answer.request.headers["Authorization"].rpartition(".")[2] for answer in walked.answers.values()}
