"""The key that webhooks are signed with: the current one, and the one before while jobs still hold it."""

import time
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# A message that no known key fits reads the keys again, but not more often than this: strangers can't make it costly.
REFRESH_PAUSE_SECONDS = 60


class WebhookSecrets:
    """Reads the keys once, and again after a rotation."""

    def __init__(self, client: "SecretsManagerClient", secret_arn: str) -> None:
        self._client = client
        self._secret_arn = secret_arn
        self._secrets: list[str] = []
        self._read_at = float("-inf")

    def known(self) -> list[str]:
        """Returns the keys, newest first."""
        if not self._secrets:
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
        stages = (self._stage("AWSCURRENT"), self._stage("AWSPREVIOUS"))
        self._secrets = [secret for secret in stages if secret]
        self._read_at = time.monotonic()

    def _stage(self, stage: str) -> str | None:
        try:
            return self._client.get_secret_value(SecretId=self._secret_arn, VersionStage=stage)["SecretString"]
        except ClientError as error:
            if stage == "AWSPREVIOUS" and error.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise
