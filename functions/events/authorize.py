"""API Gateway's authorizer: rejects a caller before any other function of ours runs.

An API key is only held against its checksum here, for the answer is remembered by API Gateway for minutes: whether the
key is still good is looked up by the function that serves the request. So this one needs no access to anything.
"""

from functools import cache
from typing import Any

from shared.aws.resources import Resources
from shared.errors import UnauthenticatedError
from shared.http.tokens import TokenVerifier, bearer_token
from shared.models.api_key import PREFIX, KeyToken


@cache
def _verifier() -> TokenVerifier:
    return Resources().token_verifier


def _caller(token: str) -> str:
    """What the access log calls the caller. Raises UnauthenticatedError."""
    if not token.startswith(PREFIX):
        return _verifier().verify(token).user_id
    key = KeyToken.parse(token)
    if key is None:
        raise UnauthenticatedError("The API key is not one of ours.")
    return f"api_key#{key.key_id}"


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Allow the whole API to whom the issuer vouches for; the functions decide about spaces and permissions."""
    try:
        caller = _caller(bearer_token(event.get("authorizationToken", "")))
    except UnauthenticatedError:
        raise Exception("Unauthorized") from None  # the very text that API Gateway turns into a 401
    api, stage, *_ = event["methodArn"].split("/")
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{api}/{stage}/*"}
    return {
        "principalId": caller,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
