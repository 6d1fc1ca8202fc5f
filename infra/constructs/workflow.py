"""Creates state machines, each with its own role and log group."""

import json
from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.constructs.definitions import Definition
from infra.constructs.function import ServiceFunction
from infra.groups import Workflow
from infra.nag import NO_RESOURCES, acknowledge, justify_wildcards
from infra.settings import StageSettings


class StateMachine(Construct):
    """State machine of ``definition`` that may invoke ``functions`` and has the permissions in ``statements``."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        workflow: Workflow,
        settings: StageSettings,
        definition: Definition,
        substitutions: Mapping[str, str],
        functions: Sequence[ServiceFunction],
        statements: Sequence[iam.PolicyStatement],
        imports: Mapping[str, str],
    ) -> None:
        super().__init__(scope, id)
        self.workflow = workflow
        allowed = [
            iam.PolicyStatement(
                actions=["lambda:InvokeFunction"], resources=[function.function.function_arn for function in functions]
            ),
            *statements,
        ]
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            description=f"Permissions of the workflow {workflow}",
            inline_policies={"Tasks": iam.PolicyDocument(statements=allowed)},
        )
        justify_wildcards(self.role, allowed, imports)
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            state_machine_name=settings.name(workflow),
            # The CDK's to_json_string drops nulls, but "ResultPath": null discards a result.
            definition_body=sfn.DefinitionBody.from_string(json.dumps(definition)),
            definition_substitutions={
                **{_name(function): function.function.function_arn for function in functions},
                **substitutions,
            },
            role=self.role,
            tracing_enabled=True,
            logs=sfn.LogOptions(
                destination=logs.LogGroup(
                    self,
                    "Logs",
                    # This prefix keeps the account's log resource policy from growing with each state machine.
                    log_group_name=f"/aws/vendedlogs/states/{settings.name(workflow)}",
                    retention=settings.log_retention,
                    removal_policy=cdk.RemovalPolicy.DESTROY,
                ),
                level=sfn.LogLevel.ALL,
                include_execution_data=True,
            ),
        )
        acknowledge(self.role, NO_RESOURCES, "AwsSolutions-IAM5[Resource::*]")


def _name(function: ServiceFunction) -> str:
    """Returns the placeholder in a definition: ``CheckTraining`` for ``check-training``."""
    return function.spec.name.title().replace("-", "")
