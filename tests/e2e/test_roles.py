"""The roles of functions, as deployed: the emulator's IAM holds their calls to them.

That every other test of this folder passes shows that the roles suffice for what these do; the fixture of the stack
fails when any call of a function was refused, be it one whose failure nobody noticed. Groups that no other test calls
as deployed are called here.
"""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.local.settings import REGION
from tests.e2e.conftest import TRESPASSER, Stack

FUNCTION = "inference-local-leaderboards"
MADE = {
    "/action-groups": {"name": "Offers", "description": "what a client may be offered"},
    "/experts": {"name": "Cards", "description": "knows all about cards"},
    "/personas": {"name": "Ann", "birthdate": "1990-01-31", "notes": "likes to travel"},
}


@pytest.fixture
def role_arn(stack: Stack) -> str:
    arn: str = stack.aws("lambda").get_function_configuration(FunctionName=FUNCTION)["Role"]
    return arn


def test_a_role_is_refused_another_groups_keys_and_let_at_its_own(stack: Stack, role_arn: str) -> None:
    credentials = stack.aws("sts").assume_role(RoleArn=role_arn, RoleSessionName=TRESPASSER)["Credentials"]
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
    trespasses: list[Callable[[], Any]] = [
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
    for trespass in trespasses:
        with pytest.raises(ClientError, match="is not authorized to perform"):
            trespass()


def test_a_function_acts_as_its_role(stack: Stack, role_arn: str) -> None:
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


@pytest.mark.parametrize(("address", "body"), MADE.items())
def test_a_role_suffices_to_make_read_change_list_and_delete(stack: Stack, address: str, body: dict[str, str]) -> None:
    member = stack.member()
    place = f"{address}/{member.post(address, body)['id']}"
    assert member.call("PUT", place, {"name": "Other"})["name"] == member.get(place)["name"] == "Other"
    assert [row["name"] for row in member.rows(address)] == ["Other"]
    member.delete(place)
    assert member.send("GET", place).status_code == 404


def test_roles_suffice_to_see_oneself_and_arguments(stack: Stack) -> None:
    member = stack.member()
    assert member.get("/me")["spaces"][0]["id"] == member.space_id
    assert member.get("/arguments") == []
