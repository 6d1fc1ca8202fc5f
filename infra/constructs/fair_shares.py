"""Throttles callers in fair shares: a fixed number of API Gateway keys, each with its own limit.

The authorizer returns the key of each request. A caller that sends too many requests slows down only the callers of
the same share, before a function runs.
"""

from collections.abc import Sequence

from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

Plan = apigateway.CfnUsagePlan


class FairShares(Construct):
    """Usage plan of ``stage`` with one API key for each value in ``keys``. ``rate`` is requests per second and key."""

    def __init__(
        self, scope: Construct, id: str, *, stage: apigateway.Stage, name: str, keys: Sequence[str], rate: int
    ) -> None:
        super().__init__(scope, id)
        plan = Plan(
            self,
            "Plan",
            usage_plan_name=name,
            api_stages=[Plan.ApiStageProperty(api_id=stage.rest_api.rest_api_id, stage=stage.stage_name)],
            throttle=Plan.ThrottleSettingsProperty(rate_limit=rate, burst_limit=2 * rate),
        )
        before: apigateway.CfnUsagePlanKey | None = None
        for number, value in enumerate(keys):
            key = apigateway.CfnApiKey(self, f"Key{number:02}", name=value, value=value, enabled=True)
            share = apigateway.CfnUsagePlanKey(
                self, f"Share{number:02}", key_id=key.ref, key_type="API_KEY", usage_plan_id=plan.ref
            )
            # API Gateway refuses (409) to change the keys of an account and region at the same time.
            if before:
                share.add_resource_dependency(before)
            before = share
