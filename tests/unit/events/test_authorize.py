"""Tests of the authorizer that API Gateway calls."""

from collections.abc import Iterator
from typing import Any

import pytest

from functions.events import authorize
from shared.models.api_key import KeyToken
from shared.settings import Settings
from tests.fixtures.identity import Issuer

METHOD = "arn:aws:execute-api:us-east-1:000000000000:abc123/api/GET/trainings"
SPACE, OTHER_SPACE, USER, OTHER_USER, KEY, OTHER_KEY = (
    f"01a2081a-1610-752b-8cc0-d52dcf52e48{number}" for number in range(6)
)


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in settings.model_dump(exclude_none=True).items():
        monkeypatch.setenv(name.upper(), str(value))
    authorize._resources.cache_clear()
    yield
    authorize._resources.cache_clear()


def authorized(token: str | KeyToken) -> dict[str, Any]:
    return authorize.handler({"authorizationToken": f"Bearer {token}", "methodArn": METHOD}, None)


def test_a_valid_token_allows_only_the_stage_of_this_api(issuer: Issuer) -> None:
    allowed = authorized(issuer.token("alice"))
    (statement,) = allowed["policyDocument"]["Statement"]
    assert statement["Effect"] == "Allow"
    assert statement["Resource"] == "arn:aws:execute-api:us-east-1:000000000000:abc123/api/*"


@pytest.mark.row("X-5")
def test_a_well_formed_api_key_is_allowed_and_does_not_appear_in_the_policy() -> None:
    """The function behind the authorizer looks up the key."""
    key = KeyToken.new(SPACE, USER, KEY)
    allowed = authorized(key)
    assert allowed["principalId"] == f"api_key#{key.key_id}"
    assert str(key) not in str(allowed)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x.y.z", "Basic YTpi", "Bearer ik_x", f"Bearer ik_{'A' * 112}"]
)
def test_any_other_header_is_denied_without_an_error(header: str) -> None:
    """An error would be a failure of the function: enough bad tokens would roll a release back."""
    denied = authorize.handler({"authorizationToken": header, "methodArn": METHOD}, None)
    (statement,) = denied["policyDocument"]["Statement"]
    assert (statement["Effect"], set(denied)) == ("Deny", {"principalId", "policyDocument"})


@pytest.mark.row("C-15")
def test_all_tokens_of_a_user_have_one_share_and_all_keys_of_a_space_have_another(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIR_SHARES", ",".join(f"share{number:02}" for number in range(32)))

    def share(token: str | KeyToken) -> str:
        found: str = authorized(token)["usageIdentifierKey"]
        return found

    assert share(issuer.token("alice")) == share(issuer.token("alice", expires_in=60, email="alice@elsewhere.example"))
    assert share(issuer.token("alice")) != share(issuer.token("bob"))
    assert share(KeyToken.new(SPACE, USER, KEY)) == share(KeyToken.new(SPACE, OTHER_USER, OTHER_KEY))
    assert share(KeyToken.new(SPACE, USER, KEY)) != share(KeyToken.new(OTHER_SPACE, USER, KEY))


def test_a_stage_without_shares_names_no_share(issuer: Issuer) -> None:
    for token in (issuer.token("alice"), KeyToken.new(SPACE, USER, KEY)):
        assert set(authorized(token)) == {"principalId", "policyDocument"}
