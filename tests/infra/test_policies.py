"""The synthesised policies allow the calls of the functional tests and of AWS's services, and nothing unused.

A simulator of IAM decides, beside the emulator's own check. It knows the policies of roles, buckets, queues, topics,
functions and the key, and their conditions. The functional tests run first and store their calls.
``test_needed_grants.py`` finds the grants that none of these calls needed.
"""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

from infra.groups import FUNCTIONS
from tests.fixtures.grants import MADE_FILE
from tests.fixtures.iam_calls import ACCOUNT, CUSTOMER_ROLE, ENTITIES, FILES, SECRETS, SENDER, IamCall, read_calls
from tests.infra.conftest import Synthesised
from tests.infra.simulator.deployment import OTHERS, Deployment, Request
from tests.infra.simulator.policies import Policies
from tests.infra.simulator.service_calls import arn, function_roles, granted_calls, job_role, service_calls, uses_of_key

OTHER_ACCOUNT = "999988887777"
# Permissions that no request uses, by a pattern of holder and action, and the reason.
UNUSED = {
    r"arn:aws:kms:.* kms:(CreateGrant|DescribeKey|Encrypt|GenerateDataKey\*|ReEncrypt\*)": (
        "The CDK lets a deployment make secrets with the key, by way of Secrets Manager."
    ),
    r"arn:aws:sqs:.*-object-events sqs:Get(QueueAttributes|QueueUrl)": "The CDK grants them with sqs:SendMessage.",
    r"api-ReleasesRole\w+ lambda:GetProvisionedConcurrencyConfig": (
        "The simulator does not tell an alias from a version. AWS's own policy for CodeDeploy has this action."
    ),
}
# Functions have these actions in groups, and test_needed_grants.py looks at the grants that the groups come from.
OF_GRANTS = re.compile(
    r"(dynamodb:(?!.*(Stream|GetRecords|Shard))|s3:|secretsmanager:|ses:|ssm:|states:|sagemaker:|sts:)"
)


@pytest.fixture(scope="module")
def deployment(prod: Synthesised) -> Deployment:
    return Deployment(prod)


@pytest.fixture(scope="module")
def policies(deployment: Deployment) -> Policies:
    return Policies.of(deployment)


@pytest.fixture(scope="module")
def by_services(deployment: Deployment) -> list[Request]:
    """Returns what AWS's services do, with the uses of the key for them and for the grants of functions."""
    made = service_calls(deployment)
    granted = [*granted_calls(deployment)]
    others = [one for one in granted if one.action.startswith(("sqs:", "logs:"))]
    return [*made, *others, *uses_of_key(deployment, [*made, *granted])]


@pytest.fixture(scope="module")
def roles(deployment: Deployment) -> dict[str, str]:
    return function_roles(deployment)


def request(call: IamCall, roles: dict[str, str]) -> Request:
    """Returns a call as the simulator takes it. Only leading keys are a list, also where there is one."""
    keys = [
        (name, values if len(values) > 1 or name.endswith("LeadingKeys") else values[0]) for name, values in call.keys
    ]
    return Request(roles[call.function], call.action, call.resource, tuple(keys))


@pytest.mark.row("OP-4")
def test_each_call_of_a_function_is_allowed(deployment: Deployment, policies: Policies, roles: dict[str, str]) -> None:
    if not MADE_FILE.exists():
        pytest.skip("the functional tests have not run as a whole: `make test` or `pytest tests/functional`")
    calls = read_calls(MADE_FILE.read_text())
    assert len({call.function for call in calls}) > 30
    assert {"sts:AssumeRole", "ses:SendEmail"} <= {call.action for call in calls}
    requests = [request(call, roles) for call in calls]
    assert policies.denied([*requests, *uses_of_key(deployment, requests)]) == []


@pytest.mark.row("OP-4")
def test_each_call_of_a_service_is_allowed(policies: Policies, by_services: list[Request]) -> None:
    services = {one.principal for one in by_services if one.principal.endswith(".amazonaws.com")}
    assert {"cloudwatch", "events", "apigateway", "logging.s3", "sagemaker", "states", "scheduler"} <= {
        one.removesuffix(".amazonaws.com") for one in services
    }
    assert policies.denied(by_services) == []


@pytest.mark.row("OP-4")
def test_each_permission_is_used(policies: Policies, by_services: list[Request], roles: dict[str, str]) -> None:
    of_functions = {*roles.values()}
    unused = {
        f"{one.holder} {one.action}"
        for one in policies.unused(by_services)
        if one.holder not in OTHERS and not (one.holder in of_functions and OF_GRANTS.match(one.action))
    }
    assert {one for one in unused if not any(re.fullmatch(known, one) for known in UNUSED)} == set()
    assert [known for known in UNUSED if not any(re.fullmatch(known, one) for one in unused)] == []


@pytest.mark.row("OP-4")
def test_other_kinds_other_objects_and_other_functions_are_denied(policies: Policies, roles: dict[str, str]) -> None:
    def keys(*kinds: str) -> Any:
        return (("dynamodb:LeadingKeys", tuple(f"{kind}#1" for kind in kinds)),)

    denied = [
        IamCall("actions", "dynamodb:GetItem", ENTITIES, keys("chat")),
        IamCall("actions", "dynamodb:BatchGetItem", ENTITIES, keys("action", "chat")),
        IamCall("actions", "dynamodb:Scan", ENTITIES),
        IamCall("chats", "s3:GetObject", f"{FILES}/spaces/1/trainings/1/job.json"),
        IamCall("trainings", "s3:DeleteObjectVersion", f"{FILES}/spaces/1/trainings/1/job.json"),
        IamCall("users", "secretsmanager:GetSecretValue", SECRETS["webhook-secret"]),
        IamCall("spaces", "ses:SendEmail", arn("ses", f"identity/{SENDER}"), (("ses:FromAddress", ("boss@x.org",)),)),
    ]
    allowed = IamCall("actions", "dynamodb:GetItem", ENTITIES, keys("action"))
    decisions = policies.denied([request(call, roles) for call in (*denied, allowed)])
    assert {one for _, one in decisions} == {request(call, roles) for call in denied}


@pytest.mark.row("OP-4")
def test_a_customers_role_needs_the_external_id_and_is_in_another_account(
    policies: Policies, roles: dict[str, str], deployment: Deployment
) -> None:
    own = deployment.arn(job_role(deployment))
    wrong = [
        Request(roles["connectors"], "sts:AssumeRole", CUSTOMER_ROLE, (("aws:ResourceAccount", "444455556666"),)),
        Request(roles["connectors"], "sts:AssumeRole", own, (("aws:ResourceAccount", ACCOUNT),)),
        Request(roles["chats"], "sts:AssumeRole", CUSTOMER_ROLE, (("aws:ResourceAccount", "444455556666"),)),
    ]
    assert {one for _, one in policies.denied(wrong)} == {*wrong}


@pytest.mark.row("OP-4")
def test_nothing_is_allowed_without_tls(policies: Policies, by_services: list[Request]) -> None:
    own = ("arn:aws:s3:::files", "arn:aws:s3:::access-logs", "arn:aws:sqs:", "arn:aws:sns:")
    plain = [
        one._replace(keys=(*one.keys, ("aws:SecureTransport", "false")))
        for one in by_services
        if one.resource.startswith(own)
    ]
    assert {one.action.partition(":")[0] for one in plain} == {"s3", "sqs", "sns"}
    assert {decision for decision, _ in policies.denied(plain)} == {"ExplicitlyDenied"}
    assert len(policies.denied(plain)) == len({*plain})


@pytest.mark.row("OP-4")
def test_a_service_that_acts_for_another_account_is_denied(policies: Policies, by_services: list[Request]) -> None:
    """AWS's services act for everyone, so a policy names whom they may act for. Roles are passed by name instead."""
    foreign = {
        one._replace(keys=tuple((name, str(value).replace(ACCOUNT, OTHER_ACCOUNT)) for name, value in one.keys))
        for one in by_services
        if one.principal.endswith(".amazonaws.com") and one.action != "sts:AssumeRole"
    }
    assert len(foreign) > 30
    assert {one for _, one in policies.denied(foreign)} == foreign


def drop_alarms_from_the_key(policies: Policies) -> None:
    [key] = (one for name, one in policies.resource.items() if ":kms:" in name)
    key["Statement"] = [one for one in key["Statement"] if "Service" not in one["Principal"]]


def drop_iam_from_the_key(policies: Policies) -> None:
    [key] = (one for name, one in policies.resource.items() if ":kms:" in name)
    key["Statement"] = [one for one in key["Statement"] if "Service" in one["Principal"]]


def drop_a_permission_to_invoke(policies: Policies) -> None:
    del policies.resource[next(name for name in policies.resource if name.endswith("trainings:live"))]


def drop_events_from_the_queue(policies: Policies) -> None:
    queue = policies.resource[arn("sqs", "inference-prod-object-events")]
    queue["Statement"] = [one for one in queue["Statement"] if one["Effect"] == "Deny"]


def close_the_bucket(policies: Policies) -> None:
    [statement] = policies.resource[FILES]["Statement"]
    del statement["Condition"]


def drop_the_key_from_the_job(policies: Policies) -> None:
    [role] = (one for one in policies.identity if "JobRole" in one)
    for one in policies.identity[role]:
        one["Statement"] = [each for each in one["Statement"] if "kms:Encrypt" not in each["Action"]]


@pytest.mark.row("OP-4")
@pytest.mark.parametrize(
    ("damage", "denied"),
    [
        (drop_alarms_from_the_key, r"cloudwatch\.amazonaws\.com kms:"),
        (drop_iam_from_the_key, r".*ChatsBackendRole\w+ kms:Decrypt"),
        (drop_a_permission_to_invoke, r"apigateway\.amazonaws\.com lambda:InvokeFunction"),
        (drop_events_from_the_queue, r"events\.amazonaws\.com sqs:SendMessage"),
        (close_the_bucket, r".*JobRole\w+ s3:GetObject"),
        (drop_the_key_from_the_job, r".*JobRole\w+ kms:Encrypt"),
    ],
)
def test_a_missing_permission_is_found(
    policies: Policies, by_services: list[Request], damage: Callable[[Policies], None], denied: str
) -> None:
    damaged = copy.deepcopy(policies)
    damage(damaged)
    found = [f"{one.principal} {one.action}" for _, one in damaged.denied(by_services)]
    assert any(re.match(denied, one) for one in found), found


@pytest.mark.row("OP-4")
def test_an_unused_permission_is_found(policies: Policies, by_services: list[Request]) -> None:
    damaged = copy.deepcopy(policies)
    queue = arn("sqs", "inference-prod-webhook-deliveries")
    topic = {"Effect": "Allow", "Principal": {"Service": "cloudwatch.amazonaws.com"}, "Action": "sqs:SendMessage"}
    damaged.resource[queue]["Statement"].append({**topic, "Resource": queue})
    [role] = (one for one in damaged.identity if "AuthorizeRole" in one)
    key = next(name for name in damaged.resource if ":kms:" in name)
    damaged.identity[role][0]["Statement"].append({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key})
    found = {(one.holder, one.action) for one in damaged.unused(by_services)}
    assert {(queue, "sqs:SendMessage"), (role, "kms:Decrypt")} <= found


def test_every_function_has_a_role_in_the_simulation(roles: dict[str, str], policies: Policies) -> None:
    assert len(roles) == len(FUNCTIONS)
    assert all(policies.identity[role] for role in roles.values())
