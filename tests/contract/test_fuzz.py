"""Sends generated requests to every operation. Each response must be documented, and must not be a server error.

schemathesis generates the requests from our OpenAPI document, for a space with one item of each kind. Systematic
requests test each bound and a value beyond it, each wrong type, each missing part, and methods and content types that
are not documented. Random requests are valid or invalid. Every response passes all checks of schemathesis.

By default the tests send one request of each kind. ``make fuzz`` sends all systematic requests and new random requests
in each run: 14,000 requests in total. ``SEED`` repeats the random requests of a failed run.
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

# moto does not check the roles of functions, so these tests do.
refuse_what_is_not_granted()

IS_DEEP = "FUZZ_DEEPLY" in os.environ
RANDOM_REQUESTS = 25 if IS_DEEP else 2

# Operations that refuse some values that their schema allows, and the rule that the schema cannot express.
STRICTER_THAN_THEIR_SCHEMA = {
    "POST /action-groups": "conditions must be expressions of CEL",
    "PUT /action-groups/{id}": "conditions must be expressions of CEL",
    "POST /actions": "a start must be before its end, and conditions must be expressions of CEL",
    "PUT /actions/{id}": "a start must be before its end, and conditions must be expressions of CEL",
    "POST /arguments": "objects of any shape have a maximum size",
    "PUT /arguments/{id}": "keys of objects of any shape have rules",
    "PUT /benchmarks/{id}": "connector and connectors exclude each other",
    "PUT /chats/{id}": "messages must have a content",
    "POST /chats": "messages must end with one that needs a completion",
    "POST /v1/chat/completions": "messages must end with one that needs a completion",
    "POST /v1/completions": "objects of any shape have bounds of numbers",
    "POST /v1/embeddings": "objects of any shape have bounds of numbers",
    "POST /v1/responses": "items of the input must have a text or parts",
    "POST /checkpoints/{id}/predictions": "rows must have the columns of the model",
    "PUT /checkpoints/aliases/{alias}/gate": "thresholds must have one bound, and name required benchmarks",
    "POST /clusters": "certificates and tokens must be valid",
    "PUT /clusters": "certificates and tokens must be valid",
    "POST /connectors": "the credentials must fit the type",
    "PUT /connectors/{id}": "the credentials must fit the type",
    "POST /connectors/{id}/preview": "encodings and formats of dates must be such",
    "PUT /connectors/{id}/catalog/{file}": "encodings and formats of dates must be such",
    "POST /connectors/{id}/scan": "names of files must have no control characters",
    "POST /connectors/{id}/downloads": "names of files must have no control characters",
    "POST /connectors/{id}/uploads": "names of files must have no control characters",
    "POST /contacts": "a contact must name its customer in exactly one of two ways",
    "POST /evaluations": "the deployment limits the number of GPUs",
    "POST /experts": "names of tools must differ",
    "PUT /experts/{id}": "names of tools must differ",
    "GET /audit-logs": "a start must be before its end",
    "GET /inference-logs": "a start must be before its end",
    "GET /inference-logs/summary": "a start must be before its end",
    "GET /inference-logs/usage": "a start must be before its end",
    "POST /insights": "a client must be described in exactly one of three ways",
    "POST /insights/{id}/reactions": "a reaction must be in the past, and by the customer of the insight",
    "PUT /insights/policy": "time zones must exist",
    "PUT /spaces/{id}/members/{user_id}": "a space must have an owner",
    "POST /spaces/{id}/service-accounts": "a service account must not approve arguments",
    "POST /spaces/{id}/service-accounts/{account_id}/api-keys": "ends must be in the future",
    "PUT /spaces/{id}/limits": "names of limits must be known",
    "GET /leaderboards": "some parameters need each other, and a cursor must be the id of a row",
    "PUT /insights/experiments": "percentages must add up to 100",
    "POST /insights/exports": "cursors must be ids of rows",
    "POST /personas": "keys of objects of any shape have rules",
    "PUT /personas/{id}": "names must have no control characters",
    "POST /personas/completions": "a prompt is documented as optional but is required",
    "POST /personas/upload": "a form must have files",
    "POST /personas/uploads": "names of files must have no control characters",
    "POST /decision-runs": "connectors, actions and files must exist, and a dry run has no output",
    "POST /predictions": "connectors, checkpoints and files must exist, and fit each other",
    "GET /trainings/{id}/logs": "a cursor must come from a page before",
    "POST /trainings": "architectures must exist",
    "PUT /trainings/{id}": "architectures must exist",
    "POST /api-keys": "ends must be in the future",
    "PUT /api-keys/{id}": "ends must be in the future",
    "POST /webhook-endpoints": "addresses must be public",
    "PUT /webhook-endpoints/{id}": "addresses must be public",
}
FEW = hypothesis_settings(max_examples=300 if IS_DEEP else 25, derandomize=not IS_DEEP, database=None)
ORDER = {"GET": 0, "POST": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}
# These operations come last, because others fail after them.
LAST = (
    "PUT /spaces/{id}/limits",
    "PATCH /spaces/{id}/limits",
    "PUT /clusters",
    "PATCH /clusters",
    "POST /clusters",
    "DELETE /clusters",
    "POST /users/{id}/permissions",
    "PUT /spaces/{id}/members/{user_id}",
    "PATCH /spaces/{id}/members/{user_id}",
    "DELETE /spaces/{id}/members/{user_id}",
    "DELETE /spaces/{id}",
    "POST /spaces/{id}/restore",
)
# Operations by their names in the document, which omit the converters of path parameters.
OPERATIONS = {f"{each.method} {each.route.path_format}": each for each in operations()}


def documented() -> list[str]:
    """Returns the operations in the order of their calls. PATCH has the same code as PUT, so only deep runs call it."""
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
    """The API with its caller, and the ids of items in the caller's space and in another space."""

    schema: Any
    client: TestClient
    ids: Ids
    theirs: Ids
    # The kinds of wrong headers that were already sent. All operations share the code that reads headers.
    seen: set[Any]

    def send(self, name: str, case: Any) -> None:
        if name in OPERATIONS:
            self._aim(case, OPERATIONS[name])
        excluded = [positive_data_acceptance] if name.replace("PATCH", "PUT") in STRICTER_THAN_THEIR_SCHEMA else []
        headers = {header: self.client.headers[header] for header in ("Authorization", "X-Space-Id")}
        case.call_and_validate(headers=headers, excluded_checks=excluded)

    def _aim(self, case: Any, operation: Operation) -> None:
        """Puts the ids of the space's items into a request, because generated ids would only be refused."""
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
        """Yields all systematic requests in a deep run, and otherwise one of each kind."""
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
        # The API checks If-Match before the body, so 412 is correct for any body.
        for check in (schema.config.checks.positive_data_acceptance, schema.config.checks.negative_data_rejection):
            check.expected_statuses = [*check.expected_statuses, "412"]
        yield World(schema, tenants.alice, tenants.alices, tenants.bobs, set())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.row("C-7")
def test_a_cursor_must_be_an_id_and_never_returns_rows_of_another_space(world: World) -> None:
    """Any id is a valid cursor, even without a row, because it only marks how far a client has read the list."""
    # Lists of files have names as cursors.
    lists = [
        f"GET {path}"
        for path, item in world.schema.raw_schema["paths"].items()
        for parameter in item.get("get", {}).get("parameters", [])
        if parameter["name"] == "after" and "pattern" in parameter["schema"]
    ]
    own, theirs = (set(filter(is_identifier, ids.values())) for ids in (world.ids, world.theirs))
    whole = st.sampled_from(sorted(own | theirs))
    damaged = st.builds(
        lambda text, at, put: text[:at] + put + text[at + 1 :], whole, st.integers(0, 36), st.text(max_size=2)
    )

    @FEW
    @given(st.sampled_from(lists), whole | whole.map(str.upper) | damaged | st.text(min_size=1, max_size=40))
    def follow(name: str, cursor: str) -> None:
        response = world.client.get(OPERATIONS[name].address(world.ids), params={"after": cursor})
        if not is_identifier(cursor) and cursor != '""':
            assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")
        elif name != "GET /leaderboards":  # a leaderboard accepts only ids of its own rows
            assert not any(each in response.text for each in theirs)
            assert response.status_code == 200

    follow()


@pytest.mark.row("WH-1")
def test_a_signed_message_causes_no_server_error_and_a_changed_message_is_refused(world: World) -> None:
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
def test_every_response_to_a_generated_request_is_documented(name: str, world: World) -> None:
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
