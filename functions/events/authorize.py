"""API Gateway's authorizer: rejects a caller before any other function of ours runs.

An API key is only held against its checksum here, for the answer is remembered by API Gateway for minutes: whether the
key is still good is looked up by the function that serves the request. So this one needs no access to anything.
"""

from functools import cache
from typing import Any
from uuid import UUID

from shared.errors import UnauthenticatedError
from shared.http.tokens import bearer_token
from shared.models.api_key import PREFIX, KeyToken
from shared.resources import Resources


@cache
def _resources() -> Resources:
    return Resources()


def _caller(token: str) -> tuple[str, str | None]:
    """Returns the name of the caller in the access log, and the caller's share. Raises UnauthenticatedError."""
    if not token.startswith(PREFIX):
        user_id = _resources().token_verifier.verify(token).user_id
        return user_id, _fair_share(user_id, signed_in=True)
    key = KeyToken.parse(token)
    if key is None:
        raise UnauthenticatedError("The API key is not one of ours.")
    return f"api_key#{key.key_id}", _fair_share(key.space_id, signed_in=False)


def _fair_share(owner_id: str, *, signed_in: bool) -> str | None:
    """API Gateway's key that the owner's requests count for, always the same; None where the stage has no shares.

    Half of the shares are for API keys, so that no program slows down who is signed in.
    """
    shares = _resources().settings.fair_shares
    if shares is None:
        return None
    half = shares.split(",")[int(signed_in) :: 2]
    return half[UUID(owner_id).int % len(half)]


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Allows the whole API to callers with a valid token. The functions decide about spaces and permissions.

    Other callers are denied. An error would also be a 401, but it would count as a failure of this function.
    """
    effect, caller, share = "Allow", "nobody", None
    try:
        caller, share = _caller(bearer_token(event.get("authorizationToken", "")))
    except UnauthenticatedError:
        effect = "Deny"
    api, stage, *_ = event["methodArn"].split("/")
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{api}/{stage}/*"}
    answer: dict[str, Any] = {
        "principalId": caller,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
    if share:
        answer["usageIdentifierKey"] = share
    return answer
