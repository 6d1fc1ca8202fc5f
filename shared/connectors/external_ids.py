"""External ids: what a space's roles must require, so that no other space can use them (the confused deputy).

AWS: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html
"""

import hashlib
import hmac
import secrets
from functools import cached_property
from typing import TYPE_CHECKING

from shared.errors import UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# Of 160 bits, like AWS's own unique ids. Nobody can guess another space's.
DIGITS = 40


class ExternalIds:
    """Derives the external id of a space from the deployment's key, which is read once."""

    def __init__(self, client: "SecretsManagerClient", key_arn: str | None) -> None:
        self._client = client
        self._key_arn = key_arn

    def of(self, space_id: str) -> str:
        """Raises UnavailableError if the deployment has no key."""
        digest = hmac.new(self._key, f"external-id:{space_id}".encode(), hashlib.sha256).hexdigest()
        return f"inference-{digest[:DIGITS]}"

    @staticmethod
    def of_nobody() -> str:
        """Returns an external id that no role should require."""
        return f"inference-{secrets.token_hex(DIGITS // 2)}"

    @cached_property
    def _key(self) -> bytes:
        if self._key_arn is None:
            raise UnavailableError("This deployment uses no roles of customers: EXTERNAL_ID_KEY_ARN is not set.")
        key = self._client.get_secret_value(SecretId=self._key_arn).get("SecretString", "")
        if not key:
            raise UnavailableError("This deployment's key of external ids is empty.")
        return key.encode()
