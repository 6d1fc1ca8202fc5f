"""Defines the settings of each stage: everything that differs between a laptop, a test account and production."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_logs as logs

# AWS publishes its Deep Learning Containers here in most regions. docs/operating.md lists the exceptions.
IMAGE_REGISTRY_ACCOUNT = "763104351884"
IMAGE_REPOSITORY = "pytorch"
# The container provides Python (infra.package.JOB_PYTHON_VERSION) and CUDA. The job's libraries come from the lock.
IMAGE_TAG_CPU = "2.14.0-cpu-amzn2023-sagemaker"
IMAGE_TAG_GPU = "2.14.0-cu133-amzn2023-sagemaker"
# AWS patches these containers until then: https://aws.github.io/deep-learning-containers/reference/support_policy
IMAGES_PATCHED_UNTIL = date(2027, 9, 28)

# AWS's Lambda Web Adapter 1.1.0. Lambda's Python runtime cannot stream, but a web server behind the adapter can.
WEB_ADAPTER_ACCOUNT = "753240598075"
WEB_ADAPTER_LAYER = "LambdaAdapterLayerArm64:30"

# "v1" would be confusing, because /v1/chat/completions is a path of the API.
API_STAGE = "api"

# The number of shares that callers are distributed to. API Gateway throttles each share separately.
FAIR_SHARES = 32

OVERRIDABLE = (
    "alarm_email",
    "aws_endpoint_url",
    "certificate_arn",
    "cors_origins",
    "default_cluster_token_parameter",
    "default_cluster_tool_calls",
    "default_cluster_url",
    "domain_name",
    "email_sender",
    "job_network",
    "oidc_audience",
    "oidc_issuer",
    "oidc_jwks_url",
    "restored_entities",
    "restored_logs",
    "sign_in_url",
    "sign_up",
    "tabicl_weights_license",
    "tabicl_weights_sha256",
    "training_image_cpu",
    "training_image_gpu",
    "webhook_url",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """Settings of a deployment. Times are in seconds unless a name ends in another unit."""

    stage: str
    # Data outlives its stack, and the tables and the user pool are protected against deletion.
    retain_data: bool = False
    point_in_time_recovery: bool = False
    # Streams of restored tables that replace the stage's own tables (docs/runbooks/restore.md).
    restored_entities: str | None = None
    restored_logs: str | None = None
    # Encrypts tables, bucket, secrets and alarms with a KMS key of the account instead of AWS's keys.
    customer_managed_key: bool = False
    # Stores S3 server access logs in a separate bucket.
    access_log_bucket: bool = True
    log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH
    log_level: str = "INFO"
    # How long inference logs keep calls to language models.
    inference_log_days: int = 90
    # How long the audit log keeps its entries.
    audit_log_days: int = 400

    throttling_rate: int = 100
    throttling_burst: int = 200
    # Requests per second of each share. Bursts may be twice as large. None makes no shares.
    share_throttling_rate: int | None = None
    # Requests per minute that the web ACL allows one IP address. None makes no web ACL.
    firewall_rate: int | None = None
    # Origins of browser applications, such as https://app.example.com.
    cors_origins: tuple[str, ...] = ()
    # Domain of the API, and a certificate for it in the API's region. None: API Gateway's own address.
    domain_name: str | None = None
    certificate_arn: str | None = None

    # Uses the Lambda layers with third-party packages that infra.package builds.
    layers: bool = True
    # Streams completions of language models. Without streaming, a completion is sent as a whole.
    streaming: bool = True
    # Starts API functions from snapshots in a few hundred ms. Snapshots cost storage (docs/operating.md).
    snap_start: bool = False
    # A new version of an API function takes a tenth of the requests for five minutes, and is rolled back if it fails.
    gradual_releases: bool = False
    # Creates the dashboard, the alarms and their topic.
    observability: bool = True
    alarm_email: str | None = None

    # OpenID Connect issuer outside this stack, which also needs oidc_audience. None makes a Cognito user pool.
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_jwks_url: str | None = None
    user_password_auth: bool = False
    # "open": anyone may create an account. "closed": only an operator may (docs/operating.md).
    sign_up: str = "open"

    # Sender of invitations, which Amazon SES must have verified, and the address of the sign-in page. None: no mail.
    email_sender: str | None = None
    sign_in_url: str | None = None

    # In order of preference. A job tries the next type when AWS has no capacity.
    cpu_instance_types: tuple[str, ...] = ("ml.m5.2xlarge", "ml.m5.4xlarge", "ml.c5.4xlarge")
    gpu_instance_types: tuple[str, ...] = ("ml.g5.2xlarge", "ml.g4dn.2xlarge", "ml.g6.2xlarge")
    max_gpu_count: int = 8
    max_instance_count: int = 4
    # Limits of a space. `python -m infra.operations limits` sets others for single spaces (docs/limits.md).
    max_running_trainings: int = 10
    max_running_evaluations: int = 20
    max_running_runs: int = 10
    max_gpu_hours_per_month: int = 500
    max_storage_gib: int = 1024
    spot_training: bool = False
    # Keeps an instance for the next job, which then starts in seconds. AWS bills the time. Spot does not support it.
    warm_pool_seconds: int = 0
    # "isolated": jobs run in an own network without a way to the internet (docs/operating.md). "open": they may use it.
    job_network: str = "open"
    capacity_wait: int = 60
    training_image_cpu: str | None = None
    training_image_gpu: str | None = None
    # License (SPDX identifier) and checksum of the weights of TabICL, which the operator has put into the bucket.
    tabicl_weights_license: str | None = None
    tabicl_weights_sha256: str | None = None
    scan_concurrency: int = 40
    # Functions of one run at the same time, and the rows up to which they carry a run out.
    run_concurrency: int = 40
    function_run_rows: int = 50_000_000
    # Server of language models for spaces that register none: its address, and the parameter with its token.
    default_cluster_url: str | None = None
    default_cluster_token_parameter: str | None = None
    default_cluster_tool_calls: str = "native"

    # Only the local stage sets these: the address of the emulator, and the address of the API for its jobs.
    aws_endpoint_url: str | None = None
    webhook_url: str | None = None
    allow_loopback: bool = False

    def __post_init__(self) -> None:
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("oidc_issuer is set without oidc_audience: add -c oidc_audience=<the tokens' audience>")
        if self.spot_training and self.warm_pool_seconds:
            raise ValueError("SageMaker keeps no warm pool of spot instances: set one of the two")
        if bool(self.domain_name) != bool(self.certificate_arn):
            raise ValueError("domain_name and certificate_arn belong together: give both or none")
        if wrong := [one for one in self.cors_origins if not re.fullmatch(r"https?://[^/*?#\s]+", one)]:
            raise ValueError(f"cors_origins are schemes and hosts, such as https://app.example.com (got {wrong[0]!r})")
        if self.job_network not in ("open", "isolated"):
            raise ValueError(f"job_network is 'open' or 'isolated', not {self.job_network!r}")
        if self.sign_up not in ("open", "closed"):
            raise ValueError(f"sign_up is 'open' or 'closed', not {self.sign_up!r}")
        if bool(self.tabicl_weights_license) != bool(self.tabicl_weights_sha256):
            raise ValueError("tabicl_weights_license and tabicl_weights_sha256 belong together: give both or none")
        if self.tabicl_weights_sha256 and not re.fullmatch("[0-9a-f]{64}", self.tabicl_weights_sha256):
            raise ValueError("tabicl_weights_sha256 is what `sha256sum` prints: 64 hexadecimal digits")
        if self.tabicl_weights_license and not re.fullmatch("[A-Za-z0-9][A-Za-z0-9.+-]*", self.tabicl_weights_license):
            raise ValueError("tabicl_weights_license is an SPDX identifier such as BSD-3-Clause, or LicenseRef-<name>")
        token, tokens = self.default_cluster_token_parameter, f"{self.parameter_prefix}/clusters/"
        if token and not token.startswith(tokens):
            raise ValueError(f"default_cluster_token_parameter: functions may read only parameters below {tokens}")

    @property
    def removal_policy(self) -> cdk.RemovalPolicy:
        return cdk.RemovalPolicy.RETAIN if self.retain_data else cdk.RemovalPolicy.DESTROY

    @property
    def parameter_prefix(self) -> str:
        return f"/inference/{self.stage}"

    @property
    def metrics_namespace(self) -> str:
        """Namespace of the stage's metrics, so that stages in one account share no metrics."""
        return f"Inference/{self.stage}"

    @property
    def fair_shares(self) -> tuple[str, ...]:
        """Values of API Gateway's keys: 20 to 128 letters and digits, unique in the account and region.

        The values are not secret, because API Gateway takes them only from the authorizer.
        """
        numbers = range(FAIR_SHARES if self.share_throttling_rate else 0)
        return tuple(f"inference{self.stage}fairshare{number:02}" for number in numbers)

    @property
    def types_with_volume_key(self) -> list[str]:
        """Returns the instance types without disks of their own. SageMaker takes a volume key for these only."""
        types = (*self.cpu_instance_types, *self.gpu_instance_types)
        return [one for one in types if not re.match(r"ml\.(g\d|p\d|trn|\w+\dd)", one)]

    def name(self, part: str) -> str:
        """Returns the name of a resource that other resources must know before it exists."""
        return f"inference-{self.stage}-{part}"

    def image(self, *, gpu: bool) -> str:
        """Returns the URI of the training container in the region of the deployment."""
        own = self.training_image_gpu if gpu else self.training_image_cpu
        tag = IMAGE_TAG_GPU if gpu else IMAGE_TAG_CPU
        return own or f"{IMAGE_REGISTRY_ACCOUNT}.dkr.ecr.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}/{IMAGE_REPOSITORY}:{tag}"


PROD = StageSettings(
    stage="prod",
    retain_data=True,
    point_in_time_recovery=True,
    customer_managed_key=True,
    sign_up="closed",
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
            # The emulator runs functions in its own Python environment, which has every package.
            layers=False,
            # The emulator's API Gateway returns 500 for a streaming integration. The API server of `make up` streams.
            streaming=False,
            observability=False,
            user_password_auth=True,
            # The emulator accepts mail from any address.
            email_sender="invites@inference.local",
            cpu_instance_types=("ml.m5.2xlarge", "ml.m5.4xlarge"),
            gpu_instance_types=("ml.g5.2xlarge", "ml.g4dn.2xlarge"),
            capacity_wait=1,
            scan_concurrency=2,
            run_concurrency=2,
            function_run_rows=100_000,
            aws_endpoint_url="http://127.0.0.1:4566",
            webhook_url="http://127.0.0.1:8000/webhooks",
            allow_loopback=True,
        ),
        StageSettings(stage="dev", spot_training=True),
        # Staging differs from production only in its name and log retention.
        replace(PROD, stage="staging", log_retention=logs.RetentionDays.ONE_MONTH),
        PROD,
    )
}


def stage_settings(stage: str | None, overrides: Mapping[str, str | None]) -> StageSettings:
    """Returns the settings of ``stage`` with the overrides of the command line (``-c name=value``).

    Raises ValueError if the stage is missing or unknown.
    """
    if stage not in STAGES:
        raise ValueError(f"name a stage: -c stage={'|'.join(STAGES)} (got {stage!r})")
    given: dict[str, Any] = {name: value for name in OVERRIDABLE if (value := overrides.get(name))}
    if "cors_origins" in given:
        given["cors_origins"] = tuple(given["cors_origins"].split(","))
    return replace(STAGES[stage], **given)
