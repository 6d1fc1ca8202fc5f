"""Generated requests against our own OpenAPI document: no answer is a defect, and each is one the document promises.

Every operation is sent what schemathesis derives from its schema, in a space that holds one item of everything:
systematic requests (each bound and just beyond it, each wrong type, all that may be missing, methods and content types
that are not documented) and random ones, valid and invalid. All of schemathesis' checks look at every answer.

Usually one request of each kind is sent. ``make fuzz`` sends all of the systematic ones, and random ones that differ
from run to run: 14,000 in all. ``SEED`` repeats the random ones of a run that failed.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import boto3
import pytest
import schemathesis
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis.config import GenerationConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from functions.api import build_api
from shared.clock import utc_now
from shared.dynamodb.repository import is_identifier
from shared.webhooks.signature import sign
from tests.conftest import empty_aws
from tests.fixtures.aws import WEBHOOK_SECRET, settings_for
from tests.fixtures.grants import refuse_what_is_not_granted
from tests.fixtures.identity import Issuer
from tests.fixtures.operations import Given, Id, Ids, Operation, leaves, operations, replaced
from tests.fixtures.tenants import two_tenants
from tests.fixtures.upstream import FakeUpstream

# No emulator asks a function's role; these tests do.
refuse_what_is_not_granted()

IS_DEEP = "FUZZ_DEEPLY" in os.environ
RANDOM_REQUESTS = 25 if IS_DEEP else 2

# The operations that refuse some of what their schema allows, and the rule that no schema states.
STRICTER_THAN_THEIR_SCHEMA = {
    "POST /actions": "a start comes before its end",
    "PUT /actions/{id}": "a start comes before its end",
    "POST /arguments": "the size of objects of any shape",
    "PUT /arguments/{id}": "keys of objects of any shape",
    "PUT /benchmarks/{id}": "connector and connectors exclude each other",
    "PUT /chats/{id}": "messages must have a content",
    "POST /chats": "messages must end with one to answer",
    "POST /v1/chat/completions": "messages must end with one to answer",
    "POST /checkpoints/{id}/predictions": "rows must have the columns of the model",
    "POST /clusters": "certificates and tokens must be such",
    "PUT /clusters": "certificates and tokens must be such",
    "POST /connectors": "the type and its credentials belong together",
    "PUT /connectors/{id}": "the type and its credentials belong together",
    "POST /connectors/{id}/scan": "names of files have no control characters",
    "POST /connectors/{id}/uploads": "names of files have no control characters",
    "POST /evaluations": "as many GPUs as the deployment allows",
    "POST /experts": "names of tools differ",
    "PUT /experts/{id}": "names of tools differ",
    "GET /audit-logs": "a start comes before its end",
    "GET /inference-logs": "a start comes before its end",
    "GET /inference-logs/summary": "a start comes before its end",
    "POST /insights": "a client is named in one of three ways",
    "GET /leaderboards": "parameters that need each other, rows that a list must have had",
    "POST /insights/exports": "cursors are ids of rows",
    "POST /personas": "keys of objects of any shape",
    "PUT /personas/{id}": "names have no control characters",
    "POST /personas/completions": "a prompt is documented as optional, and needed",
    "POST /personas/upload": "forms without files",
    "POST /personas/uploads": "names of files have no control characters",
    "POST /trainings": "architectures that there are",
    "PUT /trainings/{id}": "architectures that there are",
    "POST /api-keys": "ends that are to come",
    "PUT /api-keys/{id}": "ends that are to come",
    "POST /webhook-endpoints": "public addresses",
    "PUT /webhook-endpoints/{id}": "public addresses",
}
FEW = hypothesis_settings(max_examples=300 if IS_DEEP else 25, derandomize=not IS_DEEP, database=None)
ORDER = {"GET": 0, "POST": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}
# What comes at the end, because less works after it.
LAST = (
    "PUT /spaces/{id}/limits",
    "PATCH /spaces/{id}/limits",
    "PUT /clusters",
    "PATCH /clusters",
    "POST /clusters",
    "DELETE /clusters",
    "POST /users/{id}/permissions",
    "DELETE /spaces/{id}/members/{user_id}",
    "DELETE /spaces/{id}",
    "POST /spaces/{id}/restore",
)
# By its name in the document, which says nothing of what a path parameter may hold.
OPERATIONS = {f"{each.method} {each.route.path_format}": each for each in operations()}


def documented() -> list[str]:
    """Returns the operations in the order that they are called; in PATCH only the method differs from PUT."""
    names = [
        f"{method} {route.path_format}"
        for route in build_api().routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods or ()
        if IS_DEEP or method != "PATCH"
    ]
    return sorted(names, key=lambda name: (LAST.index(name) + 1 if name in LAST else 0, ORDER[name.split()[0]]))


@dataclass
class World:
    """What is called, by whom, and what the caller's space and another one hold."""

    schema: Any
    client: TestClient
    ids: Ids
    theirs: Ids
    # How headers were already got wrong: what reads them is the same everywhere.
    seen: set[Any]

    def send(self, name: str, case: Any) -> None:
        if name in OPERATIONS:
            self._aim(case, OPERATIONS[name])
        excluded = [positive_data_acceptance] if name.replace("PATCH", "PUT") in STRICTER_THAN_THEIR_SCHEMA else []
        headers = {header: self.client.headers[header] for header in ("Authorization", "X-Space-Id")}
        case.call_and_validate(headers=headers, excluded_checks=excluded)

    def _aim(self, case: Any, operation: Operation) -> None:
        """Name what the space holds wherever the request names something: made up ids would only be refused."""
        if not case.meta.is_negative_at(ParameterLocation.PATH):
            for address in operation.parameters:
                case.path_parameters[address[address.rindex("{") + 1 : -1].partition(":")[0]] = self.ids[address]
        example = vars(operation.example)
        named = {place[:2] for place, value in leaves(example) if isinstance(value, Id | Given)}
        filled = replaced(example, self.ids, {})
        if not case.meta.is_negative_at(ParameterLocation.QUERY):
            case.query = case.query | {key: filled["query"][key] for key in case.query if ("query", key) in named}
        if isinstance(case.body, dict) and not case.meta.is_negative_at(ParameterLocation.BODY):
            fields = [key for key, value in case.body.items() if ("json", key) in named and value]
            case.body = case.body | {key: filled["json"][key] for key in fields}

    def systematic_requests(self, operation: Any) -> Iterator[Any]:
        """Yields all of them, or one of each kind."""
        config = GenerationConfig(with_security_parameters=False)
        seen: set[Any] = set()
        modes = list(GenerationMode)
        for case in self.schema.iter_coverage_cases(operation, generation_modes=modes, generation_config=config):
            how = case.meta.phase.data
            is_header = how.parameter_location == ParameterLocation.HEADER
            kind = (how.scenario, how.parameter_location, how.parameter if is_header else case.method)
            if IS_DEEP or kind not in (kinds := self.seen if is_header else seen):
                if not IS_DEEP:
                    kinds.add(kind)
                yield case


@pytest.fixture(scope="module")
def world(
    aws_session: boto3.Session,
    setup_client: Callable[[str], Any],
    issuer: Issuer,
    scoring_model: bytes,
    upstreams: list[FakeUpstream],
) -> Iterator[World]:
    with (
        empty_aws(aws_session, setup_client),
        two_tenants(settings_for(issuer), issuer, scoring_model, upstreams) as tenants,
    ):
        schema = schemathesis.openapi.from_asgi("/openapi.json", tenants.alice.app)
        schema.config.generation.update(with_security_parameters=False)
        # What an If-Match asks for goes before what the body says.
        for check in (schema.config.checks.positive_data_acceptance, schema.config.checks.negative_data_rejection):
            check.expected_statuses = [*check.expected_statuses, "412"]
        yield World(schema, tenants.alice, tenants.alices, tenants.bobs, set())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.row("C-7")
def test_a_cursor_is_an_id_or_refused_and_shows_nothing_of_others(world: World) -> None:
    """The id of a row that is gone goes on, and so does any id: it only says how far the list has been read."""
    lists = [
        f"GET {path}"
        for path, item in world.schema.raw_schema["paths"].items()
        if any(parameter["name"] == "after" for parameter in item.get("get", {}).get("parameters", []))
    ]
    own, theirs = (set(filter(is_identifier, ids.values())) for ids in (world.ids, world.theirs))
    whole = st.sampled_from(sorted(own | theirs))
    damaged = st.builds(
        lambda text, at, put: text[:at] + put + text[at + 1 :], whole, st.integers(0, 36), st.text(max_size=2)
    )

    @FEW
    @given(st.sampled_from(lists), whole | whole.map(str.upper) | damaged | st.text(min_size=1, max_size=40))
    def follow(name: str, cursor: str) -> None:
        answer = world.client.get(OPERATIONS[name].address(world.ids), params={"after": cursor})
        if not is_identifier(cursor) and cursor != '""':
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
        elif name != "GET /leaderboards":  # only what has been in a leaderboard has a place there
            assert not any(each in answer.text for each in theirs)
            assert answer.status_code == 200

    follow()


@pytest.mark.row("WH-1")
def test_no_signed_message_breaks_what_takes_it_in_and_no_changed_one_is_taken_in(world: World) -> None:
    named = st.sampled_from([world.ids[f"/{kind}/{{id}}"] for kind in ("trainings", "evaluations", "connectors")])
    space = st.just(world.ids["/spaces/{id}"]) | st.text("x", min_size=3000, max_size=3000) | st.just("\ud800")
    point = st.fixed_dictionaries(
        {"name": st.just("loss"), "value": JSON_VALUES, "step": JSON_VALUES, "at": JSON_VALUES}
    )
    messages = st.fixed_dictionaries(
        {"id": named | st.text(max_size=210)},
        optional={
            "payload": JSON_VALUES
            | st.fixed_dictionaries({"space_id": space | JSON_VALUES})
            | st.fixed_dictionaries({"metrics": JSON_VALUES | st.lists(point, max_size=3)}),
            **{field: st.none() | st.text(max_size=210) for field in ("event", "name", "status", "type", "timestamp")},
        },
    )
    bodies = messages.map(lambda message: json.dumps(message).encode()) | st.binary(max_size=50)

    anybody = TestClient(world.client.app)

    @FEW
    @given(bodies, st.uuids(), st.data())
    def receive(body: bytes, message_id: UUID, data: st.DataObject) -> None:
        signed = {"content-type": "application/json", **sign(WEBHOOK_SECRET, str(message_id), utc_now(), body)}
        assert anybody.post("/webhooks", content=body, headers=signed).status_code in (200, 400, 404)
        changed = body + b" "
        if body:
            at = data.draw(st.integers(0, len(body) - 1))
            changed = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
        assert anybody.post("/webhooks", content=changed, headers=signed).status_code == 401

    receive()


@pytest.mark.parametrize("name", documented())
@pytest.mark.timeout(600 if IS_DEEP else 60)
def test_every_answer_to_a_generated_request_is_a_promised_one(name: str, world: World) -> None:
    operation = world.schema.find_operation_by_label(name)
    for case in world.systematic_requests(operation):
        world.send(name, case)

    @hypothesis_settings(
        max_examples=RANDOM_REQUESTS,
        phases=[Phase.generate, Phase.shrink],
        derandomize=not IS_DEEP,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)))
    def send_random(case: Any) -> None:
        world.send(name, case)

    send_random()
