"""The guard of functional tests refuses calls without a grant and reports grants that no test needs."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.testclient import TestClient

from infra.groups import FunctionSpec, Grants
from tests.fixtures import grants
from tests.fixtures.aws import BUCKET, TABLE
from tests.fixtures.grants import (
    NotGrantedError,
    Part,
    hold_to_grants,
    noted,
    refuse_what_is_not_granted,
    unneeded,
    watched,
)

# This must run before the first boto3 session exists.
refuse_what_is_not_granted()

Act = Callable[..., Any]


@pytest.fixture
def act_as(aws: None) -> Act:
    """Returns ``act_as(module, client.put_item, …)``, which makes a call from the code of the named module."""

    def call(module: str, operation: Callable[..., Any], **parameters: Any) -> Any:
        scope: dict[str, Any] = {"__name__": module, "operation": operation, "parameters": parameters}
        exec("def act(): return operation(**parameters)", scope)  # noqa: S102
        return scope["act"]()

    return call


def item(partition: str) -> Any:
    return {"PK": {"S": partition}, "SK": {"S": "1"}}


def test_a_group_writes_only_kinds_that_it_is_granted(act_as: Act) -> None:
    client = boto3.client("dynamodb")
    own = {"TableName": TABLE, "Item": item("benchmark#space-1")}
    act_as("functions.benchmarks.service", client.put_item, **own)
    with pytest.raises(NotGrantedError, match="leaderboards may not dynamodb:PutItem on benchmark"):
        act_as("functions.leaderboards.service", client.put_item, **own)
    act_as("functions.leaderboards.service", client.get_item, TableName=TABLE, Key=item("benchmark#space-1"))


def test_each_part_of_a_transaction_or_batch_needs_a_grant(act_as: Act) -> None:
    client = boto3.client("dynamodb")
    put: Any = {"Put": {"TableName": TABLE, "Item": item("benchmark#space-1")}}
    other: Any = {"Put": {"TableName": TABLE, "Item": item("connector#space-1")}}
    act_as("functions.benchmarks.service", client.transact_write_items, TransactItems=[put])
    with pytest.raises(NotGrantedError, match="connector"):
        act_as("functions.benchmarks.service", client.transact_write_items, TransactItems=[put, other])
    keys: Any = {TABLE: {"Keys": [item("benchmark#space-1"), item("training#space-1")]}}
    with pytest.raises(NotGrantedError, match="training"):
        act_as("functions.benchmarks.service", client.batch_get_item, RequestItems=keys)


def test_a_query_needs_a_grant_for_its_partition(act_as: Act) -> None:
    client = boto3.client("dynamodb")

    query = {
        "TableName": TABLE,
        "KeyConditionExpression": "#n0 = :v0",
        "ExpressionAttributeNames": {"#n0": "PK"},
    }
    granted, refused = ({":v0": {"S": partition}} for partition in ("data_model#space-1", "user#somebody"))
    act_as("functions.data_models.service", client.query, ExpressionAttributeValues=granted, **query)
    with pytest.raises(NotGrantedError):
        act_as("functions.data_models.service", client.query, ExpressionAttributeValues=refused, **query)


def test_a_step_reaches_only_object_keys_that_it_is_granted(act_as: Act) -> None:
    client = boto3.client("s3")
    step = "functions.workflows.evaluation.prepare_evaluation"
    act_as(step, client.put_object, Bucket=BUCKET, Key="spaces/1/evaluations/2/input/job.json", Body=b"{}")
    with pytest.raises(NotGrantedError):
        act_as(step, client.put_object, Bucket=BUCKET, Key="spaces/1/trainings/2/input/job.json", Body=b"{}")


def test_code_of_two_functions_needs_both_grants_and_shared_code_needs_none(act_as: Act) -> None:
    client = boto3.client("dynamodb")
    with pytest.raises(NotGrantedError):
        act_as("functions.events.convergence", client.get_item, TableName=TABLE, Key=item("user#somebody"))
    act_as("shared.dynamodb.table", client.get_item, TableName=TABLE, Key=item("user#somebody"))


def test_signing_an_upload_form_needs_a_grant_for_the_upload(act_as: Act) -> None:
    client = boto3.client("s3")
    form: dict[str, Any] = {"Bucket": BUCKET, "Key": "spaces/1/connectors/2/a.csv"}
    act_as("functions.connectors.service", client.generate_presigned_post, **form)
    with pytest.raises(NotGrantedError, match="chats may not s3:PutObject"):
        act_as("functions.chats.service", client.generate_presigned_post, **form)


def test_reading_a_missing_object_needs_a_grant_for_listing(act_as: Act) -> None:
    client = boto3.client("s3")
    with pytest.raises(client.exceptions.NoSuchKey):
        act_as("functions.checkpoints.service", client.get_object, Bucket=BUCKET, Key="spaces/1/trainings/2/model")
    with pytest.raises(NotGrantedError, match="chats may not s3:ListObjects"):
        act_as("functions.chats.service", client.get_object, Bucket=BUCKET, Key="spaces/1/experts/2/1.json")


def test_calls_in_other_threads_need_a_grant_of_the_requests_group(act_as: Act) -> None:
    client, app = boto3.client("dynamodb"), watched(FastAPI())

    @app.get("/leaderboards")
    @app.get("/benchmarks/{id}")
    async def read() -> None:
        scope: dict[str, Any] = {"__name__": "shared.dynamodb.table", "get": client.get_item, "key": item("expert#1")}
        exec("def act(): get(TableName='entities', Key=key)", scope)  # noqa: S102
        await run_sync(scope["act"])

    for path, group in (("/leaderboards", "leaderboards"), ("/benchmarks/1", "benchmarks")):
        with pytest.raises(NotGrantedError, match=f"{group} may not dynamodb:GetItem on expert"):
            TestClient(app).get(path)


def test_callers_of_a_fake_need_a_grant(act_as: Act) -> None:
    def send() -> None:
        hold_to_grants("sqs", "SendMessageBatch", {"QueueUrl": "queue"})

    act_as("functions.webhook_endpoints.service", send)
    with pytest.raises(NotGrantedError, match="leaderboards may not sqs:SendMessageBatch"):
        act_as("functions.leaderboards.service", send)


def test_needed_grants_are_recorded(act_as: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "NEEDED", set())
    read = boto3.client("dynamodb").get_item
    act_as("functions.benchmarks.service", read, TableName=TABLE, Key=item("benchmark#1"))
    with noted():
        act_as("functions.leaderboards.service", read, TableName=TABLE, Key=item("benchmark#1"))
    assert {Part("leaderboards", "reads", "benchmark")} == grants.NEEDED


def test_unneeded_grants_are_reported_and_reads_do_not_need_write_grants() -> None:
    held = Grants(
        reads=("chat", "expert", "score"),
        writes=("score", "scan"),
        deletes=("spaces/*",),
        stops_training_jobs=True,
        lists=("a/*",),
    )
    needed = {
        Part("some", "reads", "chat"),
        Part("some", "reads", "score"),
        Part("some", "writes", "scan"),
        Part("some", "watches_training_jobs"),
        Part("some", "lists", "a/*"),
    }
    some = [FunctionSpec(name="some", handler="", grants=held)]
    assert unneeded(some, needed, {}) == [
        f"some has the grant {grant}, which no test needs: remove it from infra/groups.py"
        for grant in ("deletes spaces/*", "reads expert", "stops_training_jobs", "writes score")
    ]


def test_an_excused_grant_must_exist_and_no_test_may_need_it() -> None:
    some = [FunctionSpec(name="some", handler="", grants=Grants(reads=("chat", "score")))]
    excused = {Part("some", "reads", kind): "for a reason" for kind in ("chat", "score", "expert")}
    assert unneeded(some, {Part("some", "reads", "score")}, excused) == [
        "some does not have the grant reads expert: remove it from UNSEEN",
        "some has the grant reads score, which a test needs: remove it from UNSEEN",
    ]
