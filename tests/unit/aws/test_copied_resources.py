"""The resources of a test are copies of those of the first test (tests/fixtures/moto.py)."""

from collections.abc import Callable
from typing import Any

import boto3
from moto import mock_aws

from tests.conftest import empty_aws
from tests.fixtures.aws import BUCKET, LOGS_TABLE, TABLE, create_all, state_machine_arn

Client = Callable[[Any], Any]
KEY = {"PK": {"S": "a"}, "SK": {"S": "b"}}


def described(client: Client) -> dict[str, Any]:
    """Returns the resources, without their ids and the times when they were made."""
    machines, secrets = client("stepfunctions"), client("secretsmanager").list_secrets()["SecretList"]
    tables = [client("dynamodb").describe_table(TableName=name)["Table"] for name in (TABLE, LOGS_TABLE)]
    return {
        "tables": [{**each, "TableId": None, "CreationDateTime": None} for each in tables],
        "buckets": [each["Name"] for each in client("s3").list_buckets()["Buckets"]],
        "versioning": client("s3").get_bucket_versioning(Bucket=BUCKET)["Status"],
        "state machines": [each["name"] for each in machines.list_state_machines()["stateMachines"]],
        "definition": machines.describe_state_machine(stateMachineArn=state_machine_arn("training"))["definition"],
        "secrets": {
            each["Name"]: client("secretsmanager").get_secret_value(SecretId=each["Name"])["SecretString"]
            for each in secrets
        },
    }


def test_copied_resources_are_those_that_the_calls_make(aws_session: boto3.Session, setup_client: Client) -> None:
    with mock_aws():
        create_all(setup_client)
        made = described(setup_client)
    for _ in range(2):
        with empty_aws(aws_session, setup_client):
            assert described(setup_client) == made


def test_what_one_test_changes_is_not_in_the_next(aws_session: boto3.Session, setup_client: Client) -> None:
    dynamodb, s3, machines = (setup_client(name) for name in ("dynamodb", "s3", "stepfunctions"))
    arn = state_machine_arn("training")
    for _ in range(3):
        with empty_aws(aws_session, setup_client):
            assert dynamodb.scan(TableName=TABLE)["Items"] == []
            assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
            assert machines.list_executions(stateMachineArn=arn)["executions"] == []
            dynamodb.put_item(TableName=TABLE, Item=KEY)
            s3.put_object(Bucket=BUCKET, Key="a", Body=b"")
            machines.start_execution(stateMachineArn=arn, name="a", input="{}")
