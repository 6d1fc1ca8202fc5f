"""API Gateway's authorizer for issuers other than Cognito: rejects a caller before any function of ours runs."""

from functools import cache
from typing import Any

from shared.aws.resources import Resources
from shared.errors import UnauthenticatedError
from shared.http.tokens import TokenVerifier, bearer_token


@cache
def _verifier() -> TokenVerifier:
    return Resources().token_verifier


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Allow the whole API to whom the issuer vouches for; the functions decide about spaces and permissions."""
    try:
        principal = _verifier().verify(bearer_token(event.get("authorizationToken", "")))
    except UnauthenticatedError:
        raise Exception("Unauthorized") from None  # the very text that API Gateway turns into a 401
    api, stage, *_ = event["methodArn"].split("/")
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{api}/{stage}/*"}
    return {
        "principalId": principal.user_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
