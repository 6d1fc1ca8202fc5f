"""Fair shares: callers are spread over a fixed number of API Gateway's keys, each throttled by itself.

Our authorizer answers which key a request counts for. Whoever floods is slowed together with the few of the same share,
before any function is paid, and leaves the rest of what the stage takes to the others.
"""

from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

from infra.settings import StageSettings

Plan = apigateway.CfnUsagePlan


class FairShares(Construct):
    """The keys of ``settings`` in a usage plan of ``stage``."""

    def __init__(self, scope: Construct, id: str, *, stage: apigateway.Stage, settings: StageSettings) -> None:
        super().__init__(scope, id)
        rate = settings.share_throttling_rate or 0
        plan = Plan(
            self,
            "Plan",
            usage_plan_name=settings.name("fair-shares"),
            api_stages=[Plan.ApiStageProperty(api_id=stage.rest_api.rest_api_id, stage=stage.stage_name)],
            throttle=Plan.ThrottleSettingsProperty(rate_limit=rate, burst_limit=2 * rate),
        )
        for share in settings.fair_shares:
            number = share[-2:]
            key = apigateway.CfnApiKey(self, f"Key{number}", name=share, value=share, enabled=True)
            apigateway.CfnUsagePlanKey(
                self, f"Share{number}", key_id=key.ref, key_type="API_KEY", usage_plan_id=plan.ref
            )
