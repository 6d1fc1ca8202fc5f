"""Tests of the authorizer, the error responses, the firewall and the fair shares of API Gateway."""

import json
import re
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from functions.events import authorize
from infra.groups import AUTHORIZE
from infra.package import ROOT
from infra.settings import PROD, STAGES
from shared.http.middleware import SECURITY_HEADERS
from shared.models.api_key import CHARACTERS, PREFIX, KeyToken
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.identity import Issuer
from tests.infra.conftest import Synthesised, function_of


@pytest.mark.row("C-1")
@pytest.mark.parametrize("stage", ["prod", "foreign"])
def test_every_route_except_public_ones_needs_the_authorizer(stage: str, request: pytest.FixtureRequest) -> None:
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

    public_paths = set()
    for method in synthesised.properties("AWS::ApiGateway::Method"):
        if method["AuthorizationType"] == "NONE":
            public_paths.add(path(method["ResourceId"]))
        else:
            assert method["AuthorizationType"] == "CUSTOM"
    pages = {"", "/health", "/openapi.json", "/docs", "/docs/{proxy+}", "/console", "/console/{proxy+}"}
    assert public_paths == {"/webhooks", "/webhooks/{proxy+}", *pages}


def gateway_responses(stage: Synthesised) -> dict[str, dict[str, Any]]:
    return {one["ResponseType"]: one for one in stage.properties("AWS::ApiGateway::GatewayResponse")}


@pytest.mark.row("C-5")
def test_errors_of_api_gateway_have_the_shape_of_the_applications_errors(prod: Synthesised) -> None:
    responses = gateway_responses(prod)
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "UNAUTHORIZED", "ACCESS_DENIED", "REQUEST_TOO_LARGE"} <= set(responses)
    for response in responses.values():
        body = json.loads(response["ResponseTemplates"]["application/json"])
        assert set(body) == {"error", "code", "details", "request_id"}
        assert body["error"]
        assert body["details"] == []
        assert body["request_id"] == "$context.requestId"
        assert response["ResponseParameters"]["gatewayresponse.header.X-Request-Id"] == "context.requestId"


@pytest.mark.row("SE-8")
def test_errors_of_the_edge_have_the_applications_security_headers(prod: Synthesised) -> None:
    expected = {name: value for name, value in SECURITY_HEADERS.items() if "'" not in value}
    assert len(expected) == len(SECURITY_HEADERS) - 1
    for response in gateway_responses(prod).values():
        parameters = response["ResponseParameters"]
        assert {name: parameters[f"gatewayresponse.header.{name}"].strip("'") for name in expected} == expected
    [acl] = prod.properties("AWS::WAFv2::WebACL")
    blocks = [rule["Action"]["Block"]["CustomResponse"] for rule in acl["Rules"] if "Action" in rule]
    for block in blocks:
        headers = {each["Name"]: each["Value"] for each in block["ResponseHeaders"]}
        assert {name: headers[name] for name in expected} == expected
    assert len(blocks) == 2


@pytest.mark.row("SE-7")
def test_no_path_with_an_upload_token_is_logged_or_traced_by_the_edge(prod: Synthesised) -> None:
    [stage] = prod.properties("AWS::ApiGateway::Stage")
    variables = set(re.findall(r"\$context[.\w]*", stage["AccessLogSetting"]["Format"]))
    assert "$context.resourcePath" in variables
    assert not {variable for variable in variables if "path" in variable.lower()} - {"$context.resourcePath"}
    assert stage["TracingEnabled"] is False
    [every] = stage["MethodSettings"]
    assert (every["DataTraceEnabled"], every["LoggingLevel"]) == (False, "ERROR")


@pytest.mark.row("C-16")
def test_an_unknown_path_returns_404(prod: Synthesised) -> None:
    response = gateway_responses(prod)["MISSING_AUTHENTICATION_TOKEN"]
    assert response["StatusCode"] == "404"
    assert json.loads(response["ResponseTemplates"]["application/json"])["code"] == "not_found"


@pytest.mark.row("C-15")
def test_a_large_body_returns_413_and_throttling_returns_429_with_retry_after(prod: Synthesised) -> None:
    responses = gateway_responses(prod)
    assert responses["REQUEST_TOO_LARGE"]["StatusCode"] == "413"
    throttled = responses["THROTTLED"]
    assert throttled["StatusCode"] == "429"
    assert throttled["ResponseParameters"]["gatewayresponse.header.Retry-After"] == "'1'"


@pytest.mark.row("C-15")
def test_productions_firewall_returns_errors_in_the_applications_shape(prod: Synthesised, dev: Synthesised) -> None:
    assert dev.resources("AWS::WAFv2::WebACL") == {}
    [(name, acl)] = prod.resources("AWS::WAFv2::WebACL").items()
    [association] = prod.properties("AWS::WAFv2::WebACLAssociation")
    assert association["WebACLArn"] == {"Fn::GetAtt": [name, "Arn"]}
    [stage] = prod.resources("AWS::ApiGateway::Stage")
    assert {"Ref": stage} in association["ResourceArn"]["Fn::Join"][1]

    rules = {rule["Name"]: rule for rule in acl["Properties"]["Rules"]}
    flood = rules["Flood"]
    assert flood["Statement"]["RateBasedStatement"]["AggregateKeyType"] == "IP"
    bodies = acl["Properties"]["CustomResponseBodies"]
    for rule, status, code in (("Flood", 429, "too_many_requests"), ("TooLarge", 413, "payload_too_large")):
        blocked = rules[rule]["Action"]["Block"]["CustomResponse"]
        assert (blocked["ResponseCode"], blocked["CustomResponseBodyKey"]) == (status, code)
        assert json.loads(bodies[code]["Content"])["code"] == code
    assert {"Name": "Retry-After", "Value": "60"} in flood["Action"]["Block"]["CustomResponse"]["ResponseHeaders"]
    too_large = re.compile(rules["TooLarge"]["Statement"]["RegexMatchStatement"]["RegexString"])
    assert not [size for size in (0, 9, 6_291_456, 6_299_999) if too_large.match(str(size))]
    assert all(too_large.match(str(size)) for size in (6_300_000, 7_000_000, 10_000_000, 123_456_789))

    common = rules["AWSManagedRulesCommonRuleSet"]["Statement"]["ManagedRuleGroupStatement"]
    counted = {each["Name"] for each in common["RuleActionOverrides"]}
    assert "SizeRestrictions_BODY" in counted, "the rule would refuse every body over 8 KB"
    assert not any(rule["VisibilityConfig"]["SampledRequestsEnabled"] for rule in rules.values())


@pytest.mark.row("C-15")
def test_production_throttles_every_authenticated_route_by_fair_shares(prod: Synthesised, dev: Synthesised) -> None:
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


def test_shares_of_all_stages_have_different_keys() -> None:
    keys = [key for settings in STAGES.values() for key in settings.fair_shares]
    assert len(set(keys)) == len(keys) > 0
    assert all(re.fullmatch(r"[A-Za-z0-9]{20,128}", key) for key in keys)


@pytest.mark.row("C-15")
def test_the_authorizer_distributes_users_and_api_keys_to_separate_shares(
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


def test_the_deployment_depends_on_all_responses_and_methods(prod: Synthesised) -> None:
    [deployment] = prod.resources("AWS::ApiGateway::Deployment").values()
    needed = {*prod.resources("AWS::ApiGateway::Method"), *prod.resources("AWS::ApiGateway::GatewayResponse")}
    assert needed <= set(deployment["DependsOn"])


@pytest.mark.row("UI-7", "UI-8")
def test_the_sign_in_returns_to_our_pages_and_to_the_command_line_alone(dev: Synthesised) -> None:
    [client] = [each for each in dev.properties("AWS::Cognito::UserPoolClient") if "AllowedOAuthFlows" in each]
    *pages, command_line = client["CallbackURLs"]
    assert [page["Fn::Join"][1][-1].rpartition("/")[2] for page in pages] == ["console", "docs"]
    assert f'CALLBACK = "{command_line}"' in (ROOT / "infra/client/inference_client/credentials.py").read_text()
