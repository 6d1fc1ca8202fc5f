"""API Gateway's authorizer."""

from collections.abc import Iterator

import pytest

from functions.events import authorize
from shared.models.api_key import KeyToken
from shared.settings import Settings
from tests.fixtures.identity import Issuer

METHOD = "arn:aws:execute-api:us-east-1:000000000000:abc123/api/GET/trainings"


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in settings.model_dump(exclude_none=True).items():
        monkeypatch.setenv(name.upper(), str(value))
    authorize._verifier.cache_clear()
    yield
    authorize._verifier.cache_clear()


def test_a_valid_token_opens_the_stage_of_this_api_only(issuer: Issuer) -> None:
    answer = authorize.handler({"authorizationToken": f"Bearer {issuer.token('alice')}", "methodArn": METHOD}, None)
    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Effect"] == "Allow"
    assert statement["Resource"] == "arn:aws:execute-api:us-east-1:000000000000:abc123/api/*"


@pytest.mark.row("X-5")
def test_a_well_formed_api_key_is_let_through_to_who_looks_it_up() -> None:
    key = KeyToken.new(*["01a2081a-1610-752b-8cc0-d52dcf52e48d"] * 3)
    answer = authorize.handler({"authorizationToken": f"Bearer {key}", "methodArn": METHOD}, None)
    assert answer["principalId"] == f"api_key#{key.key_id}"
    assert str(key) not in str(answer)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x.y.z", "Basic YTpi", "Bearer ik_x", f"Bearer ik_{'A' * 112}"]
)
def test_anything_else_is_unauthorized_in_api_gateways_own_word(header: str) -> None:
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorize.handler({"authorizationToken": header, "methodArn": METHOD}, None)
