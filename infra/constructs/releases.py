"""Releases new versions of functions gradually and rolls them back when they fail."""

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.nag import justify_wildcards
from infra.objectives import SERVER_ERRORS, describe
from infra.settings import StageSettings

MINUTE = cdk.Duration.minutes(1)
# Failures within a minute, of the tenth of the requests that a new version receives.
FAILURES = 3


class Releases(Construct):
    """CodeDeploy application and role that shift a stage's requests from one version to the next."""

    def __init__(self, scope: Construct, settings: StageSettings) -> None:
        super().__init__(scope, "Releases")
        self._settings = settings
        self._application = codedeploy.LambdaApplication(self, "Application", application_name=settings.name("api"))
        functions = cdk.Stack.of(self).format_arn(
            service="lambda",
            resource="function",
            resource_name=settings.name("*"),
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        statements = [
            iam.PolicyStatement(
                actions=["lambda:GetAlias", "lambda:GetProvisionedConcurrencyConfig", "lambda:UpdateAlias"],
                resources=[functions],
            ),
            iam.PolicyStatement(actions=["cloudwatch:DescribeAlarms"], resources=["*"]),
        ]
        # AWS's managed policy would reach the functions of every stage in the account.
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("codedeploy.amazonaws.com"),
            description="Shifts requests between versions of functions",
            inline_policies={"Shift": iam.PolicyDocument(statements=statements)},
        )
        justify_wildcards(role, statements)
        self._role = role.without_policy_updates()

    def release(self, name: str, function: lambda_.Function, alias: lambda_.Alias) -> None:
        """Sends a tenth of the requests to a new version for five minutes, then all of them unless it fails."""
        failures = cloudwatch.MathExpression(
            # Invocations that the runtime ended, and responses with status 500.
            expression="FILL(broke, 0) + FILL(answered, 0)",
            using_metrics={
                "broke": self._metric(
                    "AWS/Lambda",
                    "Errors",
                    {
                        "FunctionName": function.function_name,
                        "Resource": f"{function.function_name}:{alias.alias_name}",
                        "ExecutedVersion": function.current_version.version,
                    },
                ),
                "answered": self._metric(
                    self._settings.metrics_namespace,
                    SERVER_ERRORS,
                    {"service": name, "version": function.current_version.version},
                ),
            },
            label="failures of the new version",
            period=MINUTE,
        )
        alarm = cloudwatch.Alarm(
            alias,
            "Failures",
            alarm_description=describe(f"The new version of {name} fails", "new-version-fails"),
            metric=failures,
            threshold=FAILURES,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        codedeploy.LambdaDeploymentGroup(
            alias,
            "Release",
            application=self._application,
            alias=alias,
            deployment_config=codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES,
            alarms=[alarm],
            role=self._role,
        )

    def _metric(self, namespace: str, name: str, dimensions: dict[str, str]) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=namespace,
            metric_name=name,
            dimensions_map=dimensions,
            statistic=cloudwatch.Stats.SUM,
            period=MINUTE,
        )
