"""The verifier fetches the issuer's keys once, and again after a rotation, but not for each forged token."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.errors import UnauthenticatedError, UnavailableError
from shared.http import tokens
from shared.http.tokens import TokenVerifier
from tests.fixtures.identity import AUDIENCE, ISSUER, Issuer


class CountingVerifier(TokenVerifier):
    fetched = 0

    def _fetch(self, address: str) -> dict[str, Any]:  # type: ignore[override]
        self.fetched += 1
        return TokenVerifier._fetch(address)


@pytest.fixture
def verifier(issuer: Issuer) -> CountingVerifier:
    return CountingVerifier(ISSUER, AUDIENCE, issuer.jwks_url)


def test_the_keys_are_fetched_once_for_many_tokens(verifier: CountingVerifier, issuer: Issuer) -> None:
    users = {verifier.verify(issuer.token(name)).user_id for name in ("alice", "bob", "alice")}
    assert len(users) == 2
    assert verifier.fetched == 1


@pytest.mark.row("C-1")
def test_an_access_token_is_refused_even_if_it_names_our_audience(verifier: CountingVerifier, issuer: Issuer) -> None:
    assert verifier.verify(issuer.token("alice", token_use="id")).external_id == "alice"
    with pytest.raises(UnauthenticatedError, match="Send the ID token"):
        verifier.verify(issuer.token("alice", token_use="access"))


def test_tokens_with_unknown_keys_do_not_cause_requests_to_the_issuer(
    verifier: CountingVerifier, issuer: Issuer
) -> None:
    verifier.verify(issuer.token("alice"))
    for number in range(20):
        with pytest.raises(UnauthenticatedError):
            verifier.verify(issuer.token("mallory", key_id=f"forged-{number}"))
    assert verifier.fetched == 1


def test_a_rotated_key_is_accepted_after_the_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Issuer(tmp_path)
    verifier = CountingVerifier(ISSUER, AUDIENCE, old.jwks_url)
    verifier.verify(old.token("alice"))
    new_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(new_key.public_key()))
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "k2"}]}))
    claims = jwt.decode(old.token("alice"), options={"verify_signature": False})
    rotated = jwt.encode(claims, new_key, "RS256", {"kid": "k2"})
    with pytest.raises(UnauthenticatedError):
        verifier.verify(rotated)
    monkeypatch.setattr(tokens, "REFRESH_PAUSE_SECONDS", -1)
    assert verifier.verify(rotated).external_id == "alice"


def test_an_unreachable_issuer_causes_503_unless_its_keys_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer(tmp_path)
    token = issuer.token("alice")
    verifier = CountingVerifier(ISSUER, AUDIENCE, issuer.jwks_url)
    published = (tmp_path / "jwks.json").read_text()
    (tmp_path / "jwks.json").unlink()
    with pytest.raises(UnavailableError):
        verifier.verify(token)
    (tmp_path / "jwks.json").write_text(published)
    verifier.verify(token)
    (tmp_path / "jwks.json").unlink()
    monkeypatch.setattr(tokens, "KEYS_LIFETIME_SECONDS", -1)
    assert verifier.verify(token).external_id == "alice"


def test_the_address_of_the_keys_comes_from_the_discovery_document(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    folder = tmp_path / ".well-known"
    folder.mkdir()
    (folder / "openid-configuration").write_text(json.dumps({"jwks_uri": issuer.jwks_url}))
    address = tmp_path.as_uri()
    token = issuer.token("alice", iss=address)
    assert TokenVerifier(address, [AUDIENCE]).verify(token).email == "alice@example.com"
