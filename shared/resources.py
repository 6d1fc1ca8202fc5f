"""The clients of one process, made when first needed and kept for as long as the function is warm."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.clock import Clock, utc_now
from shared.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_sts import STSClient

    from functions.spaces.invite_mails import InviteMails
    from functions.webhooks.secrets import WebhookSecrets
    from shared.audit.store import AuditLogs
    from shared.dynamodb.table import Table
    from shared.http.authentication_cache import Admissions
    from shared.http.tokens import TokenVerifier
    from shared.inference_logs.store import InferenceLogs
    from shared.llm.clusters import Clusters
    from shared.llm.language_models import LanguageModelAccess
    from shared.llm.targets import Targets
    from shared.webhooks.queue import WebhookQueue


class Resources:
    """Settings, clock and AWS clients, handed to services by their constructors."""

    def __init__(self, settings: Settings | None = None, clock: Clock = utc_now) -> None:
        self._settings = settings
        self.clock = clock

    @cached_property
    def settings(self) -> Settings:
        return self._settings or Settings.from_environment()

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        # As many connections as the server has threads for requests; what it is sent, DynamoDB checks itself.
        client: DynamoDBClient = _client(
            "dynamodb", read_seconds=5, attempts=4, max_pool_connections=50, parameter_validation=False
        )
        return client

    @cached_property
    def table(self) -> "Table":
        from shared.dynamodb.table import Table

        return Table(self.dynamodb, self.settings.table_name)

    @cached_property
    def inference_logs(self) -> "InferenceLogs":
        from datetime import timedelta

        from shared.dynamodb.table import Table
        from shared.errors import UnavailableError
        from shared.inference_logs.store import InferenceLogs

        if self.settings.logs_table_name is None:
            raise UnavailableError("This deployment keeps no inference logs: LOGS_TABLE_NAME is not set.")
        table = Table(self.dynamodb, self.settings.logs_table_name)
        return InferenceLogs(table, self.clock, timedelta(days=self.settings.log_retention_days))

    @cached_property
    def audit_logs(self) -> "AuditLogs":
        from datetime import timedelta

        from shared.audit.store import AuditLogs

        return AuditLogs(self.table, self.clock, timedelta(days=self.settings.audit_retention_days))

    @cached_property
    def token_verifier(self) -> "TokenVerifier":
        from shared.http.tokens import TokenVerifier

        return TokenVerifier(self.settings.oidc_issuer, self.settings.oidc_audience, self.settings.oidc_jwks_url)

    @cached_property
    def admissions(self) -> "Admissions":
        from shared.http.authentication_cache import Admissions

        return Admissions(self.settings.admission_seconds, self.clock)

    @cached_property
    def clusters(self) -> "Clusters":
        from datetime import timedelta

        from shared.llm.clusters import Clusters

        return Clusters(self.table, self.clock, timedelta(seconds=self.settings.cluster_state_seconds))

    @cached_property
    def s3(self) -> "S3Client":
        # Presigned POSTs and virtual-host addresses need the region's own endpoint and signature version 4.
        client: S3Client = _client("s3", read_seconds=8, attempts=3, signature_version="s3v4")
        return client

    @cached_property
    def step_functions(self) -> "SFNClient":
        # What can't be started or stopped at once, the reconciler sees to.
        client: SFNClient = _client("stepfunctions", read_seconds=5, attempts=2)
        return client

    @cached_property
    def sagemaker(self) -> "SageMakerClient":
        client: SageMakerClient = _client("sagemaker", read_seconds=4, attempts=3)
        return client

    @cached_property
    def ssm(self) -> "SSMClient":
        client: SSMClient = _client("ssm", read_seconds=4, attempts=3)
        return client

    @cached_property
    def secrets_manager(self) -> "SecretsManagerClient":
        client: SecretsManagerClient = _client("secretsmanager", read_seconds=4, attempts=3)
        return client

    @cached_property
    def webhook_secrets(self) -> "WebhookSecrets":
        from functions.webhooks.secrets import WebhookSecrets
        from shared.errors import UnavailableError

        if self.settings.webhook_secret_arn is None:
            raise UnavailableError("This deployment takes no webhooks: WEBHOOK_SECRET_ARN is not set.")
        return WebhookSecrets(self.secrets_manager, self.settings.webhook_secret_arn)

    @cached_property
    def webhook_queue(self) -> "WebhookQueue":
        from shared.errors import UnavailableError
        from shared.webhooks.queue import WebhookQueue

        if self.settings.webhook_queue_url is None:
            raise UnavailableError("This deployment sends no webhooks: WEBHOOK_QUEUE_URL is not set.")
        return WebhookQueue(_client("sqs", read_seconds=4, attempts=3), self.settings.webhook_queue_url, self.clock)

    @cached_property
    def invite_mails(self) -> "InviteMails":
        from functions.spaces.invite_mails import InviteMails

        sender = self.settings.email_sender
        return InviteMails(self._ses() if sender else None, sender, self.settings.sign_in_url)

    @staticmethod
    def _ses() -> Any:
        # What could not be sent is sent again by inviting again.
        return _client("sesv2", read_seconds=5, attempts=2)

    @cached_property
    def language_model_targets(self) -> "Targets":
        from shared.llm.targets import Targets

        return Targets(self)

    @cached_property
    def language_models(self) -> "LanguageModelAccess":
        from shared.llm.language_models import LanguageModelAccess

        return LanguageModelAccess(self)

    @cached_property
    def sts(self) -> "STSClient":
        client: STSClient = _client("sts", read_seconds=4, attempts=3)
        return client


def _client(service: str, *, read_seconds: float, attempts: int, **settings: Any) -> Any:
    """A client that gives up before API Gateway and the function do, after 29 s, also when AWS is silent.

    Each attempt waits ``read_seconds`` at most; before the second, third and fourth are pauses of up to 1, 2 and 4 s.
    """
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    config = Config(connect_timeout=2, read_timeout=read_seconds, retries=retries, **settings)
    session: Any = boto3
    return session.client(service, config=config)
