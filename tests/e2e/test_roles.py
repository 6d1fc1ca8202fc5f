"""Tests of the functions' roles, which the emulator's IAM enforces.

The fixture of the stack fails if IAM unexpectedly refused a call of a function. So every test in this folder also tests
the roles. The tests in this module call the groups of functions that no other test calls.
"""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.local.settings import REGION
from tests.e2e.conftest import REFUSED_SESSION, Stack

FUNCTION = "inference-local-leaderboards"
RESOURCES = {
    "/action-groups": {"name": "Offers", "description": "what a client may be offered"},
    "/experts": {"name": "Cards", "description": "knows all about cards"},
    "/personas": {"name": "Ann", "birthdate": "1990-01-31", "notes": "likes to travel"},
}


@pytest.fixture
def role_arn(stack: Stack) -> str:
    arn: str = stack.aws("lambda").get_function_configuration(FunctionName=FUNCTION)["Role"]
    return arn


def test_a_role_has_access_only_to_the_keys_of_its_group(stack: Stack, role_arn: str) -> None:
    credentials = stack.aws("sts").assume_role(RoleArn=role_arn, RoleSessionName=REFUSED_SESSION)["Credentials"]
    table: Any = boto3.client(
        "dynamodb",
        region_name=REGION,
        endpoint_url=stack.settings.aws_url,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    name = stack.outputs["TableName"]
    own, foreign = ({"PK": {"S": f"{kind}#1"}, "SK": {"S": "1"}} for kind in ("score", "chat"))

    assert "Item" not in table.get_item(TableName=name, Key=own)
    table.batch_get_item(RequestItems={name: {"Keys": [own]}})
    table.transact_get_items(TransactItems=[{"Get": {"TableName": name, "Key": own}}])
    refused_calls: list[Callable[[], Any]] = [
        lambda: table.get_item(TableName=name, Key=foreign),
        lambda: table.batch_get_item(RequestItems={name: {"Keys": [own, foreign]}}),
        lambda: table.transact_get_items(
            TransactItems=[{"Get": {"TableName": name, "Key": key}} for key in (own, foreign)]
        ),
        lambda: table.query(
            TableName=name, KeyConditionExpression="PK = :pk", ExpressionAttributeValues={":pk": foreign["PK"]}
        ),
        lambda: table.put_item(TableName=name, Item=own),
        lambda: table.transact_write_items(TransactItems=[{"Put": {"TableName": name, "Item": own}}]),
        lambda: table.scan(TableName=name),
    ]
    for call in refused_calls:
        with pytest.raises(ClientError, match="is not authorized to perform"):
            call()


def test_a_function_uses_its_role(stack: Stack, role_arn: str) -> None:
    member = stack.member()
    assert member.send("GET", "/leaderboards").status_code == 200
    iam, role = stack.aws("iam"), role_arn.rpartition("/")[2]
    denial = {"Effect": "Deny", "Action": "dynamodb:*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [denial]}
    iam.put_role_policy(RoleName=role, PolicyName="Denial", PolicyDocument=json.dumps(policy))
    try:
        assert member.send("GET", "/leaderboards").status_code == 500
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="Denial")
    assert member.send("GET", "/leaderboards").status_code == 200


@pytest.mark.parametrize(("path", "body"), RESOURCES.items())
def test_a_role_allows_create_read_update_list_and_delete(stack: Stack, path: str, body: dict[str, str]) -> None:
    member = stack.member()
    item = f"{path}/{member.post(path, body)['id']}"
    assert member.call("PUT", item, {"name": "Other"})["name"] == member.get(item)["name"] == "Other"
    assert [row["name"] for row in member.rows(path)] == ["Other"]
    member.delete(item)
    assert member.send("GET", item).status_code == 404


def test_roles_allow_reading_the_user_and_arguments(stack: Stack) -> None:
    member = stack.member()
    assert member.get("/me")["spaces"][0]["id"] == member.space_id
    assert member.get("/arguments") == []
