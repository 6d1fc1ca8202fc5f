"""Fair shares: callers are spread over a fixed number of API Gateway's keys, each throttled by itself.

Our authorizer answers which key a request counts for. Whoever floods is slowed together with the few of the same share,
before a group's function is paid, and leaves the rest of what the stage takes to the others.
"""

from collections.abc import Sequence

from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

Plan = apigateway.CfnUsagePlan


class FairShares(Construct):
    """Keys of these names and values in a usage plan of ``stage``; ``rate`` is what each may send in a second."""

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
        for number, value in enumerate(keys):
            key = apigateway.CfnApiKey(self, f"Key{number:02}", name=value, value=value, enabled=True)
            apigateway.CfnUsagePlanKey(
                self, f"Share{number:02}", key_id=key.ref, key_type="API_KEY", usage_plan_id=plan.ref
            )
