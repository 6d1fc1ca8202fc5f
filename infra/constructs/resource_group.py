"""One resource group: its function and the routes that lead to it."""

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

from infra.constructs.function import Code, ServiceFunction
from infra.constructs.releases import Releases
from infra.groups import GroupSpec
from infra.nag import because
from infra.settings import StageSettings
from infra.stacks.data import DataStack


class ResourceGroup(Construct):
    """The function of ``spec`` behind its paths, every method: the application answers 405 for the ones it lacks."""

    def __init__(
        self,
        scope: Construct,
        *,
        spec: GroupSpec,
        settings: StageSettings,
        data: DataStack,
        code: Code,
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
            snap_start=settings.snap_start,
            releases=releases,
        )
        streams = self.backend.streams
        integration = apigateway.LambdaIntegration(
            self.backend.target,
            # One permission for the API rather than one a method: methods are many, and the policy's size is limited.
            scope_permission_to_method=False,
            response_transfer_mode=apigateway.ResponseTransferMode.STREAM if streams else None,
            timeout=cdk.Duration.seconds(spec.timeout_seconds) if streams else None,
        )
        for path in spec.paths:
            method = api.root.resource_for_path(path).add_method(
                "ANY",
                integration,
                authorizer=None if spec.public else authorizer,
                authorization_type=apigateway.AuthorizationType.NONE if spec.public else None,
                # API Gateway's own key, the caller's share: the authorizer answers it.
                api_key_required=bool(settings.fair_shares) and not spec.public,
            )
            if spec.public:
                because(
                    method,
                    "Open on purpose: the document and health need no account; webhooks prove themselves by signature.",
                    "AwsSolutions-APIG4",
                    "AwsSolutions-COG4",
                )
            else:
                because(method, "Our authorizer takes API keys as well, which Cognito's refuses.", "AwsSolutions-COG4")
