"""Each synthesised role allows what infra/groups.py grants to its function, and refuses everything else.

The emulator evaluates the policies, as in tests/e2e for the deployed roles.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from infra.groups import FUNCTIONS, FunctionSpec, Workflow
from shared.aws.leading_keys import table_accesses
from tests.infra.conftest import MAIL_DOMAIN, Resource, Synthesised, all_statements, listed

ACCOUNT, REGION = "000000000000", "us-east-1"
DEPLOYED_TO = {"AWS::Partition": "aws", "AWS::AccountId": ACCOUNT, "AWS::Region": REGION}
ENTITIES, LOGS, FILES = "<Entities>", "<InferenceLogs>", "<Files>"
Call = tuple[str, dict[str, Any]]


def granted(*names: str) -> list[str]:
    """Returns everything that any function is granted under these names."""
    return sorted({each for spec in FUNCTIONS for name in names for each in getattr(spec.grants, name)})


class Role:
    """The policies of a function's role: the granted ones, and the ones that deliver events to the function."""

    def __init__(self, granted: Iterable[Resource], delivery: Iterable[Resource]) -> None:
        parts = [
            [one for policy in policies for one in parse_policy_document(_resolved(policy["PolicyDocument"]))]
            for policies in (granted, delivery)
        ]
        self.granted, self.delivery = ({action for one in part for action in one.actions} for part in parts)
        self._statements = [*parts[0], *parts[1]]

    def allows(self, action: str, resource: str, context: dict[str, Any] | None = None) -> bool:
        call = EvalContext(
            principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/function/session",
            principal_type="AssumedRole",
            principal_account=ACCOUNT,
            action=action,
            resource_arn=resource,
            region=REGION,
            service_context=context or {},
        )
        return bool(evaluate(call, [self._statements]).decision == "Allow")

    def allows_call(self, operation: str, request: dict[str, Any]) -> bool:
        """Returns whether DynamoDB allows a call. It evaluates each part of a transaction, but a batch as a whole."""
        keys: dict[tuple[str, str], list[str]] = {}
        for access in table_accesses(operation, request):
            keys.setdefault((f"dynamodb:{access.action}", access.table), []).append(access.partition)
        return all(self.allows(*call, {"dynamodb:leadingkeys": named}) for call, named in keys.items())


def _resolved(value: Any) -> Any:
    """Returns the value. A name in angle brackets replaces each part that only the deployment knows."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return separator.join(_resolved(parts))
        case {"Fn::ImportValue": name}:
            return re.sub(r".*(?:GetAtt|Ref)(\w+?)[0-9A-F]{8}(?:(?:Stream)?Arn)?[0-9A-F]{8}$", r"<\1>", name)
        case {"Ref": name} if name in DEPLOYED_TO:
            return DEPLOYED_TO[name]
        case {"Ref": name} | {"Fn::GetAtt": [name, _]} | {"Fn::Sub": name}:
            return f"<{name}>"
        case dict():
            return {key: _resolved(each) for key, each in value.items()}
        case list():
            return [_resolved(each) for each in value]
    return value


@pytest.fixture(scope="module")
def roles(prod: Synthesised) -> dict[str, Role]:
    """Returns the roles by the names of their functions."""
    all_roles = prod.resources("AWS::IAM::Role")
    attached = prod.properties("AWS::IAM::Policy")
    named = {one["FunctionName"]: one["Role"]["Fn::GetAtt"][0] for one in prod.properties("AWS::Lambda::Function")}
    return {
        spec.name: Role(
            all_roles[role]["Properties"]["Policies"], [one for one in attached if {"Ref": role} in one["Roles"]]
        )
        for spec in FUNCTIONS
        for role in (named[f"inference-prod-{spec.name}"],)
    }


def reads(table: str, *partitions: str) -> Iterator[Call]:
    """Yields all calls that read the last partition. Calls with several keys also read the other partitions."""
    *_, key = keys = [{"PK": {"S": partition}, "SK": {"S": "1"}} for partition in partitions]
    query = {"KeyConditionExpression": "PK = :pk", "ExpressionAttributeValues": {":pk": key["PK"]}}
    checks = [{"ConditionCheck": {"TableName": table, "Key": each}} for each in keys]
    yield "GetItem", {"TableName": table, "Key": key}
    yield "Query", {"TableName": table, **query}
    yield "BatchGetItem", {"RequestItems": {table: {"Keys": keys}}}
    yield "TransactGetItems", {"TransactItems": [{"Get": {"TableName": table, "Key": each}} for each in keys]}
    yield "TransactWriteItems", {"TransactItems": checks}


def writes(table: str, *partitions: str) -> Iterator[Call]:
    """Yields all calls that write the last partition, except batches."""
    *_, key = keys = [{"PK": {"S": partition}, "SK": {"S": "1"}} for partition in partitions]
    yield "PutItem", {"TableName": table, "Item": key}
    yield "UpdateItem", {"TableName": table, "Key": key}
    yield "DeleteItem", {"TableName": table, "Key": key}
    yield "TransactWriteItems", {"TransactItems": [{"Put": {"TableName": table, "Item": each}} for each in keys]}


def batch_writes(table: str, *partitions: str) -> Iterator[Call]:
    keys = [{"PK": {"S": partition}, "SK": {"S": "1"}} for partition in partitions]
    yield "BatchWriteItem", {"RequestItems": {table: [{"DeleteRequest": {"Key": each}} for each in keys]}}


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
@pytest.mark.parametrize(("table", "logs"), [(ENTITIES, ""), (LOGS, "_logs")], ids=["entities", "logs"])
def test_a_role_allows_only_granted_kinds_of_a_table(
    roles: dict[str, Role], spec: FunctionSpec, table: str, logs: str
) -> None:
    role = roles[spec.name]
    writable = set(getattr(spec.grants, f"writes{logs}"))
    readable = {*getattr(spec.grants, f"reads{logs}"), *writable}
    wrong = []
    for kind in (*granted("reads", "writes", "reads_logs", "writes_logs"), "unknown"):
        expected = [
            (reads, kind in readable),
            (writes, kind in writable),
            (batch_writes, kind in writable or (spec.grants.purges_spaces and table == ENTITIES)),
        ]
        for calls, allowed in expected:
            own = sorted(readable if calls is reads else writable)[:1]
            wrong += [
                f"{operation} of {kind} is {'refused' if allowed else 'allowed'}"
                for operation, request in calls(table, *(f"{each}#1" for each in (*own, kind)))
                if role.allows_call(operation, request) != allowed
            ]
    assert wrong == []


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_role_allows_only_granted_files(roles: dict[str, Role], spec: FunctionSpec) -> None:
    role = roles[spec.name]

    def allowed(action: str, key: str) -> bool:
        if action.startswith("s3:List"):
            return role.allows(action, FILES, {"s3:prefix": key})
        return role.allows(action, f"{FILES}/{key}")

    actions = {
        "gets": ("s3:GetObject", "s3:GetObjectVersion"),
        "puts": ("s3:PutObject",),
        "deletes": ("s3:DeleteObject", "s3:DeleteObjectVersion")[: 1 + spec.grants.purges_spaces],
        "lists": ("s3:ListBucket", "s3:ListBucketVersions")[: 1 + spec.grants.purges_spaces],
    }
    keys = [pattern.replace("*", "1") for pattern in (*granted("gets", "puts", "deletes", "lists"), "unknown/*")]
    wrong = [
        f"{action} of {key}"
        for grant, names in actions.items()
        for action in names
        for key in keys
        if allowed(action, key) != any(fnmatchcase(key, pattern) for pattern in getattr(spec.grants, grant))
    ]
    assert wrong == []


# Actions for logs and traces, and actions that deliver events and keep failed ones.
ALWAYS = {"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}
DELIVERY = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
}
# The grants that allow an action; one is enough. Other tests check the actions on tables, files and their key.
NEEDS = {
    "logs:DescribeLogStreams": ("reads_job_logs",),
    "logs:GetLogEvents": ("reads_job_logs",),
    "sagemaker:DescribeTrainingJob": ("watches_training_jobs", "stops_training_jobs"),
    "sagemaker:StopTrainingJob": ("stops_training_jobs",),
    "secretsmanager:GetSecretValue": ("webhook_secret", "assumes_customer_roles"),
    "ses:SendEmail": ("sends_mail",),
    "sqs:SendMessage": ("queues_webhooks",),
    "ssm:DeleteParameter": ("writes_parameters",),
    "ssm:GetParameter": ("reads_parameters", "writes_parameters"),
    "ssm:PutParameter": ("writes_parameters",),
    "states:DescribeExecution": ("stops_executions",),
    "states:StartExecution": ("starts",),
    "states:StopExecution": ("stops_executions",),
    "sts:AssumeRole": ("assumes_customer_roles",),
}


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_role_allows_no_action_without_a_grant(roles: dict[str, Role], spec: FunctionSpec) -> None:
    role = roles[spec.name]
    tested_above = {name for name in role.granted if name.startswith(("dynamodb:", "s3:", "kms:"))}
    needed = {action for action, names in NEEDS.items() if any(getattr(spec.grants, name) for name in names)}
    assert role.granted - tested_above == ALWAYS | needed
    unpacking = {"s3:GetObject"} if spec.unpacks else set()
    assert role.delivery <= DELIVERY | unpacking


def own_arn(service: str, resource: str) -> str:
    """Returns an ARN in the account and region of the deployment."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_role_starts_only_granted_workflows(roles: dict[str, Role], spec: FunctionSpec) -> None:
    machine = own_arn("states", "stateMachine:inference-prod-")
    started = {one for one in Workflow if roles[spec.name].allows("states:StartExecution", f"{machine}{one}")}
    assert started == set(spec.grants.starts)
    others = (own_arn("states", "stateMachine:inference-dev-training"), own_arn("states", "stateMachine:other"))
    assert not any(roles[spec.name].allows("states:StartExecution", one) for one in others)


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_role_allows_only_granted_parameters(roles: dict[str, Role], spec: FunctionSpec) -> None:
    def named(*patterns: str, stage: str = "prod") -> set[str]:
        return {own_arn("ssm", f"parameter/inference/{stage}/{one.replace('*', '1')}") for one in patterns}

    grants = spec.grants
    known = granted("reads_parameters", "writes_parameters")
    parameters = named(*known, "unknown/*") | named(*known, stage="dev")
    expected = {
        "ssm:GetParameter": named(*grants.reads_parameters, *grants.writes_parameters),
        "ssm:PutParameter": named(*grants.writes_parameters),
        "ssm:DeleteParameter": named(*grants.writes_parameters),
    }
    for action, own in expected.items():
        assert {one for one in parameters if roles[spec.name].allows(action, one)} == own, action


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_role_allows_only_granted_secrets(roles: dict[str, Role], spec: FunctionSpec) -> None:
    secrets = {
        "<WebhookSecret>": spec.grants.webhook_secret,
        "<ExternalIdKey>": spec.grants.assumes_customer_roles,
        "<OtherSecret>": False,
        own_arn("secretsmanager", "secret:other"): False,
    }
    allowed = {one: roles[spec.name].allows("secretsmanager:GetSecretValue", one) for one in secrets}
    assert allowed == secrets


SENDER, OTHER_ACCOUNT = f"invites@{MAIL_DOMAIN}", "arn:aws:{}:us-east-1:111122223333:{}"
JOBS = tuple(own_arn("sagemaker", f"training-job/{kind}-1-1") for kind in ("training", "evaluation"))
OTHER_JOBS = (
    own_arn("sagemaker", "training-job/churn-1"),
    OTHER_ACCOUNT.format("sagemaker", "training-job/training-1-1"),
)
JOB_LOGS = own_arn("logs", "log-group:/aws/sagemaker/TrainingJobs")
EXECUTIONS = tuple(own_arn("states", f"execution:inference-prod-{workflow}:1") for workflow in Workflow)
OTHER_EXECUTIONS = (own_arn("states", "execution:inference-dev-training:1"), own_arn("states", "execution:other:1"))
# The resources that each action of NEEDS may use, and similar resources that it may not use.
REACHED = {
    "logs:DescribeLogStreams": ((JOB_LOGS,), (own_arn("logs", "log-group:/aws/lambda/other"),)),
    "logs:GetLogEvents": (
        (f"{JOB_LOGS}:log-stream:training-1-1/algo-1-1",),
        (
            f"{JOB_LOGS}:log-stream:churn-1/algo-1-1",
            own_arn("logs", "log-group:/x:log-stream:training-1/algo-1-1"),
        ),
    ),
    "sagemaker:DescribeTrainingJob": (JOBS, OTHER_JOBS),
    "sagemaker:StopTrainingJob": (JOBS, OTHER_JOBS),
    "ses:SendEmail": (
        (own_arn("ses", f"identity/{SENDER}"), own_arn("ses", f"identity/{MAIL_DOMAIN}")),
        (own_arn("ses", "identity/example.com"), OTHER_ACCOUNT.format("ses", f"identity/{MAIL_DOMAIN}")),
    ),
    "sqs:SendMessage": (
        (own_arn("sqs", "inference-prod-webhook-deliveries"),),
        (own_arn("sqs", "inference-dev-webhook-deliveries"), own_arn("sqs", "other")),
    ),
    "states:DescribeExecution": (EXECUTIONS, OTHER_EXECUTIONS),
    "states:StopExecution": (EXECUTIONS, OTHER_EXECUTIONS),
    "sts:AssumeRole": (
        ("arn:aws:iam::111122223333:role/reader",),
        (f"arn:aws:iam::{ACCOUNT}:role/reader", "arn:aws:iam::111122223333:user/reader"),
    ),
}


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_role_allows_its_actions_only_on_their_own_resources(roles: dict[str, Role], spec: FunctionSpec) -> None:
    wrong = []
    for action, (own, others) in REACHED.items():
        may = any(getattr(spec.grants, name) for name in NEEDS[action])
        context = {"ses:fromaddress": SENDER}
        wrong += [(action, one) for one in own if roles[spec.name].allows(action, one, context) != may]
        wrong += [(action, one) for one in others if roles[spec.name].allows(action, one, context)]
    assert wrong == []


def test_mail_is_sent_only_from_the_stages_sender(roles: dict[str, Role]) -> None:
    [spec] = (spec for spec in FUNCTIONS if spec.grants.sends_mail)
    identity = own_arn("ses", f"identity/{MAIL_DOMAIN}")
    assert not roles[spec.name].allows("ses:SendEmail", identity, {"ses:fromaddress": f"boss@{MAIL_DOMAIN}"})


def test_every_action_is_tested_with_its_resources() -> None:
    tested_above = {
        "secretsmanager:GetSecretValue",
        "ssm:DeleteParameter",
        "ssm:GetParameter",
        "ssm:PutParameter",
        "states:StartExecution",
    }
    assert REACHED.keys() | tested_above == NEEDS.keys()


# Resources without the stage in their names, and the reason.
WITHOUT_STAGE = {
    ":training-job/training-*": "Job names contain the ids of trainings, and each stage has an account.",
    ":training-job/evaluation-*": "Job names contain the ids of evaluations, and each stage has an account.",
    ":iam::*:role/*": "Customers choose the names and accounts of their roles. A condition excludes this account.",
    ":repository/pytorch": "The containers belong to AWS's account.",
    ":rule/StepFunctionsGetEventsFor": "AWS fixes the names of the rules that Step Functions uses.",
    ":processing-job/": "Job names contain the ids of runs, and each stage has an account.",
    ":log-group:/aws/sagemaker/": "SageMaker chooses the names of its log groups.",
    f":identity/{SENDER}": "The sender belongs to the operator.",
    f":identity/{MAIL_DOMAIN}": "The sender's domain belongs to the operator.",
}
# Resources of the stacks, and names with the stage.
WITH_STAGE = re.compile(r"<(?!AWS::)[^>]+>|:inference-prod-|:parameter/inference/prod/|:function:inference-prod-")


def test_policies_name_only_resources_of_this_deployment(prod: Synthesised) -> None:
    named = {str(_resolved(one)) for each in all_statements(prod) for one in listed(each["Resource"])} - {"*"}
    others = {one for one in named if not WITH_STAGE.search(one)}
    assert [one for one in others if not any(part in one for part in WITHOUT_STAGE)] == []
    assert [part for part in WITHOUT_STAGE if not any(part in one for one in others)] == []
