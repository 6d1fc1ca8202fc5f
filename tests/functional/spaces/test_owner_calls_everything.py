"""Tests that the owner of a space may call every operation and that no operation logs private data."""

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
from fastapi.testclient import TestClient

from shared.evaluations.store import Evaluations
from shared.http.middleware import SECURITY_HEADERS
from shared.models.job_status import JobStatus
from shared.observability import logger
from shared.resources import Resources
from shared.trainings.store import Trainings
from tests.conftest import empty_aws
from tests.fixtures.aws import WEBHOOK_SECRET, settings_for
from tests.fixtures.decision_runs import work
from tests.fixtures.identity import Issuer
from tests.fixtures.operations import EXAMPLES, PRIVATE, Operation, leaves, operations, replaced
from tests.fixtures.recorded_examples import answer_of, differences, named, names_of, request_of
from tests.fixtures.tenants import World, two_tenants
from tests.fixtures.upstream import FakeUpstream, Refusal

ORDER = {"GET": 0, "POST": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}
# These operations come last, because other operations fail after them.
LAST = ("DELETE /clusters", "POST /clusters", "DELETE /spaces/{id}", "POST /spaces/{id}/restore")
# The run of the space stays unfinished, so that it can be stopped.
NEED_A_FINISHED_RUN = {"GET /decision-runs/{id}/summary", "POST /decision-runs/{id}/cancel"}
# These responses contain a secret.
RETURNED_SECRETS = (
    ("POST /api-keys", "key"),
    ("POST /webhook-endpoints", "secret"),
    ("POST /webhook-endpoints/{id}/rotate-secret", "secret"),
    ("POST /personas/upload", "upload_token"),
    ("POST /personas/uploads", "upload_token"),
)
# These operations call a language model.
MODEL_OPERATIONS = {
    "POST /arguments",
    "POST /chats",
    "POST /insights",
    "POST /personas/completions",
    "POST /v1/chat/completions",
}


def ordered_operations() -> list[Operation]:
    def position(operation: Operation) -> tuple[int, int, int]:
        last = LAST.index(str(operation)) + 1 if str(operation) in LAST else 0
        # What a connector or a space holds is deleted before it.
        return last, ORDER[operation.method], -len(operation.parameters) if operation.method == "DELETE" else 0

    return sorted(operations(), key=position)


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Collects the log lines of the API at every level and the log lines of libraries from the level INFO."""
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger.registered_handler, "stream", written)
        patch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, logging.StreamHandler(written)])
        patch.setattr(logging.getLogger(), "level", logging.INFO)
        patch.setattr(logger._logger, "level", logging.DEBUG)
        yield written


@dataclass
class Traversal:
    """Responses of all operations, with the log lines of all requests."""

    responses: dict[str, httpx2.Response]
    lines: list[str]
    examples: dict[str, dict[str, Any]]


def end_jobs(client: TestClient, resources: Resources) -> None:
    """Ends the running jobs of the space, because what they use can't be deleted."""
    space_id = str(client.headers["X-Space-Id"])
    trainings, evaluations = Trainings(resources.table), Evaluations(resources.table)
    for training in client.get("/trainings?pageSize=100").json()["data"]:
        trainings.end(space_id, training["id"], JobStatus.FAILED, {"error": "The file is empty."})
    for kind in ("predictions", "decision-runs"):
        for run in client.get(f"/{kind}").json()["data"]:
            client.post(f"/{kind}/{run['id']}/stop")
    for evaluation in client.get("/evaluations").json()["data"]:
        evaluations.end(space_id, evaluation["id"], JobStatus.FAILED, "The file is empty.")


def finished_run(world: World) -> str:
    """Makes a decision run within a limit that has succeeded, and returns its id."""
    decided = dict(EXAMPLES["POST /decision-runs"].json)
    body = {name: decided[name] for name in ("connector_id", "files", "actions", "limits")}
    output = {"connector_id": body["connector_id"]}
    response = world.alice.post("/decision-runs", json=replaced({**body, "output": output}, world.alices, {}))
    assert response.is_success, response.text
    run_id = str(response.json()["id"])
    work(world.resources, world.alices["/spaces/{id}"], run_id)
    return run_id


@pytest.fixture(scope="module")
def traversal(
    aws_session: boto3.Session,
    setup_client: Callable[[str], Any],
    issuer: Issuer,
    scoring_model: bytes,
    upstreams: list[FakeUpstream],
) -> Traversal:
    with (
        empty_aws(aws_session, setup_client),
        logged() as log,
        two_tenants(settings_for(issuer), issuer, scoring_model, upstreams) as world,
    ):
        invite = {"emails": ["alice@example.com"], "roles": ["trainings:get"]}
        world.bob.post(f"/spaces/{world.bobs['/spaces/{id}']}/invite", json=invite).raise_for_status()
        names = names_of(world.alices)
        finished = finished_run(world)
        responses, examples, has_ended_jobs = {}, {}, False
        for operation in ordered_operations():
            if operation.method == "DELETE" and not has_ended_jobs:
                end_jobs(world.alice, world.resources)
                has_ended_jobs = True
            run = {"/decision-runs/{id}": finished} if str(operation) in NEED_A_FINISHED_RUN else {}
            response = responses[str(operation)] = operation.send(world.alice, {**world.alices, **run})
            request = request_of(operation, names, world.alices)
            answer = answer_of(response, names | {real: named(address) for address, real in run.items()})
            examples[f"{operation.method} {operation.route.path_format}"] = request | answer
        upstreams[1].script = lambda body: Refusal(500, {"error": {"message": f"can't answer {body['messages']}"}})
        for operation in ordered_operations():
            if str(operation) in MODEL_OPERATIONS:
                assert operation.send(world.bob, world.bobs).status_code in (200, 502, 503)
        return Traversal(responses, log.getvalue().splitlines(), examples)


@pytest.mark.row("C-2", "C-4")
def test_the_owner_may_call_every_operation(traversal: Traversal) -> None:
    """Tests of refusals to other users prove nothing for an operation that always fails."""
    assert {name: response.text for name, response in traversal.responses.items() if not response.is_success} == {}


@pytest.mark.row("UI-7")
def test_the_examples_of_the_reference_are_what_the_owner_sends_and_gets(traversal: Traversal) -> None:
    """All of these requests succeed, as the test before says. ``make examples`` records them again."""
    assert differences(traversal.examples) == [], "run `make examples`, and look at what it changes"


def test_nothing_private_is_logged(traversal: Traversal) -> None:
    """Errors of the language model server are private, too, because they can repeat the request."""
    returned = [traversal.responses[name].json()[field] for name, field in RETURNED_SECRETS]
    secrets = (*PRIVATE, *returned, "@example.com", WEBHOOK_SECRET, *tokens_of(traversal))
    assert sum('"message":"request"' in line for line in traversal.lines) > len(traversal.responses)
    assert [line for line in traversal.lines if any(secret in line for secret in secrets)] == []


@pytest.mark.row("SE-7")
def test_no_upload_token_is_logged(traversal: Traversal) -> None:
    """The tokens are in paths of requests, and may be wrong ones."""
    used = {name: response.request.url.path for name, response in traversal.responses.items() if "token}" in name}
    tokens = {part for path in used.values() for part in path.split("/") if len(part) >= 40}
    assert len(used) == 2
    assert tokens
    ours = [line for line in traversal.lines if not line.startswith("HTTP Request: ")]  # by the client of the test
    assert [line for line in ours if any(token in line for token in tokens)] == []


@pytest.mark.row("SE-8")
def test_every_response_has_the_security_headers_and_is_not_cached(traversal: Traversal) -> None:
    for name, response in traversal.responses.items():
        shown = {header: response.headers.get(header) for header in SECURITY_HEADERS}
        if name.endswith("/report"):
            # A report is a page, and its own policy allows its style.
            shown["Content-Security-Policy"] = SECURITY_HEADERS["Content-Security-Policy"]
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert shown == SECURITY_HEADERS, name


@pytest.mark.row("C-18")
def test_every_response_contains_the_request_id_of_its_log_line(traversal: Traversal) -> None:
    lines = [json.loads(line) for line in traversal.lines if line.startswith("{")]
    logged = {line["request_id"] for line in lines if line["message"] == "request"}
    returned = {name: response.headers.get("X-Request-Id") for name, response in traversal.responses.items()}
    assert len(set(returned.values())) == len(returned)
    assert {name for name, request_id in returned.items() if request_id not in logged} == set()


@pytest.mark.row("C-10")
def test_every_time_in_a_response_is_in_utc(traversal: Traversal) -> None:
    times = [
        (name, position, value)
        for name, response in traversal.responses.items()
        if response.content and response.headers["Content-Type"] == "application/json"
        for position, value in leaves(response.json())
        if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", value)
    ]
    assert len(times) > len(traversal.responses)
    assert [each for each in times if not re.fullmatch(r"[\d-]{10}T[\d:]{8}(\.\d+)?Z", each[2])] == []


def tokens_of(traversal: Traversal) -> set[str]:
    """Returns the signatures of the bearer tokens that were sent."""
    return {response.request.headers["Authorization"].rpartition(".")[2] for response in traversal.responses.values()}
