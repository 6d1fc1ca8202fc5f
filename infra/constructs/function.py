"""Creates Lambda functions, each with its own role and log group."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.constructs.releases import Releases
from infra.groups import FunctionSpec, Grants, Layer, Workflow
from infra.nag import acknowledge, justify_wildcards
from infra.settings import WEB_ADAPTER_ACCOUNT, WEB_ADAPTER_LAYER, StageSettings
from infra.stacks.data import DataStack

# SageMaker's name for the logs of all training jobs of an account.
JOB_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
RUNTIME = lambda_.Runtime.PYTHON_3_13

# The adapter starts the handler script and forwards requests once the script listens on PORT.
_WEB_ADAPTER_VARIABLES = {
    "AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap",
    "AWS_LWA_INVOKE_MODE": "response_stream",
    "AWS_LWA_READINESS_CHECK_PROTOCOL": "tcp",
    "PORT": "8080",
    # API Gateway closes a stream after five minutes without data. Two upstream servers fit into that time.
    "UPSTREAM_TIMEOUT_SECONDS": "120",
    "UPSTREAM_TOTAL_SECONDS": "240",
}

_TABLE_READS = ("dynamodb:BatchGetItem", "dynamodb:ConditionCheckItem", "dynamodb:GetItem", "dynamodb:Query")
_TABLE_WRITES = ("dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem")
_PARAMETER_READS = ("ssm:GetParameter",)
_PARAMETER_WRITES = ("ssm:DeleteParameter", "ssm:PutParameter")


def state_machine_arn(scope: Construct, settings: StageSettings, workflow: Workflow) -> str:
    """Returns the ARN made from the name, because the workflows are deployed after the API that starts them."""
    return cdk.Stack.of(scope).format_arn(
        service="states",
        resource="stateMachine",
        resource_name=settings.name(workflow),
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def queue_name(settings: StageSettings, id: str) -> str:
    """Returns the name made from the construct's id, because other stacks must not import it."""
    return settings.name(re.sub(r"(?<=[a-z])(?=[A-Z])", "-", id).lower())


def webhook_queue_name(settings: StageSettings) -> str:
    return queue_name(settings, "WebhookDeliveries")


@dataclass(frozen=True)
class Code:
    """Code asset and layers of one stack. CloudFormation could not update a layer that several stacks share."""

    asset: lambda_.Code
    base: lambda_.LayerVersion | None
    extra: Mapping[Layer, lambda_.LayerVersion] = field(default_factory=dict)
    web_adapter: lambda_.ILayerVersion | None = None

    @classmethod
    def of(cls, scope: Construct, settings: StageSettings, build: Path, specs: Iterable[FunctionSpec]) -> "Code":
        """Returns the code and layers of ``specs`` from infra.package's output in ``build``."""
        asset = lambda_.Code.from_asset(str(build / "code"))
        if not settings.layers:
            return cls(asset, None)

        def layer(name: str) -> lambda_.LayerVersion:
            return lambda_.LayerVersion(
                scope,
                f"{name.title()}Layer",
                code=lambda_.Code.from_asset(str(build / "layers" / name)),
                compatible_runtimes=[RUNTIME],
                compatible_architectures=[lambda_.Architecture.ARM_64],
                description=f"Third-party packages ({name})",
            )

        specs = tuple(specs)
        wanted = sorted({name for spec in specs for name in spec.layers})
        web_adapter = None
        if settings.streaming and any(spec.web_server for spec in specs):
            arn = f"arn:{cdk.Aws.PARTITION}:lambda:{cdk.Aws.REGION}:{WEB_ADAPTER_ACCOUNT}:layer:{WEB_ADAPTER_LAYER}"
            web_adapter = lambda_.LayerVersion.from_layer_version_arn(scope, "WebAdapter", arn)
        return cls(asset, layer("base"), {name: layer(name) for name in wanted}, web_adapter)


class ServiceFunction(Construct):
    """Lambda function of ``spec`` with the permissions of its grants."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        spec: FunctionSpec,
        settings: StageSettings,
        data: DataStack,
        code: Code,
        environment: Mapping[str, str] | None = None,
        snap_start: bool = False,
        releases: Releases | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.spec = spec
        self._data = data
        self._settings = settings
        self.log_group = logs.LogGroup(
            self, "Logs", retention=settings.log_retention, removal_policy=settings.removal_policy
        )
        self.role = self._role(spec.grants)
        web_server = spec.web_server if settings.streaming else None
        self.streams = web_server is not None
        layers = [code.base, *(code.extra.get(name) for name in spec.layers), code.web_adapter if web_server else None]
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=settings.name(spec.name),
            description=spec.handler,
            code=code.asset,
            handler=web_server or spec.handler,
            runtime=RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            memory_size=spec.memory_mb,
            ephemeral_storage_size=cdk.Size.mebibytes(spec.disk_mb),
            timeout=cdk.Duration.seconds(spec.timeout_seconds),
            layers=[layer for layer in layers if layer],
            role=self.role.without_policy_updates(),
            log_group=self.log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            tracing=lambda_.Tracing.ACTIVE,
            environment=self._environment({**(environment or {}), **(_WEB_ADAPTER_VARIABLES if web_server else {})}),
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if snap_start else None,
            recursive_loop=lambda_.RecursiveLoop.ALLOW if spec.repeats_itself else None,
            # An operator can return to an earlier version. A failed deployment leaves none, which would block the next.
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE),
        )
        self.target: lambda_.IFunction = self.function
        if snap_start or releases:
            self.target = alias = lambda_.Alias(self, "Live", alias_name="live", version=self.function.current_version)
        if releases:
            releases.release(spec.name, self.function, alias)
        if snap_start:
            cdk.Validations.of(self.function).acknowledge(
                cdk.Acknowledgment(
                    id="Annotation::@aws-cdk/aws-lambda:snapStartRequirePublish", reason="The alias publishes versions."
                )
            )
        acknowledge(
            self.function,
            "The pinned wheels and SnapStart need Python 3.13. A newer runtime is a separate change.",
            "AwsSolutions-L1",
        )

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        settings, data = self._settings, self._data
        variables: dict[str, str | None] = {
            "STAGE": settings.stage,
            "TABLE_NAME": data.table.table_name,
            "LOGS_TABLE_NAME": data.logs_table.table_name,
            "LOG_RETENTION_DAYS": str(settings.inference_log_days),
            "AUDIT_RETENTION_DAYS": str(settings.audit_log_days),
            "BUCKET_NAME": data.bucket.bucket_name,
            "OIDC_ISSUER": data.oidc_issuer,
            "OIDC_AUDIENCE": data.oidc_audience,
            "OIDC_JWKS_URL": data.oidc_jwks_url,
            "PARAMETER_PREFIX": settings.parameter_prefix,
            "WEBHOOK_SECRET_ARN": data.webhook_secret.secret_arn,
            "EXTERNAL_ID_KEY_ARN": data.external_id_key.secret_arn,
            "WEBHOOK_QUEUE_URL": self._webhook_queue_url(),
            "TRAINING_STATE_MACHINE_ARN": state_machine_arn(self, settings, Workflow.TRAINING),
            "EVALUATION_STATE_MACHINE_ARN": state_machine_arn(self, settings, Workflow.EVALUATION),
            "SCAN_STATE_MACHINE_ARN": state_machine_arn(self, settings, Workflow.CONNECTOR_SCAN),
            "PREDICTION_STATE_MACHINE_ARN": state_machine_arn(self, settings, Workflow.PREDICTION),
            "DECISION_RUN_STATE_MACHINE_ARN": state_machine_arn(self, settings, Workflow.DECISION_RUN),
            "FUNCTION_RUN_ROWS": str(settings.function_run_rows),
            "TRAINING_IMAGE_CPU": settings.image(gpu=False),
            "TRAINING_IMAGE_GPU": settings.image(gpu=True),
            "TABICL_WEIGHTS_LICENSE": settings.tabicl_weights_license,
            "TABICL_WEIGHTS_SHA256": settings.tabicl_weights_sha256,
            "CPU_INSTANCE_TYPES": ",".join(settings.cpu_instance_types),
            "GPU_INSTANCE_TYPES": ",".join(settings.gpu_instance_types),
            "MAX_GPU_COUNT": str(settings.max_gpu_count),
            "MAX_INSTANCE_COUNT": str(settings.max_instance_count),
            "MAX_RUNNING_TRAININGS": str(settings.max_running_trainings),
            "MAX_RUNNING_EVALUATIONS": str(settings.max_running_evaluations),
            "MAX_RUNNING_RUNS": str(settings.max_running_runs),
            "MAX_GPU_HOURS_PER_MONTH": str(settings.max_gpu_hours_per_month),
            "MAX_STORAGE_GIB": str(settings.max_storage_gib),
            "SPOT_TRAINING": str(settings.spot_training).lower(),
            "ALLOW_LOOPBACK": str(settings.allow_loopback).lower(),
            "DEFAULT_CLUSTER_URL": settings.default_cluster_url,
            "DEFAULT_CLUSTER_TOKEN_PARAMETER": settings.default_cluster_token_parameter,
            "DEFAULT_CLUSTER_TOOL_CALLS": settings.default_cluster_tool_calls,
            "EMAIL_SENDER": settings.email_sender,
            "CORS_ORIGINS": ",".join(settings.cors_origins),
            "SIGN_IN_URL": settings.sign_in_url,
            "LOG_LEVEL": settings.log_level,
            # Otherwise Pydantic searches every package for plugins at each start.
            "PYDANTIC_DISABLE_PLUGINS": "__all__",
            # Networks are scored row by row: numpy's threads would only wait for each other.
            "OPENBLAS_NUM_THREADS": "1",
            "POWERTOOLS_SERVICE_NAME": self.spec.name,
            "POWERTOOLS_METRICS_NAMESPACE": settings.metrics_namespace,
            **extra,
        }
        return {name: value for name, value in variables.items() if value}

    def _role(self, grants: Grants) -> iam.Role:
        statements = [*self._base_statements(), *self._data_statements(grants), *self._job_statements(grants)]
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"Permissions of {self.spec.name}",
            inline_policies={"Grants": iam.PolicyDocument(statements=statements)},
        )
        justify_wildcards(role, statements, self._data.imports)
        return role

    def _base_statements(self) -> list[iam.PolicyStatement]:
        return [
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[self.log_group.log_group_arn]
            ),
            iam.PolicyStatement(actions=["xray:PutTelemetryRecords", "xray:PutTraceSegments"], resources=["*"]),
        ]

    def _data_statements(self, grants: Grants) -> list[iam.PolicyStatement]:
        data, statements = self._data, []

        def on_table(arns: Sequence[str], actions: Sequence[str], kinds: Iterable[str]) -> None:
            if keys := [f"{kind}#*" for kind in sorted(set(kinds))]:
                statements.append(
                    iam.PolicyStatement(
                        actions=list(actions),
                        resources=list(arns),
                        conditions={"ForAllValues:StringLike": {"dynamodb:LeadingKeys": keys}},
                    )
                )

        def on_objects(actions: Sequence[str], patterns: Iterable[str]) -> None:
            if resources := [data.bucket.arn_for_objects(pattern) for pattern in patterns]:
                statements.append(iam.PolicyStatement(actions=list(actions), resources=resources))

        def on_parameters(actions: Sequence[str], names: Iterable[str]) -> None:
            if resources := [self._parameter(f"{self._settings.parameter_prefix}/{name}") for name in names]:
                statements.append(iam.PolicyStatement(actions=list(actions), resources=resources))

        # One statement holds all kinds that may be read, because one statement must allow a whole batch.
        entities, logs_and_indexes = [data.table.table_arn], data.logs_table_arns
        on_table(entities, _TABLE_READS, (*grants.reads, *grants.writes))
        on_table(entities, _TABLE_WRITES, grants.writes)
        on_table(logs_and_indexes, _TABLE_READS, (*grants.reads_logs, *grants.writes_logs))
        on_table(logs_and_indexes[:1], _TABLE_WRITES, grants.writes_logs)
        on_objects(["s3:GetObject", "s3:GetObjectVersion"], grants.gets)
        on_objects(["s3:PutObject"], grants.puts)
        on_objects(["s3:DeleteObject"], grants.deletes)
        if grants.erases:
            statements += self._version_statements(grants.erases, grants.erases)
        if grants.lists:
            statements.append(
                iam.PolicyStatement(
                    actions=["s3:ListBucket"],
                    resources=[data.bucket.bucket_arn],
                    # S3 reports a missing object as missing only to roles that may list the bucket, and that check
                    # has no prefix.
                    conditions={"StringLikeIfExists": {"s3:prefix": list(grants.lists)}},
                )
            )
        secrets = [data.webhook_secret] if grants.webhook_secret else []
        secrets += [data.external_id_key] if grants.assumes_customer_roles else []
        if secrets:
            arns = [secret.secret_arn for secret in secrets]
            statements.append(iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=arns))
        if grants.queues_webhooks:
            queue = cdk.Stack.of(self).format_arn(service="sqs", resource=webhook_queue_name(self._settings))
            statements.append(iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[queue]))
        if grants.purges_spaces:
            statements += self._purge_statements(grants)
        if grants.sends_mail and self._settings.email_sender:
            statements.append(self._send_mail(self._settings.email_sender))
        on_parameters(_PARAMETER_READS, (*grants.reads_parameters, *grants.writes_parameters))
        on_parameters(_PARAMETER_WRITES, grants.writes_parameters)
        tables = grants.reads or grants.writes or grants.reads_logs or grants.writes_logs
        if data.key and (tables or grants.gets or grants.puts or grants.webhook_secret):
            statements.append(
                iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[data.key.key_arn])
            )
        return statements

    def _purge_statements(self, grants: Grants) -> list[iam.PolicyStatement]:
        """Returns statements without leading keys, because a deleted space has items of every kind."""
        return [
            iam.PolicyStatement(
                actions=["dynamodb:BatchWriteItem", "dynamodb:Scan"], resources=[self._data.table.table_arn]
            ),
            *self._version_statements(grants.deletes, grants.lists),
        ]

    def _version_statements(self, deletes: Sequence[str], lists: Sequence[str]) -> list[iam.PolicyStatement]:
        """Returns statements to list and delete the versions of objects, so that nothing of them is left."""
        bucket = self._data.bucket
        return [
            iam.PolicyStatement(
                actions=["s3:DeleteObjectVersion"],
                resources=[bucket.arn_for_objects(pattern) for pattern in deletes],
            ),
            iam.PolicyStatement(
                actions=["s3:ListBucketVersions"],
                resources=[bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": list(lists)}},
            ),
        ]

    def _send_mail(self, sender: str) -> iam.PolicyStatement:
        """Allows mail from exactly this address. SES may have verified the address or its domain."""
        domain = sender.rpartition("@")[2]
        identities = [
            cdk.Stack.of(self).format_arn(service="ses", resource="identity", resource_name=name)
            for name in (sender, domain)
        ]
        return iam.PolicyStatement(
            actions=["ses:SendEmail"],
            resources=identities,
            conditions={"StringEquals": {"ses:FromAddress": sender}},
        )

    def _webhook_queue_url(self) -> str:
        """Returns the URL made from the name, because the queue is deployed after the API."""
        stack = cdk.Stack.of(self)
        return f"https://sqs.{stack.region}.{stack.url_suffix}/{stack.account}/{webhook_queue_name(self._settings)}"

    def _parameter(self, name: str) -> str:
        return cdk.Stack.of(self).format_arn(service="ssm", resource="parameter", resource_name=name.lstrip("/"))

    def _job_statements(self, grants: Grants) -> list[iam.PolicyStatement]:
        stack, settings, statements = cdk.Stack.of(self), self._settings, []
        machines = [settings.name(workflow) for workflow in Workflow]
        executions = [
            stack.format_arn(
                service="states",
                resource="execution",
                resource_name=f"{machine}:*",
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
            for machine in machines
        ]
        jobs = [
            stack.format_arn(service="sagemaker", resource="training-job", resource_name=f"{kind}-*")
            for kind in ("training", "evaluation")
        ]
        if grants.starts:
            statements.append(
                iam.PolicyStatement(
                    actions=["states:StartExecution"],
                    resources=[state_machine_arn(self, settings, workflow) for workflow in grants.starts],
                )
            )
        if grants.stops_executions:
            statements.append(
                iam.PolicyStatement(
                    actions=["states:DescribeExecution", "states:StopExecution"],
                    resources=executions,
                )
            )
        if grants.watches_training_jobs or grants.stops_training_jobs:
            stops = grants.stops_training_jobs
            statements.append(
                iam.PolicyStatement(
                    actions=["sagemaker:DescribeTrainingJob", *(["sagemaker:StopTrainingJob"] if stops else [])],
                    resources=jobs,
                )
            )
        if grants.reads_job_logs:
            statements += _read_job_logs(stack)
        if grants.assumes_customer_roles:
            statements.append(assume_customer_roles(stack))
        return statements


def _read_job_logs(stack: cdk.Stack) -> list[iam.PolicyStatement]:
    """Allows the log of training jobs. A list of streams knows no narrower resource than their group."""

    def arn(suffix: str) -> str:
        return stack.format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"{JOB_LOG_GROUP}{suffix}",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )

    return [
        iam.PolicyStatement(actions=["logs:DescribeLogStreams"], resources=[arn(""), arn(":*")]),
        iam.PolicyStatement(actions=["logs:GetLogEvents"], resources=[arn(":log-stream:training-*")]),
    ]


def assume_customer_roles(stack: cdk.Stack) -> iam.PolicyStatement:
    """Allows roles of other accounts only. Otherwise a connector could use the deployment's own roles."""
    return iam.PolicyStatement(
        actions=["sts:AssumeRole"],
        resources=[f"arn:{stack.partition}:iam::*:role/*"],
        conditions={"StringNotEquals": {"aws:ResourceAccount": stack.account}},
    )
