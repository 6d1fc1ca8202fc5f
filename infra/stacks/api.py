"""Creates the REST API: API Gateway with one function for each resource group."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.constructs.console import ConsoleSignIn
from infra.constructs.error_responses import add_error_responses
from infra.constructs.fair_shares import FairShares
from infra.constructs.firewall import Firewall
from infra.constructs.function import Code, ServiceFunction
from infra.constructs.releases import Releases
from infra.constructs.resource_group import ResourceGroup
from infra.groups import AUTHORIZE, GroupSpec
from infra.nag import acknowledge
from infra.objectives import GATEWAY_FAILURES, READ_LATENCY
from infra.settings import API_STAGE, StageSettings
from infra.stacks.data import DataStack

# 5xx responses that API Gateway makes. Functions count their own, because only they know whose failure it is.
FAILED = '{ ($.status = "5*") && ($.error != "-") }'
# These reads take as long as a language model, a cluster or a customer's storage takes.
_WAITING = ("/chats*", "/v1*", "/models*", "/clusters*", "/connectors/*")
_SLOW = " && ".join(f'($.route != "{route}")' for route in _WAITING)
READ = f'{{ ($.method = "GET") && ($.status = "2*") && {_SLOW} }}'

# A path can contain an upload token, so the log has the route. The application logs paths without tokens.
_ACCESS_LOG = json.dumps(
    {
        "request_id": "$context.requestId",
        "time": "$context.requestTime",
        "ip": "$context.identity.sourceIp",
        "method": "$context.httpMethod",
        # Not the path: it may hold the key of a customer. Logs of functions have it, where it holds none.
        "route": "$context.resourcePath",
        "status": "$context.status",
        "latency_ms": "$context.responseLatency",
        "function_latency_ms": "$context.integrationLatency",
        "user": "$context.authorizer.principalId",
        "response_bytes": "$context.responseLength",
        "error": "$context.error.responseType",
    },
    separators=(",", ":"),
    # The metric filters need the latency as a JSON number.
).replace('"$context.responseLatency"', "$context.responseLatency")


class ApiStack(cdk.Stack):
    """API of one stage. ``url`` ends in a slash."""

    def __init__(
        self, scope: Construct, *, settings: StageSettings, data: DataStack, build: Path, groups: Sequence[GroupSpec]
    ) -> None:
        super().__init__(scope, settings.name("api"), description="Inference API: routes and their functions")
        self._settings, self._data = settings, data
        self.api = self._rest_api()
        # Functions know the address, so it must not depend on the stage, which comes after the functions.
        own_address = self.api.rest_api_id + f".execute-api.{self.region}.{self.url_suffix}/{API_STAGE}"
        self.url = f"https://{settings.domain_name or own_address}/"
        self._code = Code.of(self, settings, build, groups)
        releases = Releases(self, settings) if settings.gradual_releases else None
        console = ConsoleSignIn(self, settings=settings, data=data, api_url=self.url)
        authorizer = self._authorizer(releases, console.audience)
        self.groups = [
            ResourceGroup(
                self,
                spec=spec,
                settings=settings,
                data=data,
                code=self._code,
                environment=console.variables if spec.name == "documentation" else console.audience,
                api=self.api,
                authorizer=authorizer,
                releases=releases,
            )
            for spec in groups
        ]
        cdk.CfnOutput(self, "ApiUrl", value=self.url)
        if self.api.domain_name:
            cdk.CfnOutput(self, "DomainTarget", value=self.api.domain_name.domain_name_alias_domain_name)

    def _rest_api(self) -> apigateway.RestApi:
        settings = self._settings
        access_logs = logs.LogGroup(
            self, "AccessLogs", retention=settings.log_retention, removal_policy=settings.removal_policy
        )
        if settings.observability:
            self._add_metrics(access_logs)
        origins = list(settings.cors_origins)
        api = apigateway.RestApi(
            self,
            "Api",
            rest_api_name=settings.name("api"),
            description="Customer data in, the next best action out",
            endpoint_configuration=apigateway.EndpointConfiguration(types=[apigateway.EndpointType.REGIONAL]),
            api_key_source_type=apigateway.ApiKeySourceType.AUTHORIZER if settings.fair_shares else None,
            # Account-wide setting that a new account lacks. API Gateway cannot log without it.
            cloud_watch_role=True,
            cloud_watch_role_removal_policy=cdk.RemovalPolicy.RETAIN,
            domain_name=self._domain(),
            # Otherwise clients could avoid the domain and its TLS policy.
            disable_execute_api_endpoint=bool(settings.domain_name),
            min_compression_size=cdk.Size.kibibytes(1),
            binary_media_types=["application/octet-stream", "multipart/form-data"],
            default_cors_preflight_options=apigateway.CorsOptions(
                allow_origins=origins,
                allow_methods=apigateway.Cors.ALL_METHODS,
                # The star means the headers of client libraries, and never for Authorization.
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Space-Id", "*"],
                max_age=cdk.Duration.hours(1),
            )
            if origins
            else None,
            deploy_options=apigateway.StageOptions(
                stage_name=API_STAGE,
                throttling_rate_limit=settings.throttling_rate,
                throttling_burst_limit=settings.throttling_burst,
                # Its traces would contain whole addresses, with upload tokens. Functions make their own traces.
                tracing_enabled=False,
                metrics_enabled=True,
                # Bodies are never logged, because they hold customers' data.
                logging_level=apigateway.MethodLoggingLevel.ERROR,
                data_trace_enabled=False,
                access_log_destination=apigateway.LogGroupLogDestination(access_logs),
                access_log_format=apigateway.AccessLogFormat.custom(_ACCESS_LOG),
            ),
        )
        # API Gateway would create this group without a retention time. Its name is API Gateway's.
        execution_logs = logs.LogGroup(
            self,
            "ExecutionLogs",
            log_group_name=f"API-Gateway-Execution-Logs_{api.rest_api_id}/{API_STAGE}",
            retention=settings.log_retention,
            removal_policy=settings.removal_policy,
        )
        api.deployment_stage.node.add_dependency(execution_logs)
        add_error_responses(api, origins[0] if len(origins) == 1 else None)
        acknowledge(
            api,
            "The application validates requests and names the field; a coarser check in front adds nothing.",
            "AwsSolutions-APIG2",
        )
        acknowledge(
            api,
            "AWS's own policy for this role: to write API Gateway's logs.",
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs]",
        )
        if settings.share_throttling_rate:
            FairShares(
                self,
                "FairShares",
                stage=api.deployment_stage,
                name=settings.name("fair-shares"),
                keys=settings.fair_shares,
                rate=settings.share_throttling_rate,
            )
        if settings.firewall_rate:
            Firewall(
                self,
                "Firewall",
                stage=api.deployment_stage,
                name=settings.name("api"),
                requests_per_minute=settings.firewall_rate,
                log_retention=settings.log_retention,
            )
        else:
            acknowledge(
                api.deployment_stage,
                "Routes are throttled and authenticated. Only production is worth the price of a web ACL.",
                "AwsSolutions-APIG3",
            )
        return api

    def _domain(self) -> apigateway.DomainNameOptions | None:
        settings = self._settings
        if not settings.domain_name or not settings.certificate_arn:
            return None
        return apigateway.DomainNameOptions(
            domain_name=settings.domain_name,
            certificate=acm.Certificate.from_certificate_arn(self, "Certificate", settings.certificate_arn),
            endpoint_type=apigateway.EndpointType.REGIONAL,
            security_policy=apigateway.SecurityPolicy.TLS_1_2,
        )

    def _add_metrics(self, access_logs: logs.LogGroup) -> None:
        """Adds metrics that API Gateway lacks: failures of the service, and the latency of reads."""
        for name, pattern, value in ((GATEWAY_FAILURES, FAILED, "1"), (READ_LATENCY, READ, "$.latency_ms")):
            logs.MetricFilter(
                self,
                name,
                log_group=access_logs,
                filter_pattern=logs.FilterPattern.literal(pattern),
                metric_namespace=self._settings.metrics_namespace,
                metric_name=name,
                metric_value=value,
            )

    def _authorizer(self, releases: Releases | None, audience: Mapping[str, str]) -> apigateway.IAuthorizer:
        backend = ServiceFunction(
            self,
            "Authorize",
            spec=AUTHORIZE,
            settings=self._settings,
            data=self._data,
            code=self._code,
            environment={"FAIR_SHARES": ",".join(self._settings.fair_shares), **audience},
            snap_start=self._settings.snap_start,
            releases=releases,
        )
        invoke = iam.Role(
            self,
            "AuthorizerRole",
            assumed_by=iam.ServicePrincipal("apigateway.amazonaws.com"),
            inline_policies={
                "Invoke": iam.PolicyDocument(
                    statements=[
                        iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[backend.target.function_arn])
                    ]
                )
            },
        )
        return apigateway.TokenAuthorizer(
            self,
            "Authorizer",
            handler=backend.target,
            assume_role=invoke.without_policy_updates(),
            # A token has three parts, and an API key has a prefix. Nothing else invokes the authorizer.
            validation_regex=r"^[Bb]earer ([-0-9A-Za-z_]+\.[-0-9A-Za-z_]+\.[-0-9A-Za-z_]+|ik_[-0-9A-Za-z_]{112})$",
            # Functions check for themselves whether a key was revoked.
            results_cache_ttl=cdk.Duration.minutes(5),
        )
