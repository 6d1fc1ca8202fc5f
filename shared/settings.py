"""Typed settings, read from the environment once, at the first request and never at import."""

import os
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Settings of a function. Each field is the environment variable of the same name in upper case."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads and checks the environment; an empty variable counts as absent.

        Raises pydantic's ValidationError naming each missing or wrong variable.
        """
        given = {name: environment.get(name.upper()) for name in cls.model_fields}
        return cls.model_validate({name: value for name, value in given.items() if value})

    stage: str = "local"
    table_name: str
    bucket_name: str
    # The table of inference logs, and how long it keeps them.
    logs_table_name: str | None = None
    log_retention_days: int = Field(default=90, ge=1)
    # How long the audit log keeps its entries.
    audit_retention_days: int = Field(default=400, ge=1)
    # Any OpenID Connect issuer. Its keys come from jwks_url, or else from its discovery document.
    oidc_issuer: str
    # The clients whose tokens are accepted, separated by commas.
    oidc_audience: str
    oidc_jwks_url: str | None = None
    # Where the console signs in: at a user pool's own pages, or at the emulated pool.
    console_client_id: str | None = None
    console_sign_in_url: str | None = None
    console_pool_url: str | None = None
    console_pool_id: str | None = None
    # The region, as Lambda names it.
    aws_region: str | None = None
    parameter_prefix: str = "/inference/local"
    training_state_machine_arn: str | None = None
    evaluation_state_machine_arn: str | None = None
    scan_state_machine_arn: str | None = None
    prediction_state_machine_arn: str | None = None
    decision_run_state_machine_arn: str | None = None
    # Of the rows of a run, up to which functions work on them; a SageMaker job works on more.
    function_run_rows: int = Field(default=50_000_000, ge=0)
    webhook_secret_arn: str | None = None
    # The key from which the external ids of customers' roles are derived.
    external_id_key_arn: str | None = None
    webhook_url: str | None = None
    # Where messages to the spaces' own webhook endpoints wait.
    webhook_queue_url: str | None = None
    job_source_uri: str | None = None
    # The archive of packages that a function unpacks, because they don't fit beside its layers.
    packages_uri: str | None = None
    training_image_cpu: str | None = None
    training_image_gpu: str | None = None
    # Comma-separated, in the order of preference: the next one is tried when AWS has no capacity.
    cpu_instance_types: str = "ml.m5.2xlarge,ml.m5.4xlarge"
    gpu_instance_types: str = "ml.g5.2xlarge,ml.g4dn.2xlarge"
    # What the operator states of the weights of TabICL in the bucket.
    tabicl_weights_license: str | None = Field(default=None, max_length=100)
    tabicl_weights_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    max_gpu_count: int = 8
    max_instance_count: int = 4
    spot_training: bool = False
    # Limits of spaces for which an operator has set no others; none without a value.
    max_running_trainings: int | None = None
    max_running_evaluations: int | None = None
    max_running_runs: int | None = None
    max_gpu_hours_per_month: int | None = None
    max_storage_gib: int | None = None
    # The cluster of spaces that have none of their own.
    default_cluster_url: str | None = None
    default_cluster_token_parameter: str | None = None
    default_cluster_tool_calls: Literal["native", "emulated"] = "native"
    # Sender of invites: an address that Amazon SES may send as. Without it no mail is sent.
    email_sender: str | None = None
    # Address of the sign-in page in the mails to invited users.
    sign_in_url: str | None = None
    # Comma-separated origins of browser applications that may call the API, such as https://app.example.com.
    cors_origins: str | None = None
    # Comma-separated API Gateway keys. The authorizer spreads callers over them, and each is throttled separately.
    fair_shares: str | None = None
    # How long a language model may be silent.
    upstream_timeout_seconds: float = 25
    # How long all calls of language models for one request may take before its response begins.
    upstream_total_seconds: float = 26
    # Allows connectors and clusters on this machine. It is true only in the local stage.
    allow_loopback: bool = False
    # Greatest age of the membership and of the cluster state that a call may use; 0 reads them for each call.
    admission_seconds: float = Field(default=10, ge=0, le=30)
    cluster_state_seconds: float = Field(default=1, ge=0, le=5)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
