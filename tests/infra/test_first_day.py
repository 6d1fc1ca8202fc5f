"""Rules over all resources of a kind, each for a fault that only a deployment to AWS would have shown."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from functions.api import app
from infra.constructs.firewall import SECRET_HEADERS
from infra.groups import DELIVER_WEBHOOKS, GROUPS
from infra.package import ROOT
from infra.settings import STAGES, stage_settings
from infra.stacks.api import READ
from infra.stacks.observability import JOB_LOG_DAYS
from shared.http.app import describe
from tests.infra.conftest import Resource, Statement, Synthesised, function_of, listed, statements

pytestmark = pytest.mark.row("OP-1")


def of_role(stage: Synthesised, role: str) -> list[Statement]:
    """Returns all statements of a role: its own, and those of the policies that are attached to it."""
    attached = [one for one in stage.properties("AWS::IAM::Policy") if {"Ref": role} in one["Roles"]]
    own = statements(stage.resources("AWS::IAM::Role")[role]["Properties"])
    return [*own, *(one for policy in attached for one in policy["PolicyDocument"]["Statement"])]


def allowed(found: list[Statement], resource: Any) -> set[str]:
    """Returns the actions that statements allow on exactly this resource."""
    same = [one for one in found if one["Effect"] == "Allow" and resource in listed(one["Resource"])]
    return {action for one in same for action in listed(one["Action"])}


def trusted(role: Resource) -> list[str]:
    policy = role["Properties"]["AssumeRolePolicyDocument"]
    return [service for one in policy["Statement"] for service in listed(one["Principal"].get("Service", []))]


# --- keys


def test_each_service_that_publishes_to_an_encrypted_topic_may_use_its_key(deployed: Synthesised) -> None:
    keys = deployed.properties("AWS::KMS::Key")
    encrypted = [one for one in deployed.properties("AWS::SNS::Topic") if "KmsMasterKeyId" in one]
    assert bool(encrypted) == bool(keys)
    publishers = {
        service
        for policy in deployed.properties("AWS::SNS::TopicPolicy")
        for one in policy["PolicyDocument"]["Statement"]
        if one["Effect"] == "Allow"
        for service in listed(one["Principal"].get("Service", []))
    }
    assert "cloudwatch.amazonaws.com" in publishers
    for key in keys:
        for service in publishers:
            given = [one for one in key["KeyPolicy"]["Statement"] if one["Principal"].get("Service") == service]
            actions = {action for one in given for action in listed(one["Action"])}
            assert actions == {"kms:Decrypt", "kms:GenerateDataKey*"}
            # Otherwise the service could use the key for somebody else's account.
            assert all(one["Condition"]["StringEquals"]["aws:SourceAccount"] for one in given)


def test_no_queue_is_encrypted_with_a_key_that_its_senders_may_not_use(deployed: Synthesised) -> None:
    for queue in deployed.properties("AWS::SQS::Queue"):
        assert queue["SqsManagedSseEnabled"] is True
        assert "KmsMasterKeyId" not in queue


def test_each_role_that_writes_objects_may_encrypt_them(deployed: Synthesised) -> None:
    if not deployed.resources("AWS::KMS::Key"):
        return
    writers = 0
    for name, role in deployed.resources("AWS::IAM::Role").items():
        actions = {action for one in of_role(deployed, name) for action in listed(one["Action"])}
        if "s3:PutObject" in actions:
            writers += 1
            # S3 decrypts the key of the parts of a large object.
            assert {"kms:Decrypt", "kms:GenerateDataKey"} <= actions, name
            # SageMaker encrypts with the key that a job names, and does not leave it to S3.
            assert ("kms:Encrypt" in actions) == ("sagemaker.amazonaws.com" in trusted(role)), name
    assert writers > 5


# --- workflows


def definitions(stage: Synthesised) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the role and the definition of each state machine."""
    for machine in stage.properties("AWS::StepFunctions::StateMachine"):
        yield machine["RoleArn"]["Fn::GetAtt"][0], json.loads(machine["DefinitionString"])


def states(definition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for state in definition["States"].values():
        yield state
        if state["Type"] == "Map":
            yield from states(state["ItemProcessor"])


def test_each_workflow_that_runs_jobs_with_tags_may_set_and_list_them(deployed: Synthesised) -> None:
    verbs = ("AddTags", "CreateTrainingJob", "DescribeTrainingJob", "ListTags", "StopTrainingJob")
    needed = {f"sagemaker:{verb}" for verb in verbs}
    running = [
        role
        for role, definition in definitions(deployed)
        if any("sagemaker:createTrainingJob" in state.get("Resource", "") for state in states(definition))
    ]
    assert len(running) == 2
    for role in running:
        given = [set(listed(one["Action"])) for one in of_role(deployed, role)]
        assert needed in given


def test_each_distributed_map_exports_its_results_to_files_that_expire(deployed: Synthesised) -> None:
    maps = [
        (role, state)
        for role, definition in definitions(deployed)
        for state in states(definition)
        if state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED"
    ]
    assert maps
    [files] = [one for name, one in deployed.resources("AWS::S3::Bucket").items() if name.startswith("Files")]
    rules = files["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = [rule["Prefix"] for rule in rules if "ExpirationInDays" in rule and "Prefix" in rule]
    for role, state in maps:
        writer = state["ResultWriter"]
        assert writer["Resource"] == "arn:aws:states:::s3:putObject"
        [pattern] = re.findall(r"States\.Format\('(.*?)'", writer["Parameters"]["Prefix.$"])
        assert pattern.startswith(tuple(expiring))
        key = f"{pattern.replace('{}', '1')}/run/manifest.json"
        given = [
            set(listed(one["Action"]))
            for one in of_role(deployed, role)
            for resource in listed(one["Resource"])
            if fnmatchcase(key, json.dumps(resource).rpartition('"/')[2].rstrip('"]} '))
        ]
        needed = {"s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"}
        assert any(needed <= actions for actions in given), (key, given)


# --- functions


def loops(stage: Synthesised) -> set[str]:
    """Returns the functions that may send to a queue that invokes them."""
    functions, queues = stage.resources("AWS::Lambda::Function"), stage.resources("AWS::SQS::Queue")
    found = set()
    for mapping in stage.properties("AWS::Lambda::EventSourceMapping"):
        queue = mapping["EventSourceArn"].get("Fn::GetAtt", [""])[0]
        if queue not in queues:
            continue
        function = functions[mapping["FunctionName"]["Ref"]]["Properties"]
        sends_to = [
            json.dumps(one["Resource"])
            for one in of_role(stage, function["Role"]["Fn::GetAtt"][0])
            if "sqs:SendMessage" in listed(one["Action"])
        ]
        names = (queue, queues[queue]["Properties"]["QueueName"])
        if any(name in resource for resource in sends_to for name in names):
            found.add(function["FunctionName"])
    return found


def test_exactly_the_functions_that_send_to_their_own_queue_may_repeat_themselves(deployed: Synthesised) -> None:
    functions = deployed.properties("AWS::Lambda::Function")
    permitted = {one["FunctionName"] for one in functions if one.get("RecursiveLoop") == "Allow"}
    assert permitted == loops(deployed) == {f"inference-{deployed.stage}-{DELIVER_WEBHOOKS.name}"}


def test_old_versions_of_functions_are_kept_and_versions_of_failed_deployments_are_not(deployed: Synthesised) -> None:
    versions = deployed.resources("AWS::Lambda::Version")
    assert len(versions) == len(deployed.resources("AWS::Lambda::Alias"))
    for name, version in versions.items():
        assert version["UpdateReplacePolicy"] == "Retain", name
        # Lambda refuses a version of code that has one already, so a repeated deployment would fail.
        assert version["DeletionPolicy"] == "RetainExceptOnCreate", name


def test_only_functions_whose_reads_no_objective_counts_start_without_a_snapshot(prod: Synthesised) -> None:
    slow = tuple(route.removesuffix("*") for route in re.findall(r'\$\.route != "([^"]+)"', READ))
    paths = describe(app)["paths"]
    counted = {path.split("/")[1] for path in paths if "get" in paths[path] and not path.startswith(slow)}
    without = [spec for spec in GROUPS if "SnapStart" not in function_of(prod, spec)]
    assert {spec.name for spec in without} >= {"chats", "models", "webhooks"}
    for spec in without:
        assert not counted & {path.split("/")[0] for path in spec.paths}, spec.name


def test_the_page_about_costs_states_the_price_of_snapshots(prod: Synthesised) -> None:
    functions = [one for one in prod.properties("AWS::Lambda::Function") if "SnapStart" in one]
    gigabytes = sum(one["MemorySize"] for one in functions) / 1024
    # AWS's price of November 2025 in us-east-1, for a second and a GB; a month of 730 hours.
    month = gigabytes * 0.0000015046 * 730 * 3600
    text = (ROOT / "docs/operating.md").read_text()
    assert f"{len(functions)} functions, {gigabytes:.1f} GB in all" in text
    assert f"about ${month:.0f}" in text


# --- the edge

# All rules about bodies in the groups that the firewall uses, from AWS's list of November 2026.
BODY_RULES = {
    "AWSManagedRulesAmazonIpReputationList": set(),
    "AWSManagedRulesCommonRuleSet": {
        "CrossSiteScripting_BODY",
        "EC2MetaDataSSRF_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "SizeRestrictions_BODY",
    },
    "AWSManagedRulesKnownBadInputsRuleSet": {"JavaDeserializationRCE_BODY", "Log4JRCE_BODY", "ReactJSRCE_BODY"},
}


def test_no_rule_of_aws_blocks_a_request_because_of_its_body_or_the_name_of_a_file(deployed: Synthesised) -> None:
    for acl in deployed.properties("AWS::WAFv2::WebACL"):
        groups = [
            rule["Statement"]["ManagedRuleGroupStatement"]
            for rule in acl["Rules"]
            if "ManagedRuleGroupStatement" in rule["Statement"]
        ]
        assert {group["Name"] for group in groups} == BODY_RULES.keys()
        for group in groups:
            overrides = group.get("RuleActionOverrides", [])
            counting = {one["Name"] for one in overrides if one["ActionToUse"] == {"Count": {}}}
            assert BODY_RULES[group["Name"]] <= counting
            if group["Name"] == "AWSManagedRulesCommonRuleSet":
                assert {"RestrictedExtensions_QUERYARGUMENTS", "RestrictedExtensions_URIPATH"} <= counting


def test_each_firewall_logs_what_it_blocks_and_counts_without_secrets(deployed: Synthesised) -> None:
    acls = deployed.resources("AWS::WAFv2::WebACL")
    logging = deployed.properties("AWS::WAFv2::LoggingConfiguration")
    assert [one["ResourceArn"]["Fn::GetAtt"][0] for one in logging] == list(acls)
    groups = deployed.resources("AWS::Logs::LogGroup")
    for one in logging:
        [destination] = one["LogDestinationConfigs"]
        *arn, reference = destination["Fn::Join"][1]
        assert str(arn[-1]).endswith(":log-group:")
        group = groups[reference["Ref"]]["Properties"]
        assert group["LogGroupName"].startswith("aws-waf-logs-")
        [kept] = one["LoggingFilter"]["Filters"]
        conditions = {condition["ActionCondition"]["Action"] for condition in kept["Conditions"]}
        assert conditions == {"BLOCK", "COUNT", "EXCLUDED_AS_COUNT"}
        assert (one["LoggingFilter"]["DefaultBehavior"], kept["Behavior"]) == ("DROP", "KEEP")
        redacted = one["RedactedFields"]
        assert {"UriPath": {}} in redacted
        assert {"QueryString": {}} in redacted
        assert {each["SingleHeader"]["Name"] for each in redacted if "SingleHeader" in each} == set(SECRET_HEADERS)


def test_an_own_domain_has_a_tls_policy_and_is_the_only_address() -> None:
    with pytest.raises(ValueError, match="domain_name and certificate_arn belong together"):
        stage_settings("prod", {"domain_name": "api.example.com"})


def test_the_api_of_a_domain_has_no_other_address(synthesise: Any) -> None:
    certificate = "arn:aws:acm:eu-west-1:123456789012:certificate/1"
    stage: Synthesised = synthesise("dev", domain_name="api.example.com", certificate_arn=certificate)
    [domain] = stage.properties("AWS::ApiGateway::DomainName")
    assert (domain["SecurityPolicy"], domain["RegionalCertificateArn"]) == ("TLS_1_2", certificate)
    [api] = stage.properties("AWS::ApiGateway::RestApi")
    assert api["DisableExecuteApiEndpoint"] is True
    [mapping] = stage.properties("AWS::ApiGateway::BasePathMapping")
    assert not mapping.get("BasePath")
    outputs = stage.template("api")["Outputs"]
    assert outputs["ApiUrl"]["Value"] == "https://api.example.com/"
    assert "DomainTarget" in outputs
    for function in stage.properties("AWS::Lambda::Function", "workflows"):
        assert function["Environment"]["Variables"]["WEBHOOK_URL"] == "https://api.example.com/webhooks"


def test_browsers_origins_are_a_setting_of_the_command_line() -> None:
    given = "https://app.example.com,http://localhost:3000"
    assert stage_settings("prod", {"cors_origins": given}).cors_origins == tuple(given.split(","))
    for wrong in ("app.example.com", "https://app.example.com/", "*", "https://a.example.com, https://b.example.com"):
        with pytest.raises(ValueError, match="schemes and hosts"):
            stage_settings("prod", {"cors_origins": wrong})


# --- logs and names


def test_logs_that_aws_itself_creates_have_a_retention_time(deployed: Synthesised) -> None:
    groups = [json.dumps(one.get("LogGroupName", "")) for one in deployed.properties("AWS::Logs::LogGroup")]
    logging = [
        stage
        for stage in deployed.properties("AWS::ApiGateway::Stage")
        if any(each.get("LoggingLevel", "OFF") != "OFF" for each in stage["MethodSettings"])
    ]
    assert len([one for one in groups if "API-Gateway-Execution-Logs_" in one]) == len(logging) == 1
    # SageMaker creates the group of its jobs, with the permission of their role.
    created = [
        json.dumps(one["Resource"]).rpartition(":log-group:")[2].rstrip('"]} ')
        for name in deployed.resources("AWS::IAM::Role")
        for one in of_role(deployed, name)
        if "logs:CreateLogGroup" in listed(one["Action"])
    ]
    schedules = [json.loads(one["Target"]["Input"]) for one in deployed.properties("AWS::Scheduler::Schedule")]
    assert created
    for pattern in created:
        times = [one["RetentionInDays"] for one in schedules if fnmatchcase(one["LogGroupName"], pattern)]
        assert times == [JOB_LOG_DAYS]


def test_the_logs_of_jobs_are_kept_as_long_as_the_stage_that_keeps_logs_longest() -> None:
    # All stages of an account set the time of the same group.
    longest = max((settings.log_retention for settings in STAGES.values()), key=lambda one: int(days(one)))
    assert days(longest) == JOB_LOG_DAYS


def days(retention: Any) -> int:
    named = {"ONE_DAY": 1, "ONE_MONTH": 30, "ONE_YEAR": 365}
    return named[retention.name]


NAMES = {f"{kind}Name" for kind in ("", "Bucket", "Domain", "Function", "LogGroup", "Queue", "StateMachine", "Table")}


def test_alarms_and_the_dashboard_name_functions_queues_and_workflows_that_exist(deployed: Synthesised) -> None:
    # They use names and no references, so that these resources can be removed.
    [dashboard] = deployed.properties("AWS::CloudWatch::Dashboard")
    watching = json.dumps([dashboard, deployed.properties("AWS::CloudWatch::Alarm", "observability")])
    for kind, key in (("Lambda::Function", "FunctionName"), ("SQS::Queue", "QueueName")):
        named = set(re.findall(rf"{key}\W+(?:Value\W+)?(inference-[-a-z]+)", watching))
        assert named <= {one[key] for one in deployed.properties(f"AWS::{kind}")}
        assert len(named) > 3
    machines = {one["StateMachineName"] for one in deployed.properties("AWS::StepFunctions::StateMachine")}
    assert set(re.findall(r":stateMachine:([-a-z]+)", watching)) == machines


def test_no_resource_that_outlives_its_stack_has_a_fixed_name(deployed: Synthesised) -> None:
    # A deployment after a failed first one would find the name taken.
    kept = [
        (name, key)
        for stack in deployed.stacks
        for name, one in deployed.template(stack)["Resources"].items()
        if one.get("DeletionPolicy") == "Retain"
        for key in NAMES
        if isinstance(one.get("Properties", {}).get(key), str)
    ]
    assert kept == []
