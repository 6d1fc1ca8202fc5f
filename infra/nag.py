"""Reasons for what cdk-nag would otherwise refuse: each finding is acknowledged on the resource it is about."""

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct


def check(app: cdk.App) -> None:
    """Hold every stack against AWS Solutions' rules: a finding without a reason fails the synthesis."""
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def because(construct: IConstruct, reason: str, *rules: str) -> None:
    """Acknowledge ``rules`` (such as ``AwsSolutions-IAM5[Resource::*]``) on ``construct`` and what is below it."""
    cdk.Validations.of(construct).acknowledge(*(cdk.Acknowledgment(id=rule, reason=reason) for rule in rules))
