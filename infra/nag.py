"""Runs cdk-nag and acknowledges its findings on their resources, each with a reason."""

from collections.abc import Iterable, Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct

# The reason for each wildcard, by a part of the resource.
WILDCARDS = {
    "/spaces/*": "Object keys contain the ids of spaces and their entities, which are made at run time.",
    ":parameter/": "Parameter names contain the ids of connectors and clusters, which are made at run time.",
    ":execution:": "Execution names are the ids of trainings, evaluations, scans and runs, which are made at run time.",
    ":training-job/": "Job names contain the ids of trainings and evaluations, which are made at run time.",
    ":processing-job/": "Job names contain the ids of runs, which are made at run time.",
    ":iam::*:role/*": "Customers choose the names and accounts of their roles. A condition excludes this account.",
    ":function:inference-": "One role releases the new versions of all functions of the stage.",
    ":network-interface/": "SageMaker makes a network interface for each job.",
    ":security-group/": "SageMaker attaches the interface of a job to the group that the job names.",
    ":subnet/": "SageMaker attaches the interface of a job to the subnets that the job names.",
    ":log-group:/aws/sagemaker/": "SageMaker chooses the rest of the log groups' names.",
}
NO_RESOURCES = "These actions of X-Ray, ECR, CloudWatch and DynamoDB support no narrower resource."


def check(app: cdk.App) -> None:
    """Checks every stack against the AWS Solutions rules. A finding without a reason fails the synthesis."""
    # The templates keep the reasons for auditors.
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app, write_suppressions_to_cloud_formation=True))


def acknowledge(construct: IConstruct, reason: str, *rules: str) -> None:
    """Acknowledges ``rules`` (such as ``AwsSolutions-COG8``) on ``construct`` and its children."""
    cdk.Validations.of(construct).acknowledge(*(cdk.Acknowledgment(id=rule, reason=reason) for rule in rules))


def justify_wildcards(
    role: IConstruct, statements: Iterable[iam.PolicyStatement], imports: Mapping[str, str] | None = None
) -> None:
    """Acknowledges the wildcard resources of ``statements`` that have a reason in WILDCARDS.

    ``imports`` maps an attribute of another stack (``Files.Arn``) to its export name.
    """
    stack = cdk.Stack.of(role)
    for resource in {_text(stack.resolve(resource), imports or {}) for one in statements for resource in one.resources}:
        if "*" not in resource:
            continue
        matching = (why for part, why in WILDCARDS.items() if part in resource)
        reason = NO_RESOURCES if resource == "*" else next(matching, None)
        if reason:
            acknowledge(role, reason, f"AwsSolutions-IAM5[Resource::{resource}]")


def _text(resolved: Any, imports: Mapping[str, str]) -> str:
    """Returns a resolved value in cdk-nag's notation: ``arn:<AWS::Partition>:s3:::<Files.Arn>``."""
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
