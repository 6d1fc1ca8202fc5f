"""A walk over every operation by the owner of a space: each works, and none leaves what is private in the log."""

import io
import logging

import pytest

from shared.observability import logger
from shared.settings import Settings
from tests.fixtures.aws import WEBHOOK_SECRET
from tests.fixtures.identity import Issuer
from tests.fixtures.operations import PRIVATE, Operation, operations, two_tenants
from tests.fixtures.upstream import FakeUpstream, Refusal

ORDER = {"GET": 0, "POST": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}
# What comes at the end, because nothing works after it.
LAST = ("DELETE /clusters", "POST /clusters", "DELETE /spaces/{id}", "POST /spaces/{id}/restore")
# What the training that the walk has started still reads, says the answer.
IN_USE = {"DELETE /connectors/{id}", "DELETE /data-models/{id}"}
# What asks a language model.
ASKING = {"POST /arguments", "POST /chats", "POST /insights", "POST /personas/completions", "POST /v1/chat/completions"}


def walk() -> list[Operation]:
    def position(operation: Operation) -> tuple[int, int]:
        last = LAST.index(str(operation)) + 1 if str(operation) in LAST else 0
        return last, ORDER[operation.method]

    return sorted(operations(), key=position)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """All that is logged: by us at whatever level, by libraries at the levels that functions let through."""
    written = io.StringIO()
    others = logging.StreamHandler(written)
    monkeypatch.setattr(logger.registered_handler, "stream", written)
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, others])
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    monkeypatch.setattr(logger._logger, "level", logging.DEBUG)
    return written


@pytest.mark.row("C-2", "C-4")
def test_the_owner_gets_through_with_every_example(
    aws: None,
    settings: Settings,
    issuer: Issuer,
    scoring_model: bytes,
    upstreams: list[FakeUpstream],
    log: io.StringIO,
) -> None:
    """Else refusing them to others would prove nothing. What fails for Bob is logged as discreetly."""
    world = two_tenants(settings, issuer, scoring_model, upstreams)
    invite = {"emails": ["alice@example.com"], "roles": ["trainings:get"]}
    world.bob.post(f"/spaces/{world.bobs['/spaces/{id}']}/invite", json=invite).raise_for_status()
    upstreams[1].script = lambda body: Refusal(500, {"error": {"message": f"can't answer {body['messages']}"}})
    for operation in walk():
        if str(operation) in ASKING:
            assert operation.send(world.bob, world.bobs).status_code in (200, 502, 503)
    refused = {}
    for operation in walk():
        answer = operation.send(world.alice, world.alices)
        if not answer.is_success and not (str(operation) in IN_USE and answer.status_code == 409):
            refused[str(operation)] = answer.text
    assert refused == {}, "\n".join(f"{name}: {text}" for name, text in refused.items())

    lines = log.getvalue()
    assert lines.count('"message":"request"') > len(walk())
    tokens = [each.headers["Authorization"].removeprefix("Bearer ") for each in (world.alice, world.bob)]
    secrets = (*PRIVATE, *tokens, "@example.com", WEBHOOK_SECRET)
    assert [line for line in lines.splitlines() if any(secret in line for secret in secrets)] == []
