"""Each role allows only what its function or state machine needs."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from infra.groups import FUNCTIONS, GROUPS, IDENTITY, TABICL_WEIGHTS, FunctionSpec
from tests.infra.conftest import (
    MAIL_DOMAIN,
    WEIGHTS_SHA256,
    Synthesised,
    all_statements,
    function_of,
    listed,
    role_of,
    statements,
)


def test_no_two_functions_share_a_role(prod: Synthesised) -> None:
    functions = prod.properties("AWS::Lambda::Function")
    roles = [json.dumps(function["Role"]) for function in functions]
    assert len(functions) == len(FUNCTIONS)
    assert len(set(roles)) == len(roles)


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_function_reaches_only_the_table_kinds_it_is_granted(prod: Synthesised, spec: FunctionSpec) -> None:
    reached: dict[str, set[str]] = {"reads": set(), "writes": set(), "reads_logs": set(), "writes_logs": set()}
    for one in statements(role_of(prod, spec)):
        actions = [action for action in listed(one["Action"]) if action.startswith("dynamodb:")]
        if not actions:
            continue
        if spec.grants.purges_spaces and "dynamodb:Scan" in actions:
            assert set(actions) == {"dynamodb:BatchWriteItem", "dynamodb:Scan"}
            continue
        kinds = one["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
        assert all(kind.endswith("#*") and kind != "#*" for kind in listed(kinds))
        assert "dynamodb:Scan" not in actions
        for direction, action in (("reads", "dynamodb:Query"), ("writes", "dynamodb:PutItem")):
            if action in actions:
                table = "_logs" if "InferenceLogs" in json.dumps(one["Resource"]) else ""
                reached[direction + table].update(kind.removesuffix("#*") for kind in listed(kinds))
    assert reached["writes"] == set(spec.grants.writes)
    assert reached["reads"] == {*spec.grants.reads, *spec.grants.writes}
    assert reached["writes_logs"] == set(spec.grants.writes_logs)
    assert reached["reads_logs"] == {*spec.grants.reads_logs, *spec.grants.writes_logs}


def test_authenticated_groups_may_read_the_callers_identity_and_public_groups_may_not() -> None:
    for spec in GROUPS:
        readable = {*spec.grants.reads, *spec.grants.writes}
        if spec.public:
            assert not readable & {"user", *IDENTITY}
        else:
            # One statement must allow the whole batch that reads the identity.
            assert set(IDENTITY) <= set(spec.grants.reads)


@pytest.mark.row("Y-7")
def test_jobs_read_the_weights_of_an_architecture_only_where_the_operator_has_stated_them(
    foreign: Synthesised, dev: Synthesised
) -> None:
    for stage, is_stated in ((foreign, True), (dev, False)):
        reading = [one for one in all_statements(stage) if TABICL_WEIGHTS in json.dumps(one)]
        assert [listed(one["Action"]) for one in reading] == ([["s3:GetObject"]] if is_stated else [])
        environments = [each["Environment"]["Variables"] for each in stage.properties("AWS::Lambda::Function")]
        stated = [(one.get("TABICL_WEIGHTS_LICENSE"), one.get("TABICL_WEIGHTS_SHA256")) for one in environments]
        assert set(stated) == {("MIT", WEIGHTS_SHA256) if is_stated else (None, None)}


def test_no_allowed_action_has_a_wildcard(prod: Synthesised) -> None:
    patterns = [action for one in all_statements(prod) for action in listed(one["Action"]) if "*" in action]
    assert patterns == []


def test_all_resources_are_allowed_only_for_actions_without_narrower_resources(prod: Synthesised) -> None:
    without_narrower_resources = {
        "cloudwatch:DescribeAlarms",
        "cloudwatch:PutMetricData",
        "dynamodb:ListStreams",
        "ecr:GetAuthorizationToken",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
        # Log delivery of Step Functions:
        "logs:CreateLogDelivery",
        "logs:DeleteLogDelivery",
        "logs:DescribeLogGroups",
        "logs:DescribeResourcePolicies",
        "logs:GetLogDelivery",
        "logs:ListLogDeliveries",
        "logs:PutResourcePolicy",
        "logs:UpdateLogDelivery",
    }
    used = {
        action for one in all_statements(prod) if "*" in listed(one["Resource"]) for action in listed(one["Action"])
    }
    assert used <= without_narrower_resources


def test_a_connector_cannot_use_a_role_of_our_account(prod: Synthesised) -> None:
    assuming = [one for one in all_statements(prod) if "sts:AssumeRole" in listed(one["Action"])]
    assert assuming
    for one in assuming:
        assert one["Condition"] == {"StringNotEquals": {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.row("SP-2", "LG-5")
@pytest.mark.parametrize(
    ("wide", "grants"),
    [
        ({"dynamodb:Scan"}, ("purges_spaces",)),
        ({"s3:DeleteObjectVersion", "s3:ListBucketVersions"}, ("purges_spaces", "erases")),
    ],
)
def test_only_the_purge_of_spaces_scans_the_table_and_only_erasures_delete_old_versions_too(
    prod: Synthesised, wide: set[str], grants: tuple[str, ...]
) -> None:
    def allowing(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in found if wide & set(listed(one["Action"]))]

    specs = [spec for spec in FUNCTIONS if any(getattr(spec.grants, name) for name in grants)]
    assert len(specs) == len(grants)
    for spec in specs:
        assert len(allowing(statements(role_of(prod, spec)))) == len(wide)
    assert len(allowing(all_statements(prod))) == len(wide) * len(specs)


@pytest.mark.row("SP-3")
def test_only_the_spaces_group_sends_mail_and_it_uses_the_stages_sender(prod: Synthesised) -> None:
    sending = [one for one in all_statements(prod) if any("ses:" in action for action in listed(one["Action"]))]
    (spec,) = (spec for spec in GROUPS if spec.grants.sends_mail)
    assert sending == [one for one in statements(role_of(prod, spec)) if "ses:SendEmail" in listed(one["Action"])]
    variables = function_of(prod, spec)["Environment"]["Variables"]
    assert variables["EMAIL_SENDER"] == f"invites@{MAIL_DOMAIN}"
    assert variables["SIGN_IN_URL"] == "https://app.example.com"


def test_no_function_sends_mail_without_a_sender(dev: Synthesised) -> None:
    assert not [one for one in all_statements(dev) if any("ses:" in action for action in listed(one["Action"]))]


def test_only_state_machines_pass_the_job_role_and_only_to_sagemaker(prod: Synthesised) -> None:
    passing = [one for one in all_statements(prod) if "iam:PassRole" in listed(one["Action"])]
    assert len(passing) == 4
    for one in passing:
        assert one["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
