"""Commands of operators, against an emulated AWS that invokes functions and keeps streams."""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from infra.groups import group
from infra.operations.__main__ import main
from infra.operations.redrive import Redrive, accepts, dead_letter_queues
from infra.operations.restore import compared, recount, restore
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import create_table
from tests.fixtures.emulator import emulated_aws
from tests.fixtures.identity import AUDIENCE, ISSUER, Issuer

WAIT_SECONDS = 60
FUNCTION = "inference-test-write-audit-log"
# The function stores its events. It fails while the table has the item "broken".
CODE = """
import json, boto3
table = boto3.resource("dynamodb").Table("notes")
def handler(event, context):
    if "Item" in table.get_item(Key={"PK": "broken", "SK": "broken"}):
        raise RuntimeError("broken on purpose")
    table.put_item(Item={"PK": "call", "SK": context.aws_request_id, "event": json.dumps(event)})
"""
QUEUES: dict[str, dict[str, dict[str, Any]]] = {
    "workflows": {
        "ObjectEvents00000001": {
            "RedrivePolicy": {
                "deadLetterTargetArn": {"Fn::GetAtt": ["ObjectEventsFailed00000002", "Arn"]},
                "maxReceiveCount": 5,
            }
        },
        "ObjectEventsFailed00000002": {},
        "AuditFailed00000003": {},
    },
    "api": {"JobEventsFailed00000004": {}},
}


def eventually(find: Callable[[], Any]) -> Any:
    """Waits until ``find`` returns a true value, and returns it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := find()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def emulator() -> Iterator[pytest.MonkeyPatch]:
    with emulated_aws() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(scope="module")
def session(emulator: pytest.MonkeyPatch) -> boto3.Session:
    """Returns a session with the queues of a stage and a function that reads the stream of a table."""
    session = boto3.Session()
    cloudformation = session.client("cloudformation")
    for stack, queues in QUEUES.items():
        resources = {name: {"Type": "AWS::SQS::Queue", "Properties": each} for name, each in queues.items()}
        cloudformation.create_stack(
            StackName=f"inference-test-{stack}", TemplateBody=json.dumps({"Resources": resources})
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=f"inference-test-{stack}", WaiterConfig={"Delay": 1}
        )
    dynamodb = session.client("dynamodb")
    create_table(dynamodb, "notes")
    create_table(dynamodb, "entities")
    stream = dynamodb.update_table(
        TableName="entities",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]["LatestStreamArn"]
    create_function(session, FunctionName=FUNCTION)
    [failed] = [one for one in dead_letter_queues(session, "test") if one.id == "AuditFailed"]
    session.client("lambda").create_event_source_mapping(
        FunctionName=FUNCTION,
        EventSourceArn=stream,
        StartingPosition="TRIM_HORIZON",
        # The emulator drops a batch only by its age. AWS would require at least a minute.
        MaximumRecordAgeInSeconds=1,
        FilterCriteria={
            "Filters": [{"Pattern": '{"dynamodb": {"NewImage": {"written_by": {"S": [{"exists": true}]}}}}'}]
        },
        DestinationConfig={"OnFailure": {"Destination": arn_of(session, failed.url)}},
    )
    return session


def packed(code: str) -> bytes:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.py", code)
    return package.getvalue()


def create_function(session: boto3.Session, **named: str) -> None:
    session.client("lambda").create_function(
        **named,
        Runtime="python3.13",
        Handler="index.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": packed(CODE)},
    )


def queue_of(session: boto3.Session, name: str) -> Any:
    [found] = [one for one in dead_letter_queues(session, "test") if one.id == name]
    return found


def arn_of(session: boto3.Session, url: str) -> str:
    found = session.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


def waiting(session: boto3.Session, url: str) -> int:
    names: list[Any] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = session.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(map(int, found.values()))


class Notes:
    """A reader of the events that the function stored. It can also make the function fail."""

    def __init__(self, session: boto3.Session) -> None:
        self._table = session.resource("dynamodb").Table("notes")

    def break_function(self) -> None:
        self._table.put_item(Item={"PK": "broken", "SK": "broken"})

    def repair_function(self) -> None:
        self._table.delete_item(Key={"PK": "broken", "SK": "broken"})

    def take(self) -> list[Any]:
        items = self._table.query(KeyConditionExpression="PK = :call", ExpressionAttributeValues={":call": "call"})[
            "Items"
        ]
        for item in items:
            self._table.delete_item(Key={"PK": item["PK"], "SK": item["SK"]})
        return [json.loads(str(item["event"])) for item in items]


@pytest.fixture
def notes(session: boto3.Session) -> Notes:
    notes = Notes(session)
    notes.repair_function()
    notes.take()
    return notes


@pytest.mark.row("X-15")
def test_dead_letter_queues_of_a_stage_are_found_with_their_sources(session: boto3.Session) -> None:
    found = {queue.id: queue.source_url for queue in dead_letter_queues(session, "test")}
    assert sorted(found) == ["AuditFailed", "JobEventsFailed", "ObjectEventsFailed"]
    assert [name for name, source in found.items() if source] == ["ObjectEventsFailed"]


@pytest.mark.row("X-15")
def test_messages_return_to_their_source_queue(session: boto3.Session, capsys: pytest.CaptureFixture[str]) -> None:
    queue, sqs = queue_of(session, "ObjectEventsFailed"), session.client("sqs")
    for number in range(12):
        sqs.send_message(QueueUrl=queue.url, MessageBody=json.dumps({"detail": number}))
    assert main(["redrive", "--stage", "test", "--queue", "ObjectEventsFailed"]) == 0
    output = capsys.readouterr().out
    assert "ObjectEventsFailed: 10 of about 12, 0 failed" in output
    assert "ObjectEventsFailed: send it back to its queue: 12" in output
    assert (waiting(session, queue.url), waiting(session, queue.source_url)) == (0, 12)
    sqs.purge_queue(QueueUrl=queue.source_url)


@pytest.mark.row("X-15")
def test_a_dry_run_only_prints_the_actions(
    session: boto3.Session, notes: Notes, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, sqs = queue_of(session, "JobEventsFailed"), session.client("sqs")
    event = {"source": "aws.states", "detail": {"name": "a job"}}
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{FUNCTION}"
    rest: dict[str, Any] = {"MessageAttributes": {"TARGET_ARN": {"DataType": "String", "StringValue": arn}}}
    sqs.send_message(QueueUrl=queue.url, MessageBody=json.dumps(event), **rest)
    assert main(["redrive", "--stage", "test", "--queue", "JobEventsFailed", "--dry-run"]) == 0
    assert f"would call {FUNCTION}: 1" in capsys.readouterr().out
    assert waiting(session, queue.url) == 1
    assert notes.take() == []
    sqs.purge_queue(QueueUrl=queue.url)


@pytest.mark.row("X-15")
def test_a_message_stays_until_its_function_succeeds(session: boto3.Session, notes: Notes) -> None:
    queue, function = queue_of(session, "JobEventsFailed"), session.client("lambda")
    function.put_function_event_invoke_config(
        FunctionName=FUNCTION,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn_of(session, queue.url)}},
    )
    event = {"source": "aws.states", "detail": {"name": "a job"}}
    notes.break_function()
    function.invoke(FunctionName=FUNCTION, InvocationType="Event", Payload=json.dumps(event).encode())
    eventually(lambda: waiting(session, queue.url))
    first = Redrive(session).run(queue)
    assert first.done == {}
    assert "broken on purpose" in first.failed[0]
    assert waiting(session, queue.url) == 1

    notes.repair_function()
    second = Redrive(session).run(queue)
    assert (second.done, second.failed) == ({f"call {FUNCTION} again": 1}, [])
    assert notes.take() == [event]
    assert waiting(session, queue.url) == 0


@pytest.mark.row("X-15")
def test_stream_records_are_read_again_and_filtered_for_the_function(session: boto3.Session, notes: Notes) -> None:
    queue, table = queue_of(session, "AuditFailed"), session.resource("dynamodb").Table("entities")
    notes.break_function()
    table.put_item(Item={"PK": "action#1", "SK": "a", "written_by": "alice"})
    eventually(lambda: waiting(session, queue.url))
    notes.repair_function()
    table.put_item(Item={"PK": "counter#1", "SK": "without write marker"})

    outcome = Redrive(session).run(queue)
    assert (outcome.done, outcome.failed) == ({f"read the stream again for {FUNCTION}": 1}, [])
    [event] = notes.take()
    assert [record["dynamodb"]["NewImage"]["PK"]["S"] for record in event["Records"]] == ["action#1"]
    assert isinstance(event["Records"][0]["dynamodb"]["ApproximateCreationDateTime"], float | int)
    assert waiting(session, queue.url) == 0


def test_filters_work_as_in_lambda_and_unsupported_rules_are_refused() -> None:
    record = {"eventName": "INSERT", "dynamodb": {"Keys": {"PK": {"S": "log#1"}}}}
    assert accepts({"eventName": ["INSERT"], "dynamodb": {"Keys": {"PK": {"S": [{"prefix": "log#"}]}}}}, record)
    assert not accepts({"eventName": ["REMOVE", "MODIFY"]}, record)
    assert not accepts({"dynamodb": {"OldImage": {"written_by": {"S": [{"exists": True}]}}}}, record)
    assert accepts({"dynamodb": {"OldImage": {"written_by": {"S": [{"exists": False}]}}}}, record)
    with pytest.raises(ValueError, match="anything-but"):
        accepts({"eventName": [{"anything-but": "REMOVE"}]}, record)


def test_an_unknown_queue_is_refused_and_the_message_lists_the_queues(
    session: boto3.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["redrive", "--stage", "test", "--queue", "Nothing"]) == 2
    assert "the queues are AuditFailed, JobEventsFailed, ObjectEventsFailed" in capsys.readouterr().out


@pytest.mark.row("X-15")
def test_a_restored_table_has_the_old_items_and_works_with_the_api(session: boto3.Session, issuer: Issuer) -> None:
    dynamodb = session.client("dynamodb")
    create_table(dynamodb, "in-use")
    dynamodb.update_table(
        TableName="in-use",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )

    def client(table: str) -> TestClient:
        settings = Settings(
            stage="test",
            table_name=table,
            bucket_name="data",
            logs_table_name="logs",
            oidc_issuer=ISSUER,
            oidc_audience=AUDIENCE,
            oidc_jwks_url=issuer.jwks_url,
        )
        client = TestClient(build_api(Resources(settings)))
        client.headers["Authorization"] = f"Bearer {issuer.token('alice')}"
        return client

    alice = client("in-use")
    space = alice.post("/spaces", json={"name": "Alice's", "description": ""}).json()["id"]
    alice.headers["X-Space-Id"] = space
    for number in range(30):
        alice.post("/action-groups", json={"name": f"group {number}", "description": ""})
    before = alice.get("/action-groups?limit=50").json()
    assert len(before["data"]) == 30

    restored = restore(session, "in-use", "restored", None, report=lambda _: None, poll_seconds=0.1)
    # This item is deleted after the restored time.
    session.resource("dynamodb").Table("in-use").delete_item(
        Key={"PK": f"action_group#{space}", "SK": before["data"][0]["id"]}
    )
    lines = list(compared(recount(session, "in-use"), recount(session, restored.name)))
    assert [line.split()[-1] for line in lines if line.startswith(("action_group ", "all "))] == ["+1", "+1"]

    again = client(restored.name)
    again.headers["X-Space-Id"] = space
    assert again.get("/action-groups?limit=50").json() == before
    table = dynamodb.describe_table(TableName=restored.name)["Table"]
    assert table["StreamSpecification"]["StreamViewType"] == "NEW_AND_OLD_IMAGES"
    assert restored.stream_arn == table["LatestStreamArn"]
    assert table["DeletionProtectionEnabled"] is True
    expiry = dynamodb.describe_time_to_live(TableName=restored.name)["TimeToLiveDescription"]
    assert (expiry["AttributeName"], expiry["TimeToLiveStatus"]) == ("expires_at", "ENABLED")
    backups = dynamodb.describe_continuous_backups(TableName=restored.name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_old_versions_are_deleted_but_none_that_serves_requests(
    session: boto3.Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("infra.operations.versions.GROUPS", [group("chats")])
    monkeypatch.setattr("infra.operations.versions.AUTHORIZE", group("models"))
    lambda_ = session.client("lambda")
    for name in ("chats", "models"):
        function = {"FunctionName": f"inference-test-{name}"}
        create_function(session, **function)
        for number in range(1, 6):
            lambda_.update_function_code(**function, ZipFile=packed(f"number = {number}"))
            assert lambda_.publish_version(**function)["Version"] == str(number)
    # An operator went back to the first version of one function. A release of the other is not complete.
    lambda_.create_alias(FunctionName="inference-test-chats", Name="live", FunctionVersion="1")
    weights: Any = {"AdditionalVersionWeights": {"5": 0.1}}
    lambda_.create_alias(FunctionName="inference-test-models", Name="live", FunctionVersion="4", RoutingConfig=weights)

    def published(name: str) -> list[str]:
        versions = lambda_.list_versions_by_function(FunctionName=f"inference-test-{name}")["Versions"]
        return sorted(one["Version"] for one in versions)

    assert main(["versions", "--stage", "test", "--keep", "2", "--dry-run"]) == 0
    assert "inference-test-chats 2: would be deleted" in capsys.readouterr().out
    assert len(published("chats")) == 6
    assert main(["versions", "--stage", "test", "--keep", "2"]) == 0
    assert published("chats") == ["$LATEST", "1", "4", "5"]
    assert published("models") == ["$LATEST", "2", "3", "4", "5"]
