"""Creates a resource group: its function and its routes."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

from infra.constructs.function import Code, ServiceFunction
from infra.constructs.releases import Releases
from infra.groups import GroupSpec
from infra.nag import acknowledge
from infra.settings import StageSettings
from infra.stacks.data import DataStack


class ResourceGroup(Construct):
    """Function of ``spec`` behind its paths. The application returns 405 for methods that a path does not have."""

    def __init__(
        self,
        scope: Construct,
        *,
        spec: GroupSpec,
        settings: StageSettings,
        data: DataStack,
        code: Code,
        environment: Mapping[str, str],
        api: apigateway.RestApi,
        authorizer: apigateway.IAuthorizer,
        releases: Releases | None,
    ) -> None:
        super().__init__(scope, spec.name.title().replace("-", ""))
        self.backend = ServiceFunction(
            self,
            "Backend",
            spec=spec,
            settings=settings,
            data=data,
            code=code,
            environment=environment,
            snap_start=settings.snap_start and spec.snap_start,
            releases=releases,
        )
        streams = self.backend.streams
        integration = apigateway.LambdaIntegration(
            self.backend.target,
            # One permission for the whole API, because one for each method would exceed the policy's size limit.
            scope_permission_to_method=False,
            response_transfer_mode=apigateway.ResponseTransferMode.STREAM if streams else None,
            timeout=cdk.Duration.seconds(spec.timeout_seconds) if streams else None,
        )
        for path in spec.paths:
            method = (api.root.resource_for_path(path) if path else api.root).add_method(
                "ANY",
                integration,
                authorizer=None if spec.public else authorizer,
                authorization_type=apigateway.AuthorizationType.NONE if spec.public else None,
                # The authorizer returns this key, which is the caller's fair share.
                api_key_required=bool(settings.fair_shares) and not spec.public,
            )
            if spec.public:
                acknowledge(
                    method,
                    "Documentation and health need no account, and webhooks are authenticated by their signature.",
                    "AwsSolutions-APIG4",
                    "AwsSolutions-COG4",
                )
            else:
                acknowledge(
                    method, "The custom authorizer also accepts API keys, which Cognito's refuses.", "AwsSolutions-COG4"
                )
