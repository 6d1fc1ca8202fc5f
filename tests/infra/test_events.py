"""Streams, queues and schedules invoke the right functions, and failed events are kept and reported."""

import json
from typing import Any

import pytest

from infra.groups import FUNCTIONS
from tests.fixtures.audit import AUDITED
from tests.infra.conftest import Synthesised, role_of, statements


def stream_mapping(stage: Synthesised, handler: str) -> dict[str, Any]:
    """Returns the mapping of a table's stream to a function."""
    functions = stage.resources("AWS::Lambda::Function")
    [mapping] = [
        one
        for one in stage.properties("AWS::Lambda::EventSourceMapping")
        if "StartingPosition" in one and functions[one["FunctionName"]["Ref"]]["Properties"]["Handler"] == handler
    ]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0] in stage.resources(
        "AWS::SQS::Queue"
    )
    return mapping


def queue_mapping(stage: Synthesised, handler: str) -> dict[str, Any]:
    """Returns the mapping of a queue to a function."""
    functions = stage.resources("AWS::Lambda::Function")
    [mapping] = [
        one
        for one in stage.properties("AWS::Lambda::EventSourceMapping")
        if "StartingPosition" not in one and functions[one["FunctionName"]["Ref"]]["Properties"]["Handler"] == handler
    ]
    return mapping


@pytest.mark.row("IL-1")
def test_only_new_calls_reach_the_roll_up_function(prod: Synthesised) -> None:
    mapping = stream_mapping(prod, "functions.events.roll_up_inference_logs.handler")
    [criteria] = mapping["FilterCriteria"]["Filters"]
    assert json.loads(criteria["Pattern"]) == {
        "eventName": ["INSERT"],
        "dynamodb": {"Keys": {"PK": {"S": [{"prefix": "log#"}]}}},
    }
    assert "InferenceLogs" in json.dumps(mapping["EventSourceArn"])


@pytest.mark.row("X-14")
def test_only_writes_of_entities_reach_the_audit_function(prod: Synthesised) -> None:
    mapping = stream_mapping(prod, "functions.events.write_audit_log.handler")
    assert [json.loads(one["Pattern"]) for one in mapping["FilterCriteria"]["Filters"]] == list(AUDITED)
    assert mapping["ParallelizationFactor"] > 1
    assert "Entities" in json.dumps(mapping["EventSourceArn"])
    views = {
        name: one["Properties"]["StreamSpecification"]["StreamViewType"]
        for name, one in prod.resources("AWS::DynamoDB::Table").items()
    }
    assert {name[:8]: view for name, view in views.items()} == {
        "Entities": "NEW_AND_OLD_IMAGES",
        "Inferenc": "NEW_IMAGE",
    }


@pytest.mark.row("X-13")
def test_only_writes_of_entities_reach_the_webhook_function(prod: Synthesised) -> None:
    mapping = stream_mapping(prod, "functions.events.publish_webhook_events.handler")
    assert [json.loads(one["Pattern"]) for one in mapping["FilterCriteria"]["Filters"]] == [AUDITED[0]]
    assert "Entities" in json.dumps(mapping["EventSourceArn"])


@pytest.mark.row("X-13")
def test_functions_that_send_webhooks_know_the_name_of_the_queue(prod: Synthesised) -> None:
    queues = prod.resources("AWS::SQS::Queue")
    mapping = queue_mapping(prod, "functions.events.deliver_webhooks.handler")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    queue = queues[mapping["EventSourceArn"]["Fn::GetAtt"][0]]["Properties"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0] in queues
    function = prod.resources("AWS::Lambda::Function")[mapping["FunctionName"]["Ref"]]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    for each in prod.properties("AWS::Lambda::Function"):
        address = json.dumps(each["Environment"]["Variables"]["WEBHOOK_QUEUE_URL"])
        assert address.rstrip('"]} ').endswith(f"/{queue['QueueName']}")
    allowed = [
        spec.name
        for spec in FUNCTIONS
        if any(queue["QueueName"] in json.dumps(one["Resource"]) for one in statements(role_of(prod, spec)))
    ]
    assert allowed == [spec.name for spec in FUNCTIONS if spec.grants.queues_webhooks]


@pytest.mark.row("CN-5")
def test_object_events_wait_in_a_queue_that_keeps_failed_events(prod: Synthesised) -> None:
    [rule] = [r for r in prod.properties("AWS::Events::Rule") if r.get("EventPattern", {}).get("source") == ["aws.s3"]]
    assert rule["EventPattern"]["detail"]["object"] == {"key": [{"wildcard": "spaces/*/connectors/*"}]}
    queues = prod.resources("AWS::SQS::Queue")
    queue = queues[rule["Targets"][0]["Arn"]["Fn::GetAtt"][0]]["Properties"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0] in queues
    mapping = queue_mapping(prod, "functions.events.connector_scan.handler")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    function = prod.resources("AWS::Lambda::Function")[mapping["FunctionName"]["Ref"]]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]


@pytest.mark.row("Y-9")
def test_aws_events_update_job_statuses_and_jobs_are_reconciled_every_five_minutes(prod: Synthesised) -> None:
    rules = prod.properties("AWS::Events::Rule")
    functions = prod.resources("AWS::Lambda::Function")

    def handlers(rule: dict[str, Any]) -> list[str]:
        targets = [target["Arn"]["Fn::GetAtt"][0] for target in rule["Targets"]]
        return [functions[target]["Properties"]["Handler"] for target in targets]

    scheduled = {rule["ScheduleExpression"]: handlers(rule) for rule in rules if "ScheduleExpression" in rule}
    assert scheduled == {
        "rate(5 minutes)": ["functions.events.reconcile_jobs.handler"],
        "rate(1 hour)": ["functions.events.purge_spaces.handler"],
    }
    for source in ("aws.sagemaker", "aws.states"):
        [rule] = [rule for rule in rules if rule.get("EventPattern", {}).get("source") == [source]]
        assert handlers(rule) == ["functions.events.job_state_changed.handler"]
        assert rule["Targets"][0]["DeadLetterConfig"]


def dead_letter_queues(stage: Synthesised) -> set[str]:
    return {name for name in stage.resources("AWS::SQS::Queue") if name[:-8].endswith("Failed")}


def test_every_dead_letter_queue_has_an_alarm(prod: Synthesised) -> None:
    watched = [
        json.dumps(alarm["Dimensions"])
        for alarm in prod.properties("AWS::CloudWatch::Alarm")
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible"
    ]
    dead_letters = dead_letter_queues(prod)
    assert dead_letters
    assert len(watched) == len(dead_letters)
    queues = prod.resources("AWS::SQS::Queue")
    names = [json.dumps(queues[queue]["Properties"]["QueueName"]) for queue in dead_letters]
    assert all(any(name in one for one in watched) for name in names)


def test_every_source_of_events_keeps_failed_events(prod: Synthesised) -> None:
    dead_letters = dead_letter_queues(prod)

    def queue(arn: dict[str, Any]) -> str:
        return str(arn["Fn::GetAtt"][0])

    called = set()
    for rule in prod.properties("AWS::Events::Rule"):
        for target in rule["Targets"]:
            assert queue(target["DeadLetterConfig"]["Arn"]) in dead_letters
            called.add(queue(target["Arn"]))
    for name, one in prod.resources("AWS::SQS::Queue").items():
        if name not in dead_letters:
            assert queue(one["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]) in dead_letters
    for mapping in prod.properties("AWS::Lambda::EventSourceMapping"):
        if "StartingPosition" in mapping:
            assert queue(mapping["DestinationConfig"]["OnFailure"]["Destination"]) in dead_letters
        else:
            assert queue(mapping["EventSourceArn"]) in prod.resources("AWS::SQS::Queue")
    # EventBridge's dead-letter queue does not receive events that the function fails on.
    asynchronous = {
        one["FunctionName"]["Ref"]: queue(one["DestinationConfig"]["OnFailure"]["Destination"])
        for one in prod.properties("AWS::Lambda::EventInvokeConfig")
    }
    functions = prod.resources("AWS::Lambda::Function")
    assert {*asynchronous.values()} <= dead_letters
    assert asynchronous.keys() == called & {*functions}
    for function, failed in asynchronous.items():
        role = functions[function]["Properties"]["Role"]["Fn::GetAtt"][0]
        own = [one for one in prod.properties("AWS::IAM::Policy") if {"Ref": role} in one["Roles"]]
        assert any(
            one["Action"] == "sqs:SendMessage" and queue(one["Resource"]) == failed
            for policy in own
            for one in policy["PolicyDocument"]["Statement"]
        )


def test_alarms_notify_the_topic_when_they_start_and_end(prod: Synthesised) -> None:
    [topic] = prod.resources("AWS::SNS::Topic")
    composites = prod.properties("AWS::CloudWatch::CompositeAlarm")
    parts = json.dumps([one["AlarmRule"] for one in composites])
    notifying = [
        *composites,
        *(one["Properties"] for name, one in prod.resources("AWS::CloudWatch::Alarm", "observability").items()
          if name not in parts),
    ]  # fmt: skip
    assert len(notifying) > 20
    for alarm in notifying:
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": topic}]
