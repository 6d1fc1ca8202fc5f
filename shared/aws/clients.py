"""Makes the AWS clients of one process."""

from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.aws.space_guard import guard_client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_sts import STSClient

# boto3's default session is not safe to make clients from several threads.
making_clients = Lock()


class _LazyClient:
    """A boto3 client that is made at its first use: making one takes about 100 ms, and few requests need all."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @cached_property
    def _client(self) -> Any:
        with making_clients:
            return self.__dict__.get("_client") or self._make()


class Clients:
    """AWS clients by the name of their service. Tests replace one with a keyword: ``Clients(sagemaker=fake)``."""

    def __init__(self, **replaced: Any) -> None:
        if unknown := [name for name in replaced if not isinstance(getattr(Clients, name, None), cached_property)]:
            raise TypeError(f"there is no client named {', '.join(unknown)}")
        self.__dict__.update(replaced)

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        # The server has up to 50 threads for requests. DynamoDB validates parameters itself.
        client: DynamoDBClient = _client(
            "dynamodb",
            read_seconds=5,
            attempts=4,
            max_pool_connections=50,
            parameter_validation=False,
            # botocore writes its own, long one anew for each call.
            user_agent="inference-api",
        )
        return client

    @cached_property
    def s3(self) -> "S3Client":
        # Without virtual addressing, upload forms name the global host, which redirects and does not know new regions.
        client: S3Client = _client(
            "s3", read_seconds=8, attempts=3, signature_version="s3v4", s3={"addressing_style": "virtual"}
        )
        return client

    @cached_property
    def step_functions(self) -> "SFNClient":
        # The reconciler repeats a start or stop that fails.
        client: SFNClient = _client("stepfunctions", read_seconds=5, attempts=2)
        return client

    @cached_property
    def sagemaker(self) -> "SageMakerClient":
        client: SageMakerClient = _client("sagemaker", read_seconds=4, attempts=3)
        return client

    @cached_property
    def logs(self) -> Any:
        return _client("logs", read_seconds=4, attempts=3)

    @cached_property
    def ssm(self) -> "SSMClient":
        client: SSMClient = _client("ssm", read_seconds=4, attempts=3)
        return client

    @cached_property
    def secrets_manager(self) -> "SecretsManagerClient":
        client: SecretsManagerClient = _client("secretsmanager", read_seconds=4, attempts=3)
        return client

    @cached_property
    def sqs(self) -> Any:
        return _client("sqs", read_seconds=4, attempts=3)

    @cached_property
    def ses(self) -> Any:
        # An owner repeats a mail that fails by inviting again.
        return _client("sesv2", read_seconds=5, attempts=2)

    @cached_property
    def sts(self) -> "STSClient":
        client: STSClient = _client("sts", read_seconds=4, attempts=3)
        return client


def _client(service: str, *, read_seconds: float, attempts: int, **settings: Any) -> Any:
    """Returns a client that gives up before API Gateway and the function do, after 29 s.

    Each attempt waits at most ``read_seconds``. Before the second, third and fourth attempt are pauses of up to 1, 2
    and 4 s.
    """

    def make() -> Any:
        import boto3
        from botocore.config import Config

        retries: Any = {"mode": "standard", "total_max_attempts": attempts}
        config = Config(connect_timeout=2, read_timeout=read_seconds, retries=retries, **settings)
        session: Any = boto3
        client = session.client(service, config=config)
        if service in ("dynamodb", "s3"):
            guard_client(client)
        if service == "dynamodb":
            from shared.aws.item_calls import shorten_item_calls

            shorten_item_calls(client)
        return client

    return _LazyClient(make)
