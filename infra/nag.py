"""Reasons for what cdk-nag would otherwise refuse: each finding is acknowledged on the resource it is about."""

from collections.abc import Iterable, Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct

# Why a pattern stands where a name would be safer, by a part of the resource that tells which one it is.
WILDCARDS = {
    "/spaces/*": "Objects are keyed by the ids of spaces and of what is in them, which are made at run time.",
    "/stream/*": "DynamoDB names a stream by the moment it was made.",
    ":parameter/": "Parameters are named by the ids of connectors, which are made at run time.",
    ":execution:": "Executions are named by the ids of trainings, evaluations and scans, which are made at run time.",
    ":training-job/": "Jobs are named by the ids of trainings and evaluations, which are made at run time.",
    ":iam::*:role/*": "Customers choose their roles' names and accounts; a condition leaves our own account out.",
    ":function:inference-": "New versions of all functions of the stage are released the same way.",
    ":log-group:/aws/sagemaker/TrainingJobs": "SageMaker chooses the rest of its log groups' name.",
}
UNNARROWABLE = (
    "X-Ray, ECR's login, and CloudWatch's metrics, alarms and log delivery know no resources to narrow this to."
)


def check(app: cdk.App) -> None:
    """Hold every stack against AWS Solutions' rules: a finding without a reason fails the synthesis."""
    # The reasons go into the templates as well, where an auditor finds them.
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app, write_suppressions_to_cloud_formation=True))


def because(construct: IConstruct, reason: str, *rules: str) -> None:
    """Acknowledge ``rules`` (such as ``AwsSolutions-COG8``) on ``construct`` and what is below it."""
    cdk.Validations.of(construct).acknowledge(*(cdk.Acknowledgment(id=rule, reason=reason) for rule in rules))


def justify_wildcards(
    role: IConstruct, statements: Iterable[iam.PolicyStatement], imports: Mapping[str, str] | None = None
) -> None:
    """Acknowledge the patterns among the resources of ``statements`` that WILDCARDS has a reason for, and no others.

    ``imports`` maps an attribute of another stack (``Files.Arn``) to the name it is exported under.
    """
    stack = cdk.Stack.of(role)
    for resource in {_text(stack.resolve(resource), imports or {}) for one in statements for resource in one.resources}:
        if "*" not in resource:
            continue
        matching = (why for part, why in WILDCARDS.items() if part in resource)
        reason = UNNARROWABLE if resource == "*" else next(matching, None)
        if reason:
            because(role, reason, f"AwsSolutions-IAM5[Resource::{resource}]")


def _text(resolved: Any, imports: Mapping[str, str]) -> str:
    """A resolved value as cdk-nag writes it: ``arn:<AWS::Partition>:s3:::<Files.Arn>``."""
    match resolved:
        case str(text) | {"Fn::Sub": str(text)}:
            return text
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return imports.get(f"{name}.{attribute}", f"<{name}.{attribute}>")
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(_text(part, imports) for part in parts)
    raise ValueError(f"no text for {resolved!r}")
