"""Manages the policy of a space: what limits offers, and what scores are made of."""

from shared.clock import Clock
from shared.dynamodb.table import Table
from shared.insights.policy_names import PolicyNames
from shared.insights.store import InsightPolicies
from shared.models.insight import InsightPolicy, InsightPolicyUpdate
from shared.spaces.members import SpaceContext


class PolicyService:
    def __init__(self, table: Table, clock: Clock) -> None:
        self._policies = InsightPolicies(table, clock)
        self._names = PolicyNames(table, clock)

    def get(self, context: SpaceContext) -> InsightPolicy:
        return self._policies.get(context.space_id)

    def update(
        self, context: SpaceContext, request: InsightPolicyUpdate, expected_version: int | None
    ) -> InsightPolicy:
        """Updates the policy. Raises ValidationFailedError for limits and exemptions of what does not exist."""
        changes = request.changes()
        limits, exempt = changes.get("contact_limits", []), changes.get("exempt")
        self._names.require_known(context.space_id, limits, exempt, "body")
        return self._policies.update(context.space_id, context.user_id, changes, expected_version)
