"""One typed settings object per stage: everything that differs between a laptop, a test account and production."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import aws_cdk as cdk
from aws_cdk import aws_logs as logs

# Where AWS publishes its Deep Learning Containers in most regions; the list of exceptions is in docs/operating.md.
IMAGE_REGISTRY_ACCOUNT = "763104351884"
IMAGE_REPOSITORY = "pytorch-training"
# Only script mode, Python and CUDA are used of it. The libraries come from the source archive's requirements.txt.
IMAGE_TAG_CPU = "2.6.0-cpu-py312-ubuntu22.04-sagemaker"
IMAGE_TAG_GPU = "2.6.0-gpu-py312-cu126-ubuntu22.04-sagemaker"

# AWS's Lambda Web Adapter 1.1.0: Python's runtime does not stream, a web server behind the adapter does.
WEB_ADAPTER_ACCOUNT = "753240598075"
WEB_ADAPTER_LAYER = "LambdaAdapterLayerArm64:30"

# Not v1: /v1/chat/completions is a path of the API itself.
API_STAGE = "api"

# Callers are spread over so many shares, each throttled by itself.
FAIR_SHARES = 32

OVERRIDABLE = (
    "alarm_email",
    "aws_endpoint_url",
    "default_cluster_token_parameter",
    "default_cluster_tool_calls",
    "default_cluster_url",
    "email_sender",
    "oidc_audience",
    "oidc_issuer",
    "oidc_jwks_url",
    "restored_entities",
    "restored_logs",
    "sign_in_url",
    "training_image_cpu",
    "training_image_gpu",
    "webhook_url",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """What one deployment looks like. Times are in seconds unless named otherwise."""

    stage: str
    # Data outlives its stack, and neither the table nor the user pool can be deleted by accident.
    retain_data: bool = False
    point_in_time_recovery: bool = False
    # The streams of tables that stand in for the stage's own, after a restore (docs/runbooks/restore.md).
    restored_entities: str | None = None
    restored_logs: str | None = None
    # Our own KMS key for the table, the bucket, secrets and alarms, instead of AWS's.
    customer_managed_key: bool = False
    # S3 server access logs in a bucket of their own.
    access_log_bucket: bool = True
    log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH
    log_level: str = "INFO"
    # Calls to language models are told of for so long.
    inference_log_days: int = 90
    # Who wrote what is told for so long.
    audit_log_days: int = 400

    throttling_rate: int = 100
    throttling_burst: int = 200
    # What each share of the callers may send in a second, and twice of it at once; None: there are no shares.
    share_throttling_rate: int | None = None
    # What a web ACL lets one address send in a minute; None: there is none.
    firewall_rate: int | None = None
    cors_origins: tuple[str, ...] = ()

    # Third-party packages as Lambda layers, built by infra.package for Lambda's platform.
    layers: bool = True
    # Answers of language models are sent as they come; where nothing streams, each is sent as a whole.
    streaming: bool = True
    # Snapshots of initialised API functions: cold starts of a few hundred ms, at a storage price (docs/operating.md).
    snap_start: bool = False
    # A new version of an API function takes a tenth of the requests for five minutes, and is taken back if it fails.
    gradual_releases: bool = False
    # Dashboard, alarms and the topic they go to.
    observability: bool = True
    alarm_email: str | None = None

    # A foreign OpenID Connect issuer; None makes a Cognito user pool. With an issuer, the audience is needed as well.
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_jwks_url: str | None = None
    user_password_auth: bool = False

    # Who invites come from, an address that Amazon SES may send as, and where the invited sign in; None: no mail.
    email_sender: str | None = None
    sign_in_url: str | None = None

    # In order of preference: the next one is tried when AWS has no capacity.
    cpu_instance_types: tuple[str, ...] = ("ml.m5.2xlarge", "ml.m5.4xlarge", "ml.c5.4xlarge")
    gpu_instance_types: tuple[str, ...] = ("ml.g5.2xlarge", "ml.g4dn.2xlarge", "ml.g6.2xlarge")
    max_gpu_count: int = 8
    spot_training: bool = False
    # Keeps an instance for the next job, which then starts in seconds; paid by the second. Not possible with spot.
    warm_pool_seconds: int = 0
    capacity_wait: int = 60
    training_image_cpu: str | None = None
    training_image_gpu: str | None = None
    scan_concurrency: int = 40
    # A server of language models for the spaces that register none: its address, and the parameter with its token.
    default_cluster_url: str | None = None
    default_cluster_token_parameter: str | None = None
    default_cluster_tool_calls: str = "native"

    # Only the local stage has these: the emulator's address, and where its jobs reach the API.
    aws_endpoint_url: str | None = None
    webhook_url: str | None = None
    allow_loopback: bool = False

    def __post_init__(self) -> None:
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("oidc_issuer is set without oidc_audience: add -c oidc_audience=<the tokens' audience>")
        if self.spot_training and self.warm_pool_seconds:
            raise ValueError("SageMaker keeps no warm pool of spot instances: set one of the two")
        token, tokens = self.default_cluster_token_parameter, f"{self.parameter_prefix}/clusters/"
        if token and not token.startswith(tokens):
            raise ValueError(f"default_cluster_token_parameter: functions may read only what is named {tokens}…")

    @property
    def removal_policy(self) -> cdk.RemovalPolicy:
        return cdk.RemovalPolicy.RETAIN if self.retain_data else cdk.RemovalPolicy.DESTROY

    @property
    def parameter_prefix(self) -> str:
        return f"/inference/{self.stage}"

    @property
    def metrics_namespace(self) -> str:
        """Stages that share an account share no metrics."""
        return f"Inference/{self.stage}"

    @property
    def fair_shares(self) -> tuple[str, ...]:
        """The values of API Gateway's keys: 20 to 128 letters and digits, and no other's in the account and region.

        They are names and no secrets, for API Gateway takes them from the authorizer only.
        """
        numbers = range(FAIR_SHARES if self.share_throttling_rate else 0)
        return tuple(f"inference{self.stage}fairshare{number:02}" for number in numbers)

    def name(self, part: str) -> str:
        """The name of a resource that others must know before it exists."""
        return f"inference-{self.stage}-{part}"

    def image(self, *, gpu: bool) -> str:
        """The training container's URI, in the region deployed to."""
        own = self.training_image_gpu if gpu else self.training_image_cpu
        tag = IMAGE_TAG_GPU if gpu else IMAGE_TAG_CPU
        return own or f"{IMAGE_REGISTRY_ACCOUNT}.dkr.ecr.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}/{IMAGE_REPOSITORY}:{tag}"


PROD = StageSettings(
    stage="prod",
    retain_data=True,
    point_in_time_recovery=True,
    customer_managed_key=True,
    log_retention=logs.RetentionDays.ONE_YEAR,
    throttling_rate=1_000,
    throttling_burst=2_000,
    share_throttling_rate=200,
    firewall_rate=6_000,
    snap_start=True,
    gradual_releases=True,
)

STAGES = {
    settings.stage: settings
    for settings in (
        StageSettings(
            stage="local",
            access_log_bucket=False,
            log_retention=logs.RetentionDays.ONE_DAY,
            throttling_rate=10_000,
            throttling_burst=5_000,
            # The emulator runs functions inside its own interpreter, whose environment holds every package already.
            layers=False,
            # Its API Gateway answers 500 to a streaming integration; the API server of `make up` streams.
            streaming=False,
            observability=False,
            user_password_auth=True,
            # The emulator's mailbox takes everything.
            email_sender="invites@inference.local",
            cpu_instance_types=("ml.m5.2xlarge", "ml.m5.4xlarge"),
            gpu_instance_types=("ml.g5.2xlarge", "ml.g4dn.2xlarge"),
            capacity_wait=1,
            scan_concurrency=2,
            aws_endpoint_url="http://127.0.0.1:4566",
            webhook_url="http://127.0.0.1:8000/webhooks",
            allow_loopback=True,
        ),
        StageSettings(stage="dev", spot_training=True),
        # Production in all but its name and how long logs stay: what is deployed there is rehearsed.
        replace(PROD, stage="staging", log_retention=logs.RetentionDays.ONE_MONTH),
        PROD,
    )
}


def stage_settings(stage: str | None, overrides: Mapping[str, str | None]) -> StageSettings:
    """The settings of ``stage`` with what the command line overrides (``-c name=value``).

    Raises ValueError naming the choices when the stage is missing or unknown.
    """
    if stage not in STAGES:
        raise ValueError(f"say which stage: -c stage={'|'.join(STAGES)} (got {stage!r})")
    given = {name: value for name in OVERRIDABLE if (value := overrides.get(name))}
    return replace(STAGES[stage], **given)  # type: ignore[arg-type]  # all overridable fields are strings
