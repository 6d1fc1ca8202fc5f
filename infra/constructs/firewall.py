"""Puts a web ACL in front of the API. It blocks floods, known attackers and bodies that are too large for Lambda."""

import json

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_logs as logs
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from infra.constructs.error_responses import RESPONSES, SECURITY_HEADERS, Type

Acl = wafv2.CfnWebACL
Field = wafv2.CfnLoggingConfiguration.FieldToMatchProperty
# AWS's rule groups in evaluation order, each with the rules that only count. Bodies are prompts, documents and rows.
# They may be long and hold any text, and no function interprets them as markup, paths, addresses or objects of Java.
# Paths and queries hold names of customers' files, with any extension.
MANAGED_RULES: dict[str, tuple[str, ...]] = {
    "AWSManagedRulesAmazonIpReputationList": (),
    "AWSManagedRulesCommonRuleSet": (
        "CrossSiteScripting_BODY",
        "EC2MetaDataSSRF_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "NoUserAgent_HEADER",
        "RestrictedExtensions_QUERYARGUMENTS",
        "RestrictedExtensions_URIPATH",
        "SizeRestrictions_BODY",
    ),
    "AWSManagedRulesKnownBadInputsRuleSet": ("JavaDeserializationRCE_BODY", "Log4JRCE_BODY", "ReactJSRCE_BODY"),
}
# The log must not hold these: paths contain upload tokens, and headers contain credentials and signatures.
SECRET_HEADERS = ("authorization", "cookie", "webhook-signature")
# Matches 6,300,000 bytes and more, because Lambda takes at most 6 MiB.
TOO_LARGE = r"^(6[3-9][0-9]{5}|[7-9][0-9]{6}|[0-9]{8,})$"


class Firewall(Construct):
    """Web ACL of ``stage`` and its log. ``requests_per_minute`` limits each IP address."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        stage: apigateway.Stage,
        name: str,
        requests_per_minute: int,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, id)
        by_type = {each.type.response_type: each for each in RESPONSES}
        too_many, too_large = (by_type[kind.response_type] for kind in (Type.THROTTLED, Type.REQUEST_TOO_LARGE))
        acl = Acl(
            self,
            "Acl",
            scope="REGIONAL",
            default_action=Acl.DefaultActionProperty(allow={}),
            visibility_config=_visibility("Requests"),
            custom_response_bodies={
                one.code: Acl.CustomResponseBodyProperty(
                    content=json.dumps({"error": one.error, "code": one.code, "details": [], "request_id": ""}),
                    content_type="APPLICATION_JSON",
                )
                for one in (too_many, too_large)
            },
            rules=[
                Acl.RuleProperty(
                    name="Flood",
                    priority=0,
                    statement=Acl.StatementProperty(
                        rate_based_statement=Acl.RateBasedStatementProperty(
                            aggregate_key_type="IP", evaluation_window_sec=60, limit=requests_per_minute
                        )
                    ),
                    action=_block(429, too_many.code, ("Retry-After", "60")),
                    visibility_config=_visibility("Flood"),
                ),
                Acl.RuleProperty(
                    name="TooLarge",
                    priority=1,
                    statement=Acl.StatementProperty(
                        regex_match_statement=Acl.RegexMatchStatementProperty(
                            field_to_match=Acl.FieldToMatchProperty(single_header={"Name": "content-length"}),
                            regex_string=TOO_LARGE,
                            text_transformations=[Acl.TextTransformationProperty(priority=0, type="NONE")],
                        )
                    ),
                    action=_block(413, too_large.code),
                    visibility_config=_visibility("TooLarge"),
                ),
                *(
                    _managed(priority, name, counting)
                    for priority, (name, counting) in enumerate(MANAGED_RULES.items(), 2)
                ),
            ],
        )
        wafv2.CfnWebACLAssociation(self, "Association", resource_arn=stage.stage_arn, web_acl_arn=acl.attr_arn)
        self._log(acl, name, log_retention)

    def _log(self, acl: Acl, name: str, retention: logs.RetentionDays) -> None:
        """Logs requests that a rule blocked or counted. Requests of all others are in API Gateway's access log."""
        group = logs.LogGroup(
            self,
            "Logs",
            # WAF accepts only groups with this prefix.
            log_group_name=f"aws-waf-logs-{name}",
            retention=retention,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        logged = ("BLOCK", "COUNT", "EXCLUDED_AS_COUNT")
        wafv2.CfnLoggingConfiguration(
            self,
            "Logging",
            resource_arn=acl.attr_arn,
            # WAF refuses the ARN of CloudFormation, which ends in ":*".
            log_destination_configs=[
                cdk.Stack.of(self).format_arn(
                    service="logs",
                    resource="log-group",
                    resource_name=group.log_group_name,
                    arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                )
            ],
            logging_filter={
                "DefaultBehavior": "DROP",
                "Filters": [
                    {
                        "Behavior": "KEEP",
                        "Requirement": "MEETS_ANY",
                        "Conditions": [{"ActionCondition": {"Action": action}} for action in logged],
                    }
                ],
            },
            redacted_fields=[
                Field(uri_path={}),
                Field(query_string={}),
                *(Field(single_header={"Name": header}) for header in SECRET_HEADERS),
            ],
        )


def _block(status: int, body: str, *headers: tuple[str, str]) -> Acl.RuleActionProperty:
    every = (*SECURITY_HEADERS.items(), *headers)
    response = Acl.CustomResponseProperty(
        response_code=status,
        custom_response_body_key=body,
        response_headers=[Acl.CustomHTTPHeaderProperty(name=name, value=value) for name, value in every],
    )
    return Acl.RuleActionProperty(block=Acl.BlockActionProperty(custom_response=response))


def _managed(priority: int, name: str, counting: tuple[str, ...]) -> Acl.RuleProperty:
    counted = [
        Acl.RuleActionOverrideProperty(name=rule, action_to_use=Acl.RuleActionProperty(count={})) for rule in counting
    ]
    group = Acl.ManagedRuleGroupStatementProperty(vendor_name="AWS", name=name, rule_action_overrides=counted or None)
    return Acl.RuleProperty(
        name=name,
        priority=priority,
        statement=Acl.StatementProperty(managed_rule_group_statement=group),
        override_action=Acl.OverrideActionProperty(none={}),
        visibility_config=_visibility(name),
    )


def _visibility(name: str) -> Acl.VisibilityConfigProperty:
    # Sampled requests would store their headers, which include the caller's token.
    return Acl.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=False
    )
