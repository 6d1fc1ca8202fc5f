"""Changes that would replace resources with data, or stop protecting them, are refused with an explanation."""

import copy
import json
from typing import Any

import pytest

from infra.operations.__main__ import main
from infra.operations.stateful import baseline, replacements, stateful
from tests.infra.conftest import Synthesise, Synthesised

Templates = dict[str, dict[str, Any]]
ENTITIES = "arn:aws:dynamodb:eu-central-1:111122223333:table/restored/stream/2026-01-31T12:00:00.000"


@pytest.fixture
def templates(prod: Synthesised) -> Templates:
    return copy.deepcopy({stack: prod.template(stack) for stack in prod.stacks})


def one_of(templates: Templates, type: str, start: str = "") -> dict[str, Any]:
    """Returns the resource of a type with a logical id that starts with ``start``."""
    [found] = [
        resource
        for name, resource in templates["data"]["Resources"].items()
        if resource["Type"] == type and name.startswith(start)
    ]
    resource: dict[str, Any] = found
    return resource


def refused(templates: Templates) -> list[str]:
    return list(replacements(baseline(), stateful(templates)))


@pytest.mark.row("X-15")
def test_production_replaces_no_resource_with_data(templates: Templates) -> None:
    assert refused(templates) == []
    kinds = {one["type"].split("::")[1] for one in baseline().values()}
    assert kinds >= {"Cognito", "DynamoDB", "KMS", "S3", "SecretsManager"}


@pytest.mark.row("X-15")
@pytest.mark.parametrize(
    ("type", "start", "change", "why"),
    [
        ("AWS::DynamoDB::Table", "Entities", {"KeySchema": []}, "replaced by an empty one: KeySchema changes"),
        ("AWS::DynamoDB::Table", "InferenceLogs", {"TableName": "logs"}, "TableName changes from null"),
        ("AWS::S3::Bucket", "Files", {"BucketName": "files"}, "BucketName changes from null"),
        ("AWS::Cognito::UserPool", "", {"UsernameAttributes": ["phone_number"]}, "UsernameAttributes changes"),
        ("AWS::KMS::Key", "", {"MultiRegion": True}, "MultiRegion changes"),
    ],
)
def test_a_property_change_that_replaces_a_resource_is_refused(
    templates: Templates, type: str, start: str, change: dict[str, Any], why: str
) -> None:
    one_of(templates, type, start)["Properties"].update(change)
    [found] = refused(templates)
    assert why in found


@pytest.mark.row("X-15")
def test_a_changed_logical_id_is_refused_as_a_removal_and_a_new_resource(templates: Templates) -> None:
    resources = templates["data"]["Resources"]
    name = next(name for name in resources if name.startswith("Entities"))
    resources["Things00000000"] = resources.pop(name)
    removed, added = refused(templates)
    assert removed.startswith(f"data/{name} (AWS::DynamoDB::Table) would be removed")
    assert added.startswith("data/Things00000000 (AWS::DynamoDB::Table) is new")


@pytest.mark.row("X-15")
def test_data_that_would_be_deleted_with_its_stack_is_refused(templates: Templates) -> None:
    one_of(templates, "AWS::S3::Bucket", "Files")["DeletionPolicy"] = "Delete"
    [found] = refused(templates)
    assert "would no longer outlive its stack: DeletionPolicy changes from Retain to Delete" in found


def test_harmless_changes_are_accepted(templates: Templates) -> None:
    table = one_of(templates, "AWS::DynamoDB::Table", "Entities")["Properties"]
    table["BillingMode"] = "PROVISIONED"
    table["TimeToLiveSpecification"] = {"AttributeName": "gone_at", "Enabled": True}
    assert refused(templates) == []


@pytest.mark.row("X-15")
def test_the_protect_command_refuses_and_explains(
    prod: Synthesised, templates: Templates, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["protect", "--templates", str(prod.folder)]) == 0
    one_of(templates, "AWS::S3::Bucket", "Files")["Properties"]["BucketName"] = "files"
    for stack, template in templates.items():
        (tmp_path / f"inference-prod-{stack}.template.json").write_text(json.dumps(template))
    assert main(["protect", "--templates", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "would be replaced by an empty one: BucketName" in output
    assert "docs/runbooks/restore.md" in output
    assert main(["protect", "--stage", "dev", "--templates", str(tmp_path)]) == 2


@pytest.mark.row("X-15")
def test_resources_with_data_outlive_the_protected_production_stack(prod: Synthesised) -> None:
    # The address of an API is not data, and a client of the user pool needs its pool.
    others = {"AWS::ApiGateway::RestApi", "AWS::Cognito::UserPoolClient"}
    holding = {name: one for name, one in baseline().items() if one["type"] not in others}
    assert len(holding) >= 7
    assert all(one["policies"] == ["Retain", "Retain"] for one in holding.values())
    manifest = json.loads((prod.folder / "manifest.json").read_text())
    assert manifest["artifacts"]["inference-prod-data"]["properties"]["terminationProtection"] is True


@pytest.mark.row("X-15")
def test_a_stage_uses_a_restored_table_and_keeps_its_own_table(synthesise: Synthesise) -> None:
    stage = synthesise("staging", restored_entities=ENTITIES)
    for function in stage.properties("AWS::Lambda::Function"):
        assert json.dumps(function["Environment"]["Variables"]["TABLE_NAME"]) == '"restored"'
    policies = json.dumps([*stage.properties("AWS::IAM::Role"), *stage.properties("AWS::IAM::Policy")])
    assert ENTITIES.partition("/stream/")[0] in policies
    assert "Entities" not in policies
    streams = [one["EventSourceArn"] for one in stage.properties("AWS::Lambda::EventSourceMapping")]
    assert ENTITIES in streams
    kept = stateful({stack: stage.template(stack) for stack in stage.stacks})
    assert list(replacements(baseline(), kept)) == []
