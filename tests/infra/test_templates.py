"""What the synthesised stacks hold: least privilege, protection of data, and one error shape."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from shared.aws.resources import Resources

from functions.events import authorize
from infra.groups import AUTHORIZE, EVENTS, GROUPS, IDENTITY, STEPS, FunctionSpec
from infra.package import ROOT
from infra.settings import PROD, STAGES
from shared.models.api_key import CHARACTERS, PREFIX, KeyToken
from shared.settings import Settings
from tests.fixtures.audit import AUDITED
from tests.fixtures.identity import Issuer
from tests.infra.conftest import MAIL_DOMAIN, Synthesised

FUNCTIONS = (*GROUPS, *(spec for specs in STEPS.values() for spec in specs), *EVENTS, AUTHORIZE)
Statement = dict[str, Any]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(role: dict[str, Any]) -> list[Statement]:
    return [one for policy in role.get("Policies", []) for one in policy["PolicyDocument"]["Statement"]]


def all_statements(stage: Synthesised) -> Iterator[Statement]:
    for role in stage.properties("AWS::IAM::Role"):
        yield from statements(role)
    for policy in stage.properties("AWS::IAM::Policy"):
        yield from policy["PolicyDocument"]["Statement"]


def function_of(stage: Synthesised, spec: FunctionSpec) -> dict[str, Any]:
    name = f"inference-{stage.stage}-{spec.name}"
    return next(one for one in stage.properties("AWS::Lambda::Function") if one["FunctionName"] == name)


def role_of(stage: Synthesised, spec: FunctionSpec) -> dict[str, Any]:
    logical_id = function_of(stage, spec)["Role"]["Fn::GetAtt"][0]
    properties: dict[str, Any] = stage.resources("AWS::IAM::Role")[logical_id]["Properties"]
    return properties


# --- least privilege


def test_each_function_has_a_role_that_no_other_has(prod: Synthesised) -> None:
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


def test_each_authenticated_group_can_tell_who_calls_and_public_ones_have_no_more_than_they_need() -> None:
    for spec in GROUPS:
        readable = {*spec.grants.reads, *spec.grants.writes}
        if spec.public:
            assert not readable & {"user", *IDENTITY}
        else:
            # In one statement: a batch that fetches both is allowed by one statement or not at all.
            assert set(IDENTITY) <= set(spec.grants.reads)


def test_no_action_is_a_pattern(prod: Synthesised) -> None:
    patterns = [action for one in all_statements(prod) for action in listed(one["Action"]) if "*" in action]
    assert patterns == []


def test_all_resources_at_once_are_allowed_only_where_aws_knows_no_narrower_ones(prod: Synthesised) -> None:
    narrow_impossible = {
        "cloudwatch:DescribeAlarms",
        "cloudwatch:PutMetricData",
        "ecr:GetAuthorizationToken",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
        # Log delivery of Step Functions.
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
    assert used <= narrow_impossible


def test_no_role_of_our_own_account_can_be_taken_on_through_a_connector(prod: Synthesised) -> None:
    assuming = [one for one in all_statements(prod) if "sts:AssumeRole" in listed(one["Action"])]
    assert assuming
    for one in assuming:
        assert one["Condition"] == {"StringNotEquals": {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.row("SP-2")
def test_only_the_purge_of_spaces_goes_through_the_table_and_removes_old_versions(prod: Synthesised) -> None:
    (spec,) = (spec for spec in FUNCTIONS if spec.grants.purges_spaces)
    wide = {"dynamodb:Scan", "s3:DeleteObjectVersion", "s3:ListBucketVersions"}
    allowing = [one for one in all_statements(prod) if wide & set(listed(one["Action"]))]
    assert allowing == [one for one in statements(role_of(prod, spec)) if wide & set(listed(one["Action"]))]
    assert len(allowing) == len(wide)


@pytest.mark.row("SP-3")
def test_only_the_spaces_group_sends_mail_and_only_as_the_stages_sender(prod: Synthesised) -> None:
    sending = [one for one in all_statements(prod) if any("ses:" in action for action in listed(one["Action"]))]
    (spec,) = (spec for spec in GROUPS if spec.grants.sends_mail)
    assert sending == [one for one in statements(role_of(prod, spec)) if "ses:SendEmail" in listed(one["Action"])]
    variables = function_of(prod, spec)["Environment"]["Variables"]
    assert variables["EMAIL_SENDER"] == f"invites@{MAIL_DOMAIN}"
    assert variables["SIGN_IN_URL"] == "https://app.example.com"


def test_without_a_sender_nobody_sends_mail(dev: Synthesised) -> None:
    assert not [one for one in all_statements(dev) if any("ses:" in action for action in listed(one["Action"]))]


def test_only_state_machines_may_pass_the_job_role_and_only_to_sagemaker(prod: Synthesised) -> None:
    passing = [one for one in all_statements(prod) if "iam:PassRole" in listed(one["Action"])]
    assert len(passing) == 2
    for one in passing:
        assert one["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


# --- functions


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_functions_get_settings_that_the_code_can_read(stage: str, request: pytest.FixtureRequest) -> None:
    synthesised: Synthesised = request.getfixturevalue(stage)
    for function in synthesised.properties("AWS::Lambda::Function"):
        variables = function["Environment"]["Variables"]
        known = {name.upper() for name in Settings.model_fields}
        # Powertools' own, Pydantic's, and the web adapter's.
        others = ("POWERTOOLS_", "PYDANTIC_", "AWS_LWA_", "AWS_LAMBDA_EXEC_WRAPPER", "PORT")
        assert {name for name in variables if not name.startswith(others)} <= known
        plain = {name: value if isinstance(value, str) else "placeholder" for name, value in variables.items()}
        settings = Settings.from_environment(plain)
        assert settings.stage == stage
        assert settings.allow_loopback is (stage == "local")


def test_functions_run_on_arm_with_traces_json_logs_and_a_limit(prod: Synthesised) -> None:
    for spec in FUNCTIONS:
        function = function_of(prod, spec)
        assert function["Architectures"] == ["arm64"]
        assert function["Runtime"] == "python3.13"
        assert function["TracingConfig"] == {"Mode": "Active"}
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert function["Timeout"] == spec.timeout_seconds
        assert function["Handler"] == (spec.web_server or spec.handler)
    # API Gateway gives up after 29 seconds on what it does not stream.
    assert all(spec.timeout_seconds <= 29 for spec in GROUPS if not spec.web_server)


def test_only_functions_that_need_them_carry_further_layers(prod: Synthesised) -> None:
    layers = {spec.name: len(function_of(prod, spec)["Layers"]) for spec in FUNCTIONS}
    scan_or_score = {"checkpoints", "insights", "scan-file"}
    read_or_talk = {"arguments", "chats", "clusters", "experts", "insights", "models", "personas"}
    copy_tables = {"connectors", "list-scan-files"}
    assert {name for name, count in layers.items() if count > 1} == scan_or_score | read_or_talk | copy_tables
    # The third of chats is the web adapter's; scans also copy tables.
    assert {name for name, count in layers.items() if count > 2} == {"chats", "insights", "scan-file"}


def test_a_layer_is_never_shared_across_stacks(prod: Synthesised) -> None:
    for stack in ("api", "workflows"):
        own = prod.resources("AWS::Lambda::LayerVersion", stack)
        for function in prod.properties("AWS::Lambda::Function", stack):
            # AWS's own web adapter comes by its name.
            assert {layer["Ref"] for layer in function["Layers"] if "Ref" in layer} <= set(own)


def test_production_serves_from_snapshots_and_the_other_stages_do_not(prod: Synthesised, dev: Synthesised) -> None:
    snapped = [spec for spec in GROUPS if not spec.web_server]
    for spec in snapped:
        assert function_of(prod, spec)["SnapStart"] == {"ApplyOn": "PublishedVersions"}
        assert "SnapStart" not in function_of(dev, spec)
    aliases = set(prod.resources("AWS::Lambda::Alias", "api"))
    for method in prod.properties("AWS::ApiGateway::Method"):
        assert any(alias in json.dumps(method["Integration"]["Uri"]) for alias in aliases)


@pytest.mark.row("X-15")
def test_production_releases_step_by_step_and_takes_back_what_fails(prod: Synthesised, dev: Synthesised) -> None:
    aliases = prod.resources("AWS::Lambda::Alias")
    groups = prod.resources("AWS::CodeDeploy::DeploymentGroup")
    alarms = prod.resources("AWS::CloudWatch::Alarm", "api")
    assert len(aliases) == len(groups) == len(alarms) == len([*GROUPS, AUTHORIZE])
    watched = []
    for alias in aliases.values():
        update = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        group = groups[update["DeploymentGroupName"]["Ref"]]["Properties"]
        assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
        assert group["AutoRollbackConfiguration"]["Enabled"] is True
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        assert group["AlarmConfiguration"]["Enabled"] is True
        [name] = [one["Name"]["Ref"] for one in group["AlarmConfiguration"]["Alarms"]]
        # It watches the very version that the alias is led to.
        [version] = alias["Properties"]["FunctionVersion"]["Fn::GetAtt"][:1]
        assert version in json.dumps(alarms[name]["Properties"]["Metrics"])
        watched.append(name)
    assert sorted(watched) == sorted(alarms)
    assert dev.resources("AWS::CodeDeploy::DeploymentGroup") == dev.resources("AWS::Lambda::Alias") == {}


def test_chats_stream_behind_the_web_adapter_everywhere_but_on_this_machine(
    prod: Synthesised, dev: Synthesised, local: Synthesised
) -> None:
    (spec,) = (spec for spec in GROUPS if spec.web_server)
    for stage in (prod, dev):
        function = function_of(stage, spec)
        assert function["Handler"] == "functions/chats/run.sh"
        variables = function["Environment"]["Variables"]
        assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/bootstrap"
        assert variables["AWS_LWA_INVOKE_MODE"] == "response_stream"
        assert any("LambdaAdapterLayerArm64" in json.dumps(layer) for layer in function["Layers"])
        modes = [
            method["Integration"].get("ResponseTransferMode")
            for method in stage.properties("AWS::ApiGateway::Method")
            if method["Integration"].get("TimeoutInMillis") == 900_000
        ]
        assert modes == ["STREAM"] * len(spec.paths)
    assert function_of(local, spec)["Handler"] == "functions.chats.handler.handler"
    assert os.access(ROOT / "functions/chats/run.sh", os.X_OK)


def test_every_log_group_forgets_in_time(prod: Synthesised) -> None:
    groups = prod.properties("AWS::Logs::LogGroup")
    assert len(groups) >= len(FUNCTIONS)
    assert all(group["RetentionInDays"] > 0 for group in groups)


# --- data


def test_production_data_is_encrypted_with_our_key_backed_up_and_cannot_be_deleted_by_accident(
    prod: Synthesised,
) -> None:
    [(key, _)] = prod.resources("AWS::KMS::Key").items()
    tables = prod.resources("AWS::DynamoDB::Table").values()
    assert len(tables) == 2
    for table in tables:
        assert table["Properties"]["SSESpecification"]["KMSMasterKeyId"] == {"Fn::GetAtt": [key, "Arn"]}
        assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["Properties"]["DeletionProtectionEnabled"] is True
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    [pool] = prod.resources("AWS::Cognito::UserPool").values()
    assert pool["Properties"]["DeletionProtection"] == "ACTIVE"
    assert pool["DeletionPolicy"] == "Retain"
    files = next(b for name, b in prod.resources("AWS::S3::Bucket").items() if name.startswith("Files"))
    [rule] = files["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {
        "KMSMasterKeyID": {"Fn::GetAtt": [key, "Arn"]},
        "SSEAlgorithm": "aws:kms",
    }
    assert files["DeletionPolicy"] == "Retain"
    assert all(key["Properties"]["EnableKeyRotation"] for key in prod.resources("AWS::KMS::Key").values())


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_the_bucket_is_private_versioned_and_tells_of_its_changes(stage: str, request: pytest.FixtureRequest) -> None:
    synthesised: Synthesised = request.getfixturevalue(stage)
    files = next(b for name, b in synthesised.resources("AWS::S3::Bucket").items() if name.startswith("Files"))
    properties = files["Properties"]
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(properties["PublicAccessBlockConfiguration"].values())
    assert properties["NotificationConfiguration"]["EventBridgeConfiguration"]["EventBridgeEnabled"] is True
    denials = [
        one
        for policy in synthesised.properties("AWS::S3::BucketPolicy", "data")
        for one in policy["PolicyDocument"]["Statement"]
        if one["Effect"] == "Deny"
    ]
    assert {"Bool": {"aws:SecureTransport": "false"}} in [one["Condition"] for one in denials]


def test_the_tables_let_expired_items_go(prod: Synthesised) -> None:
    for table in prod.properties("AWS::DynamoDB::Table"):
        keys = [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]]
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
        assert keys == [("PK", "HASH"), ("SK", "RANGE")]


def stream_mapping(stage: Synthesised, handler: str) -> dict[str, Any]:
    """How a function is handed a table's changes."""
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


@pytest.mark.row("IL-1")
def test_only_new_calls_reach_the_function_that_adds_them_up_and_what_fails_is_kept(prod: Synthesised) -> None:
    mapping = stream_mapping(prod, "functions.events.roll_up_inference_logs.handler")
    [criteria] = mapping["FilterCriteria"]["Filters"]
    assert json.loads(criteria["Pattern"]) == {
        "eventName": ["INSERT"],
        "dynamodb": {"Keys": {"PK": {"S": [{"prefix": "log#"}]}}},
    }
    assert "InferenceLogs" in json.dumps(mapping["EventSourceArn"])


@pytest.mark.row("X-14")
def test_only_writes_of_entities_reach_the_function_that_audits_them_and_what_fails_is_kept(prod: Synthesised) -> None:
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


def test_no_stack_needs_a_custom_resource(prod: Synthesised) -> None:
    types = {r["Type"] for stack in prod.stacks for r in prod.template(stack)["Resources"].values()}
    assert not {one for one in types if one.startswith("Custom::") or one == "AWS::CloudFormation::CustomResource"}


# --- who may come in


def test_passwords_may_be_sent_in_the_clear_only_on_a_laptop(
    local: Synthesised, dev: Synthesised, prod: Synthesised
) -> None:
    flows = {s.stage: s.properties("AWS::Cognito::UserPoolClient")[0]["ExplicitAuthFlows"] for s in (local, dev, prod)}
    assert {stage for stage, allowed in flows.items() if "ALLOW_USER_PASSWORD_AUTH" in allowed} == {"local"}


@pytest.mark.row("C-1")
@pytest.mark.parametrize("stage", ["prod", "foreign"])
def test_every_route_but_the_open_ones_is_behind_the_authorizer(stage: str, request: pytest.FixtureRequest) -> None:
    synthesised: Synthesised = request.getfixturevalue(stage)
    [authorizer] = synthesised.properties("AWS::ApiGateway::Authorizer")
    assert authorizer["Type"] == "TOKEN"
    expression = re.compile(authorizer["IdentityValidationExpression"])
    for accepted in ("Bearer a.b-_.c", f"bearer {PREFIX}{'A' * (CHARACTERS - len(PREFIX))}"):
        assert expression.match(accepted)
    for refused in ("Bearer ", "Basic YTpi", "Bearer a.b", f"Bearer {PREFIX}AAAA", f"Bearer {'A' * CHARACTERS}"):
        assert not expression.match(refused)
    resources = synthesised.resources("AWS::ApiGateway::Resource")

    def path(reference: dict[str, Any]) -> str:
        if "Ref" not in reference:
            return ""
        properties = resources[reference["Ref"]]["Properties"]
        return f"{path(properties['ParentId'])}/{properties['PathPart']}"

    open_paths = set()
    for method in synthesised.properties("AWS::ApiGateway::Method"):
        if method["AuthorizationType"] == "NONE":
            open_paths.add(path(method["ResourceId"]))
        else:
            assert method["AuthorizationType"] == "CUSTOM"
    assert open_paths == {"/webhooks", "/webhooks/{proxy+}", "/health", "/openapi.json", "/docs", "/docs/{proxy+}"}


def test_a_foreign_issuer_makes_no_user_pool_and_is_handed_to_the_functions(foreign: Synthesised) -> None:
    assert foreign.resources("AWS::Cognito::UserPool") == {}
    for function in foreign.properties("AWS::Lambda::Function"):
        assert function["Environment"]["Variables"]["OIDC_ISSUER"] == "https://login.example.com"
        assert function["Environment"]["Variables"]["OIDC_AUDIENCE"] == "inference"
    names = {function["FunctionName"] for function in foreign.properties("AWS::Lambda::Function")}
    assert "inference-dev-authorize" in names


# --- API Gateway's own answers


def gateway_responses(stage: Synthesised) -> dict[str, dict[str, Any]]:
    return {one["ResponseType"]: one for one in stage.properties("AWS::ApiGateway::GatewayResponse")}


@pytest.mark.row("C-5")
def test_api_gateways_own_errors_have_the_shape_of_ours(prod: Synthesised) -> None:
    responses = gateway_responses(prod)
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "UNAUTHORIZED", "ACCESS_DENIED", "REQUEST_TOO_LARGE"} <= set(responses)
    for response in responses.values():
        body = json.loads(response["ResponseTemplates"]["application/json"])
        assert set(body) == {"error", "code", "details", "request_id"}
        assert body["error"]
        assert body["details"] == []
        assert body["request_id"] == "$context.requestId"
        assert response["ResponseParameters"]["gatewayresponse.header.X-Request-Id"] == "context.requestId"


@pytest.mark.row("C-16")
def test_an_unknown_path_is_404_and_not_a_missing_token(prod: Synthesised) -> None:
    response = gateway_responses(prod)["MISSING_AUTHENTICATION_TOKEN"]
    assert response["StatusCode"] == "404"
    assert json.loads(response["ResponseTemplates"]["application/json"])["code"] == "not_found"


@pytest.mark.row("C-15")
def test_too_much_is_413_and_too_often_429_with_the_time_to_wait(prod: Synthesised) -> None:
    responses = gateway_responses(prod)
    assert responses["REQUEST_TOO_LARGE"]["StatusCode"] == "413"
    throttled = responses["THROTTLED"]
    assert throttled["StatusCode"] == "429"
    assert throttled["ResponseParameters"]["gatewayresponse.header.Retry-After"] == "'1'"


@pytest.mark.row("C-15")
def test_production_is_behind_a_firewall_that_answers_in_our_shape(prod: Synthesised, dev: Synthesised) -> None:
    assert dev.resources("AWS::WAFv2::WebACL") == {}
    [(name, acl)] = prod.resources("AWS::WAFv2::WebACL").items()
    [association] = prod.properties("AWS::WAFv2::WebACLAssociation")
    assert association["WebACLArn"] == {"Fn::GetAtt": [name, "Arn"]}
    [stage] = prod.resources("AWS::ApiGateway::Stage")
    assert {"Ref": stage} in association["ResourceArn"]["Fn::Join"][1]

    rules = {rule["Name"]: rule for rule in acl["Properties"]["Rules"]}
    flood = rules["Flood"]
    assert flood["Statement"]["RateBasedStatement"]["AggregateKeyType"] == "IP"
    answers = acl["Properties"]["CustomResponseBodies"]
    for rule, status, code in (("Flood", 429, "too_many_requests"), ("TooLarge", 413, "payload_too_large")):
        blocked = rules[rule]["Action"]["Block"]["CustomResponse"]
        assert (blocked["ResponseCode"], blocked["CustomResponseBodyKey"]) == (status, code)
        assert json.loads(answers[code]["Content"])["code"] == code
    assert flood["Action"]["Block"]["CustomResponse"]["ResponseHeaders"] == [{"Name": "Retry-After", "Value": "60"}]
    too_large = re.compile(rules["TooLarge"]["Statement"]["RegexMatchStatement"]["RegexString"])
    assert not [size for size in (0, 9, 6_291_456, 6_299_999) if too_large.match(str(size))]
    assert all(too_large.match(str(size)) for size in (6_300_000, 7_000_000, 10_000_000, 123_456_789))

    common = rules["AWSManagedRulesCommonRuleSet"]["Statement"]["ManagedRuleGroupStatement"]
    counted = {each["Name"] for each in common["RuleActionOverrides"]}
    assert "SizeRestrictions_BODY" in counted, "it would refuse every body over 8 KB"
    assert not any(rule["VisibilityConfig"]["SampledRequestsEnabled"] for rule in rules.values())


@pytest.mark.row("C-15")
def test_in_production_all_but_open_routes_count_for_one_of_the_plans_shares(
    prod: Synthesised, dev: Synthesised
) -> None:
    [plan] = prod.resources("AWS::ApiGateway::UsagePlan")
    [stage] = prod.resources("AWS::ApiGateway::Stage")
    [api] = prod.resources("AWS::ApiGateway::RestApi")
    properties = prod.resources("AWS::ApiGateway::UsagePlan")[plan]["Properties"]
    assert properties["ApiStages"] == [{"ApiId": {"Ref": api}, "Stage": {"Ref": stage}}]
    assert 2 * properties["Throttle"]["RateLimit"] <= PROD.throttling_rate
    assert 2 * properties["Throttle"]["BurstLimit"] <= PROD.throttling_burst

    keys = prod.resources("AWS::ApiGateway::ApiKey")
    members = prod.properties("AWS::ApiGateway::UsagePlanKey")
    assert sorted(member["KeyId"]["Ref"] for member in members) == sorted(keys)
    assert all(member["UsagePlanId"] == {"Ref": plan} for member in members)
    assert all(key["Properties"]["Enabled"] for key in keys.values())

    assert prod.resources("AWS::ApiGateway::RestApi")[api]["Properties"]["ApiKeySourceType"] == "AUTHORIZER"
    methods = prod.properties("AWS::ApiGateway::Method")
    assert {(one["AuthorizationType"], one.get("ApiKeyRequired", False)) for one in methods} == {
        ("CUSTOM", True),
        ("NONE", False),
    }
    assert not any(one.get("ApiKeyRequired") for one in dev.properties("AWS::ApiGateway::Method"))
    assert dev.resources("AWS::ApiGateway::UsagePlan") == {}
    assert "FAIR_SHARES" not in function_of(dev, AUTHORIZE)["Environment"]["Variables"]


def test_no_two_shares_of_an_account_have_the_same_key() -> None:
    keys = [key for settings in STAGES.values() for key in settings.fair_shares]
    assert len(set(keys)) == len(keys) > 0
    assert all(re.fullmatch(r"[A-Za-z0-9]{20,128}", key) for key in keys)


@pytest.mark.row("C-15")
def test_the_authorizer_spreads_users_and_the_keys_of_spaces_over_all_shares_and_keeps_them_apart(
    prod: Synthesised, settings: Settings, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = function_of(prod, AUTHORIZE)["Environment"]["Variables"]["FAIR_SHARES"]
    resources = Resources(settings.model_copy(update={"fair_shares": shares}))
    monkeypatch.setattr(authorize, "_resources", lambda: resources)

    def share(token: str | KeyToken) -> str:
        event = {"authorizationToken": f"Bearer {token}", "methodArn": "arn:aws:execute-api:::api/api/GET/me"}
        found: str = authorize.handler(event, None)["usageIdentifierKey"]
        return found

    ids = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(200)]
    of_users = {share(issuer.token(each)) for each in ids}
    of_keys = {share(KeyToken.new(each, ids[0], ids[0])) for each in ids}
    assert not of_users & of_keys
    assert len(of_users) == len(of_keys)
    assert of_users | of_keys == {key["Value"] for key in prod.properties("AWS::ApiGateway::ApiKey")}


def test_the_deployment_waits_for_the_answers_and_the_methods(prod: Synthesised) -> None:
    [deployment] = prod.resources("AWS::ApiGateway::Deployment").values()
    needed = {*prod.resources("AWS::ApiGateway::Method"), *prod.resources("AWS::ApiGateway::GatewayResponse")}
    assert needed <= set(deployment["DependsOn"])


# --- events and jobs


def queue_mapping(stage: Synthesised, handler: str) -> dict[str, Any]:
    """How a function is handed a queue's messages."""
    functions = stage.resources("AWS::Lambda::Function")
    [mapping] = [
        one
        for one in stage.properties("AWS::Lambda::EventSourceMapping")
        if "StartingPosition" not in one and functions[one["FunctionName"]["Ref"]]["Properties"]["Handler"] == handler
    ]
    return mapping


@pytest.mark.row("X-13")
def test_webhooks_wait_in_a_queue_of_the_name_that_those_who_fill_it_know(prod: Synthesised) -> None:
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


@pytest.mark.row("X-13")
def test_only_writes_of_entities_are_told_of(prod: Synthesised) -> None:
    mapping = stream_mapping(prod, "functions.events.publish_webhook_events.handler")
    assert [json.loads(one["Pattern"]) for one in mapping["FilterCriteria"]["Filters"]] == [AUDITED[0]]
    assert "Entities" in json.dumps(mapping["EventSourceArn"])


@pytest.mark.row("CN-5")
def test_object_events_wait_in_a_queue_that_keeps_what_fails(prod: Synthesised) -> None:
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
def test_statuses_follow_aws_events_and_are_derived_anew_every_five_minutes(prod: Synthesised) -> None:
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


def test_every_queue_that_keeps_failures_has_an_alarm(prod: Synthesised) -> None:
    watched = [
        json.dumps(alarm["Dimensions"])
        for alarm in prod.properties("AWS::CloudWatch::Alarm")
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible"
    ]
    kept = dead_letter_queues(prod)
    assert kept
    assert len(watched) == len(kept)
    assert all(any(queue in one for one in watched) for queue in kept)


def test_nothing_that_is_done_later_can_be_lost(prod: Synthesised) -> None:
    """Whatever hands events on or is called by them keeps what failed in a queue that only failures go to."""
    kept = dead_letter_queues(prod)

    def queue(arn: dict[str, Any]) -> str:
        return str(arn["Fn::GetAtt"][0])

    called = set()
    for rule in prod.properties("AWS::Events::Rule"):
        for target in rule["Targets"]:
            assert queue(target["DeadLetterConfig"]["Arn"]) in kept
            called.add(queue(target["Arn"]))
    for name, one in prod.resources("AWS::SQS::Queue").items():
        if name not in kept:
            assert queue(one["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]) in kept
    for mapping in prod.properties("AWS::Lambda::EventSourceMapping"):
        if "StartingPosition" in mapping:
            assert queue(mapping["DestinationConfig"]["OnFailure"]["Destination"]) in kept
        else:
            assert queue(mapping["EventSourceArn"]) in prod.resources("AWS::SQS::Queue")
    # EventBridge's own queue knows nothing of what fails once the function was called.
    asynchronous = {
        one["FunctionName"]["Ref"]: queue(one["DestinationConfig"]["OnFailure"]["Destination"])
        for one in prod.properties("AWS::Lambda::EventInvokeConfig")
    }
    functions = prod.resources("AWS::Lambda::Function")
    assert {name: kept_in for name, kept_in in asynchronous.items() if kept_in in kept}.keys() == called & {*functions}
    for function, kept_in in asynchronous.items():
        role = functions[function]["Properties"]["Role"]["Fn::GetAtt"][0]
        own = [one for one in prod.properties("AWS::IAM::Policy") if {"Ref": role} in one["Roles"]]
        assert any(
            one["Action"] == "sqs:SendMessage" and queue(one["Resource"]) == kept_in
            for policy in own
            for one in policy["PolicyDocument"]["Statement"]
        )


def test_alarms_tell_somebody_both_when_they_go_off_and_when_they_are_over(prod: Synthesised) -> None:
    [topic] = prod.resources("AWS::SNS::Topic")
    composites = prod.properties("AWS::CloudWatch::CompositeAlarm")
    parts = json.dumps([one["AlarmRule"] for one in composites])
    telling = [
        *composites,
        *(one["Properties"] for name, one in prod.resources("AWS::CloudWatch::Alarm", "observability").items()
          if name not in parts),
    ]  # fmt: skip
    assert len(telling) > 20
    for alarm in telling:
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": topic}]


def test_state_machines_log_everything_and_trace(prod: Synthesised) -> None:
    machines = prod.properties("AWS::StepFunctions::StateMachine")
    assert len(machines) == 3
    for machine in machines:
        assert machine["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["TracingConfiguration"] == {"Enabled": True}


def test_the_api_starts_the_machines_that_the_workflows_stack_makes(prod: Synthesised) -> None:
    """The two stacks agree on names only: a reference would make each wait for the other."""
    made = {machine["StateMachineName"] for machine in prod.properties("AWS::StepFunctions::StateMachine")}
    variables = function_of(prod, GROUPS[0])["Environment"]["Variables"]
    named = {
        json.dumps(variables[name]).rsplit(":", 1)[1].split('"')[0]
        for name in ("TRAINING_STATE_MACHINE_ARN", "EVALUATION_STATE_MACHINE_ARN", "SCAN_STATE_MACHINE_ARN")
    }
    assert named == made


# --- size and order


def test_there_is_room_for_further_groups_in_the_api_stack(prod: Synthesised) -> None:
    resources = prod.template("api")["Resources"]
    per_group = len([name for name in resources if name.startswith(("Connectors", "Apiconnectors"))])
    assert per_group > 5
    assert len(resources) + 5 * per_group <= 500


def test_stacks_deploy_in_one_go_without_a_circle(prod: Synthesised) -> None:
    manifest = json.loads((prod.folder / "manifest.json").read_text())["artifacts"]

    def needs(stack: str) -> set[str]:
        return {
            name.removeprefix("inference-prod-") for name in manifest[f"inference-prod-{stack}"]["dependencies"]
        } & {*prod.stacks}

    assert needs("data") == set()
    assert needs("api") == {"data"}
    assert needs("workflows") == {"data", "api"}
    assert needs("observability") >= {"api", "workflows"}


@pytest.mark.parametrize(
    "name",
    ["ApiUrl", "TableName", "BucketName", "UserPoolId", "UserPoolClientId", "OidcIssuer", "WebhookSecretArn",
     "TrainingStateMachineArn", "EvaluationStateMachineArn", "ScanStateMachineArn",
     "WebhookQueueUrl"],
)  # fmt: skip
def test_operators_find_what_they_need_among_the_outputs(local: Synthesised, name: str) -> None:
    outputs = {key for stack in local.stacks for key in local.template(stack).get("Outputs", {})}
    assert name in outputs
