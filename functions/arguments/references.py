"""Finds the lineage of an argument from its action or insight, and the customer that it is about."""

from shared.checkpoints.aliases import CheckpointAliases
from shared.checkpoints.lineages import Lineages
from shared.dynamodb.repository import Idempotency, Repository
from shared.dynamodb.table import Table, Write
from shared.errors import NotFoundError, ValidationFailedError
from shared.insights.ledger import Mention
from shared.insights.store import InsightPolicies, StoredInsight
from shared.models.action import Action
from shared.models.argument import Argument
from shared.models.lineage import DecisionLineage
from shared.spaces.members import SpaceContext


class References:
    def __init__(self, table: Table, lineages: Lineages) -> None:
        self._actions = Repository(table, Action, kind="action")
        self._insights = Repository(table, StoredInsight, kind="insight")
        self._checkpoints = CheckpointAliases(table)
        self._lineages = lineages
        self._policies = InsightPolicies(table)

    def lineage(self, context: SpaceContext, action_id: str | None, insight_id: str | None) -> DecisionLineage:
        """Returns the lineage of the insight, or of the action with its current model.

        Raises ValidationFailedError for an unknown action or insight, and for an insight with another action.
        """
        if insight_id is not None:
            return self._of_insight(context, action_id, insight_id)
        if action_id is None:
            return DecisionLineage()
        action = self._actions.get_many(context.space_id, [action_id]).get(action_id)
        if action is None:
            raise ValidationFailedError.of("body.action_id", "there is no such action; GET /actions lists them")
        checkpoint = self._checkpoints.checkpoint(context.space_id, action.model_id) if action.model_id else None
        return self._lineages.of_decision(context.space_id, action_id, checkpoint)

    def mentions(
        self, context: SpaceContext, argument: Argument, correlation_id: str, idempotency: Idempotency | None
    ) -> list[Write]:
        """Returns the writes that note an argument with the customers of its insight and of its facts."""
        mention = Mention("argument", argument.id, correlation_id, idempotency.sort_key if idempotency else None)
        name = self._policies.get(context.space_id).client_key.name_of(argument.client)
        keys = {name.digest} if name else set()
        if argument.insight_id is not None:
            found = self._insights.get_many(context.space_id, [argument.insight_id])
            keys |= {insight.client_key for insight in found.values() if insight.erased_at is None}
        return [mention.write(context.space_id, key) for key in sorted(keys)]

    def _of_insight(self, context: SpaceContext, action_id: str | None, insight_id: str) -> DecisionLineage:
        try:
            lineage = self._insights.get(context.space_id, insight_id).lineage
        except NotFoundError:
            raise ValidationFailedError.of("body.insight_id", "there is no such insight in the space") from None
        if action_id not in (None, lineage.action_id):
            raise ValidationFailedError.of(
                "body.action_id", f"is not the insight's action: send {lineage.action_id} or no action_id"
            )
        return lineage
