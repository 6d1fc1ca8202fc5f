"""A state machine with its own role and logs."""

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
from infra.nag import UNNARROWABLE, because, justify_wildcards
from infra.settings import StageSettings


class StateMachine(Construct):
    """The state machine of ``definition``: it may invoke ``functions`` and do what ``statements`` say, no more."""

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
            description=f"What the workflow {workflow} may do",
            inline_policies={"Tasks": iam.PolicyDocument(statements=allowed)},
        )
        justify_wildcards(self.role, allowed, imports)
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            state_machine_name=settings.name(workflow),
            # The CDK's own to_json_string leaves nulls out, and "ResultPath": null means something.
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
        because(self.role, UNNARROWABLE, "AwsSolutions-IAM5[Resource::*]")


def _name(function: ServiceFunction) -> str:
    """The placeholder a definition uses: ``check-training`` is ``CheckTraining``."""
    return function.spec.name.title().replace("-", "")
