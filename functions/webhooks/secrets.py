"""The key that webhooks are signed with: the current one, and the one before while jobs still hold it."""

import time
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.observability import logger, measure
from shared.webhooks.signature import decode_secret

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# A message that no known key fits reads the keys again, but not more often than this: strangers can't make it costly.
REFRESH_PAUSE_SECONDS = 60
# The metric of keys that can't be used (infra/objectives.py).
UNUSABLE_KEYS = "UnusableWebhookKeys"


class WebhookSecrets:
    """Reads the keys once, and again after a rotation."""

    def __init__(self, client: "SecretsManagerClient", secret_arn: str) -> None:
        self._client = client
        self._secret_arn = secret_arn
        self._secrets: list[str] = []
        self._read_at = float("-inf")

    def known(self) -> list[str]:
        """Returns the keys that can be used, newest first."""
        if self._read_at == float("-inf"):
            self._read()
        return self._secrets

    def refreshed(self) -> list[str]:
        """Returns the keys that were not known before, if it is time to look."""
        if time.monotonic() - self._read_at < REFRESH_PAUSE_SECONDS:
            return []
        before = set(self._secrets)
        self._read()
        return [secret for secret in self._secrets if secret not in before]

    def _read(self) -> None:
        """Reads both keys. One that can't be used is counted, and the other one is used."""
        stages = {stage: self._stage(stage) for stage in ("AWSCURRENT", "AWSPREVIOUS")}
        usable = {stage: secret for stage, secret in stages.items() if secret is not None and _is_key(secret)}
        unusable = [stage for stage, secret in stages.items() if secret is not None and stage not in usable]
        if unusable or not usable:
            logger.error("a webhook key can't be used", extra={"stages": unusable or list(stages)})
            measure(UNUSABLE_KEYS, [len(unusable) or 1])
        self._secrets = list(usable.values())
        self._read_at = time.monotonic()

    def _stage(self, stage: str) -> str | None:
        """Returns the key of a stage: empty if it is no text, ``None`` if the secret has no such key."""
        try:
            return self._client.get_secret_value(SecretId=self._secret_arn, VersionStage=stage).get("SecretString", "")
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise


def _is_key(secret: str) -> bool:
    try:
        decode_secret(secret)
    except ValueError:
        return False
    return True
