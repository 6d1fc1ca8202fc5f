"""A forged API key learns nothing: not about keys, not about members, not about spaces."""

from dataclasses import replace
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.models.api_key import KeyToken
from tests.fixtures.evaluations import add_member
from tests.functional.api_keys.helpers import client_with_key, create_key
from tests.functional.conftest import ClientMaker


@pytest.fixture
def tokens(client: TestClient, sign_in: ClientMaker, table: Table) -> dict[str, KeyToken]:
    """Returns keys that are not valid, each for another reason."""
    space = client.headers["X-Space-Id"]
    erin = sign_in("erin", space=space)
    add_member(table, erin, space, [])
    left = KeyToken.parse(create_key(erin, "read")["key"])
    client.delete(f"/spaces/{space}/members/{erin.get('/me').json()['id']}").raise_for_status()
    good, revoked = (create_key(client, "read") for _ in range(2))
    client.delete(f"/api-keys/{revoked['id']}").raise_for_status()
    key, gone = KeyToken.parse(good["key"]), KeyToken.parse(revoked["key"])
    assert key
    assert gone
    assert left
    return {
        "wrong secret": KeyToken.new(key.space_id, key.user_id, key.key_id),
        "unknown key": KeyToken.new(key.space_id, key.user_id, str(uuid4())),
        "revoked key": gone,
        "stranger in the space": KeyToken.new(key.space_id, str(uuid4()), key.key_id),
        "member who left": left,
        "forged for a member who left": replace(left, secret=key.secret),
        "unknown space": KeyToken.new(str(uuid4()), key.user_id, key.key_id),
        "deleted or unknown everything": KeyToken.new(*(str(uuid4()) for _ in range(3))),
    }


@pytest.mark.row("SE-8")
def test_every_invalid_key_gets_the_same_response_after_the_same_reads(
    client: TestClient, tokens: dict[str, KeyToken]
) -> None:
    calls: list[str] = []
    client.app.state.resources.dynamodb.meta.events.register(  # type: ignore[attr-defined]
        "before-call", lambda model, **_: calls.append(model.name)
    )
    seen = {}
    for reason, token in tokens.items():
        calls.clear()
        response = client_with_key(client, str(token)).get("/data-models")
        body = {name: value for name, value in response.json().items() if name != "request_id"}
        seen[reason] = (response.status_code, tuple(map(str, body.values())), tuple(calls))
    assert len(set(seen.values())) == 1, seen
    assert seen["wrong secret"][0] == 401
    assert seen["wrong secret"][2] == ("BatchGetItem",)
