"""Tests that every operation of the API is accessible only to callers with the right to use it.

The list of operations comes from the app. A new operation needs an example in tests/fixtures/operations.py.
"""

import hmac
import json
import re
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.routing import APIRoute

from functions.api import build_api
from shared.models.api_key import PREFIX, KeyToken
from tests.fixtures.grants import CALLS
from tests.fixtures.identity import Issuer
from tests.fixtures.operations import UNKNOWN, Operation, operations
from tests.fixtures.tenants import World
from tests.functional.http.test_common_contract import assert_error_shape

OPERATIONS = operations()
# These lists contain every place where a request can name an entity of another space.
FOREIGN_PATHS = [(operation, address) for operation in OPERATIONS for address in operation.parameters]
FOREIGN_FIELDS = [
    (operation, place, address) for operation in OPERATIONS for place, address in operation.example.identifiers()
]
# Callers choose the names in these paths, so an unknown name is valid.
# Runs may hold any customer, so an erasure beside them is never of an unknown one.
NAMED_BY_CLIENTS = {
    "DELETE /clients/{key:path}",
    "PUT /checkpoints/aliases/{alias}",
    "PUT /checkpoints/aliases/{alias}/gate",
}
# These fields contain ids of entities, although their names do not end in "id".
NAMES = {"actions", "actor", "benchmarks", "connector", "group", "trainings"}
# These ids do not belong to entities of a space.
# Nothing is kept for a previous response, so its id is refused.
NO_ENTITIES = {"tool_call_id", "previous_response_id", "external_id", "access_key_id", "contact_id"}


@pytest.fixture(scope="module")
def refused(issuer: Issuer) -> dict[str, str]:
    """Returns invalid Authorization headers by their flaw."""
    return refused_headers(issuer)


def test_every_operation_has_an_example_with_all_its_entities(world: World) -> None:
    described = build_api().openapi()
    schemas = described["components"]["schemas"]
    for operation in OPERATIONS:
        document = described["paths"][operation.route.path_format][operation.method.lower()]
        assert set(operation.parameters) <= set(world.alices), f"{operation}: furnish() creates no entity for its path"
        example = operation.example
        taken = {found["name"] for found in document.get("parameters", []) if found["in"] == "query"}
        if "requestBody" in document:
            given = example.json is not None or example.files is not None
            optional = not document["requestBody"].get("required")
            assert given or optional, f"{operation}: its example in EXAMPLES has no body"
            taken |= fields(document["requestBody"]["content"], schemas)
        entities = {name for name in taken if re.search(r"[_.]ids?$", name) or name in NAMES} - NO_ENTITIES
        named = {str(part) for place, _ in example.identifiers() for part in place}
        # The examples of PUT and PATCH contain different fields.
        if str(operation) == "PATCH /benchmarks/{id}":
            entities -= {"connector_id"}
        if str(operation) == "PUT /benchmarks/{id}":
            entities -= {"connector"}
        assert entities <= named, f"{operation}: its example in EXAMPLES lacks {sorted(entities - named)}"


def fields(schema: Any, schemas: dict[str, Any], seen: frozenset[str] = frozenset()) -> set[str]:
    """Returns the names of all properties of a schema, at any depth."""
    if isinstance(schema, list):
        return set().union(*(fields(inner, schemas, seen) for inner in schema))
    if not isinstance(schema, dict):
        return set()
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        return set() if name in seen else fields(schemas[name], schemas, seen | {name})
    properties = schema.get("properties", {})
    own = set(properties) if isinstance(properties, dict) else set()
    return own.union(*(fields(inner, schemas, seen) for inner in schema.values()))


def without_traces(text: str, *ids: str) -> Any:
    """Returns the body of a response without the sent ids and without the request id."""
    for each in sorted(ids, key=len, reverse=True):
        text = text.replace(each, "…")
    body = json.loads(text)
    return body | {"request_id": ""} if isinstance(body, dict) else body


@pytest.mark.row("C-1")
def test_only_the_public_routes_and_the_webhooks_are_not_checked_here() -> None:
    checked = [operation.route for operation in OPERATIONS]
    public = {route.path for route in build_api().routes if isinstance(route, APIRoute) and route not in checked}
    pages = {"/", "/docs", "/docs/{file:path}", "/console", "/console/config.json", "/console/{file:path}"}
    assert public <= {"/webhooks", "/health", "/openapi.json", *pages}


@pytest.mark.row("C-2", "C-5")
@pytest.mark.parametrize(("operation", "address"), FOREIGN_PATHS, ids=lambda value: str(value))
def test_an_id_of_another_space_in_the_path_is_as_unknown_as_a_random_id(
    world: World, operation: Operation, address: str
) -> None:
    if str(operation) in NAMED_BY_CLIENTS:
        pytest.skip("the caller chooses the name")
    world.note()
    theirs, random = world.alices[address], UNKNOWN
    found, unknown = (operation.send(world.bob, world.bobs, {address: item}) for item in (theirs, random))
    assert found.status_code == unknown.status_code == 404, (found.text, unknown.text)
    # The OpenAI routes have their own error format.
    if not operation.path.startswith("/v1/"):
        assert_error_shape(found.json(), "not_found")
    assert without_traces(found.text, theirs) == without_traces(unknown.text, random)
    assert world.changes() == []


@pytest.mark.row("C-2", "C-6")
@pytest.mark.parametrize(("operation", "place", "address"), FOREIGN_FIELDS, ids=lambda value: str(value))
def test_an_id_of_another_space_in_the_body_or_the_query_is_as_unknown_as_a_random_id(
    world: World, operation: Operation, place: tuple[str | int, ...], address: str
) -> None:
    world.note()
    theirs, random = world.alices[address], UNKNOWN
    found, unknown = (operation.send(world.bob, world.bobs, {place: item}) for item in (theirs, random))
    assert found.status_code == unknown.status_code
    assert without_traces(found.text, theirs) == without_traces(unknown.text, random)
    if place[0] != "query":
        assert found.status_code in (400, 404), found.text
    assert world.changes() == []


@pytest.mark.row("C-2", "C-3")
def test_another_space_is_as_unknown_as_a_random_space(world: World) -> None:
    world.note()
    theirs, random = world.sign_in("bob"), world.sign_in("bob")
    theirs.headers["X-Space-Id"], random.headers["X-Space-Id"] = world.alices["/spaces/{id}"], UNKNOWN
    for operation in (each for each in OPERATIONS if each.needs_space):
        found, unknown = (operation.send(client, world.alices) for client in (theirs, random))
        assert found.status_code == unknown.status_code == 404, (str(operation), found.text)
        assert without_traces(found.text) == without_traces(unknown.text)
    assert world.changes() == []


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Returns the signed part of a token."""
    parts = (urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims))
    return ".".join(parts)


def refused_headers(issuer: Issuer) -> dict[str, str]:
    valid = issuer.token("alice")
    head, body, signature = valid.split(".")
    claims = jwt.decode(valid, options={"verify_signature": False})
    strangers_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    strangers_jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(strangers_key.public_key()))
    by_public_key = unsigned({"alg": "HS256", "typ": "JWT", "kid": "k1"}, claims)
    for_bob = urlsafe_b64encode(json.dumps(claims | {"sub": "bob"}).encode()).decode().rstrip("=")
    tokens = {
        "empty": "",
        "no token": "not.a.token",
        "two parts": f"{head}.{body}",
        "no signature": f"{head}.{body}.",
        "another signature": f"{head}.{body}.{signature[::-1]}",
        "changed claims": f"{head}.{for_bob}.{signature}",
        "algorithm none": f"{unsigned({'alg': 'none', 'kid': 'k1'}, claims)}.",
        "algorithm None": f"{unsigned({'alg': 'None', 'kid': 'k1'}, claims)}.{signature}",
        "signed with the public key": f"{by_public_key}.{hmac_of(by_public_key, issuer)}",
        "signed by a stranger": jwt.encode(claims, strangers_key, "RS256", {"kid": "k1"}),
        "brings its own key": jwt.encode(claims, strangers_key, "RS256", {"kid": "k1", "jwk": strangers_jwk}),
        "unknown key": issuer.token("alice", key_id="unknown"),
        "expired": issuer.token("alice", expires_in=-60),
        "never expires": issuer.token("alice", exp=None),
        "not valid yet": issuer.token("alice", nbf=int(time.time()) + 300),
        "wrong issuer": issuer.token("alice", iss="https://evil.test"),
        "no issuer": issuer.token("alice", iss=None),
        "wrong audience": issuer.token("alice", aud="someone-else"),
        "no audience": issuer.token("alice", aud=None),
        "no subject": issuer.token("alice", sub=None),
        "access token": issuer.token("alice", aud=None, token_use="access", client_id="inference"),
        "malformed API key": f"{PREFIX}nonsense",
        "mistyped API key": f"{str(KeyToken.new(UNKNOWN, UNKNOWN, UNKNOWN))[:-4]}AAAA",
        "access token for us": issuer.token("alice", token_use="access"),
    }
    return {"none": "", "basic": "Basic YTpi", **{name: f"Bearer {token}" for name, token in tokens.items()}}


def hmac_of(text: str, issuer: Issuer) -> str:
    """Returns a signature that uses the public key of the issuer as a shared secret."""
    jwk = json.loads(Path(issuer.jwks_url.removeprefix("file://")).read_text())["keys"][0]
    pem = jwt.PyJWK(jwk).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return urlsafe_b64encode(hmac.digest(pem, text.encode(), "sha256")).decode().rstrip("=")


@pytest.mark.row("C-1", "C-5")
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_request_without_a_valid_token_is_refused_without_a_call_to_aws(
    world: World, refused: dict[str, str], operation: Operation
) -> None:
    earlier, address = CALLS.total(), operation.address(world.alices)
    space = {"X-Space-Id": world.alices["/spaces/{id}"]}
    for flaw, header in refused.items():
        headers = {**space, "Authorization": header} if header else space
        response = world.nobody.request(operation.method, address, headers=headers, content=b"{broken")
        assert response.status_code == 401, (flaw, response.text)
        body = response.json()
        if operation.path.startswith("/v1/"):
            assert body["error"]["code"] == "unauthenticated"
        else:
            assert_error_shape(body, "unauthenticated")
            assert body["details"] == []
            assert body["request_id"] == response.headers["X-Request-Id"]
    assert CALLS.total() == earlier


@pytest.mark.row("C-1")
def test_a_request_with_a_valid_token_calls_aws(world: World) -> None:
    """Shows that the test above would notice a call."""
    earlier = CALLS.total()
    assert world.alice.get("/actions").status_code == 200
    assert CALLS.total() > earlier
