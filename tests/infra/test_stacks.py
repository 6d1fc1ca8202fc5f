"""Tests of whole stacks: size, order of deployment, outputs and logs."""

import json

import pytest

from infra.groups import FUNCTIONS, GROUPS, Workflow
from tests.infra.conftest import Synthesised, function_of


def test_no_stack_has_a_custom_resource(prod: Synthesised) -> None:
    types = {r["Type"] for stack in prod.stacks for r in prod.template(stack)["Resources"].values()}
    assert not {one for one in types if one.startswith("Custom::") or one == "AWS::CloudFormation::CustomResource"}


def test_every_log_group_has_a_retention_time(prod: Synthesised) -> None:
    groups = prod.properties("AWS::Logs::LogGroup")
    assert len(groups) >= len(FUNCTIONS)
    assert all(group["RetentionInDays"] > 0 for group in groups)


def test_state_machines_log_everything_and_trace(prod: Synthesised) -> None:
    machines = prod.properties("AWS::StepFunctions::StateMachine")
    assert len(machines) == len(Workflow)
    for machine in machines:
        assert machine["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["TracingConfiguration"] == {"Enabled": True}


def test_the_api_names_the_state_machines_of_the_workflows_stack(prod: Synthesised) -> None:
    # The stacks share only names, because references would make a dependency cycle.
    made = {machine["StateMachineName"] for machine in prod.properties("AWS::StepFunctions::StateMachine")}
    variables = function_of(prod, GROUPS[0])["Environment"]["Variables"]
    named = {
        json.dumps(variables[name]).rsplit(":", 1)[1].split('"')[0]
        for name in variables
        if name.endswith("_STATE_MACHINE_ARN")
    }
    assert named == made


def test_the_api_stack_has_room_for_three_more_groups(prod: Synthesised) -> None:
    resources = prod.template("api")["Resources"]
    per_group = len([name for name in resources if name.startswith(("Connectors", "Apiconnectors"))])
    assert per_group > 5
    assert len(resources) + 3 * per_group <= 500


def test_stacks_have_no_dependency_cycle(prod: Synthesised) -> None:
    manifest = json.loads((prod.folder / "manifest.json").read_text())["artifacts"]

    def needs(stack: str) -> set[str]:
        return {
            name.removeprefix("inference-prod-") for name in manifest[f"inference-prod-{stack}"]["dependencies"]
        } & {*prod.stacks}

    assert needs("data") == set()
    assert needs("api") == {"data"}
    assert needs("workflows") == {"data", "api"}
    assert needs("observability") >= {"api", "workflows"}


@pytest.mark.parametrize(
    "name",
    ["ApiUrl", "TableName", "BucketName", "UserPoolId", "UserPoolClientId", "OidcIssuer", "WebhookSecretArn",
     "TrainingStateMachineArn", "EvaluationStateMachineArn", "ScanStateMachineArn",
     "WebhookQueueUrl"],
)  # fmt: skip
def test_the_stacks_output_the_names_that_operators_need(local: Synthesised, name: str) -> None:
    outputs = {key for stack in local.stacks for key in local.template(stack).get("Outputs", {})}
    assert name in outputs
