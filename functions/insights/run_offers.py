"""Makes the insight of a decision run's offer, when the first reaction to it arrives."""

from collections.abc import Sequence

from shared.clock import Clock
from shared.decisions.summaries import unpacked
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError, NotFoundError
from shared.insights.run_offers import find_offer
from shared.insights.store import Insights
from shared.models.client_key import ClientName
from shared.models.decision_run import DecisionRun
from shared.models.insight import ClientKind, FinishReason, Insight
from shared.models.job_reference import JobKind
from shared.models.job_status import JobStatus
from shared.models.lineage import DecisionLineage


class RunOfferService:
    def __init__(self, table: Table, insights: Insights, clock: Clock) -> None:
        self._table = table
        self._insights = insights
        self._runs = Repository(table, DecisionRun, kind=JobKind.DECISION_RUN.value, clock=clock)
        self._clock = clock

    def keep(self, space_id: str, insight_id: str, names: Sequence[ClientName]) -> None:
        """Stores the insight of a run's offer to a customer, who has one of these names. Safe to repeat.

        Raises NotFoundError if there is no such offer, and ConflictError for one that was not to be sent.
        """
        by_key = {name.digest: name for name in names}
        found = find_offer(self._table, space_id, list(by_key), insight_id)
        if found is None:
            raise NotFoundError(f"There is no insight {insight_id}, and no decision run made this customer its offer.")
        client_key, offer = found
        run = self._runs.get(space_id, offer.run_id)
        if run.status is not JobStatus.SUCCEEDED or run.summary is None:
            raise ConflictError(f"The run of this offer is {run.status}, and its offers are not published.")
        action_id = None if offer.is_withheld else offer.action_id
        insight = Insight(
            id=insight_id,
            created_at=run.decided_at,
            updated_at=self._clock(),
            action_id=action_id,
            actions=action_id or "",
            arbitration=unpacked(run.summary).arbitration,
            arm=offer.arm,
            best_channel=offer.channel or "",
            candidates=[],
            client_key=by_key[client_key].key,
            client_kind=ClientKind.OBJECT,
            created_by=run.created_by,
            decision_run_id=run.id,
            experiment_id=offer.experiment_id,
            finish_reason=FinishReason.CONTROL if offer.is_withheld else FinishReason.NO_WORDING,
            withheld_action_id=offer.action_id if offer.is_withheld else None,
        )
        lineage = DecisionLineage(action_id=action_id, checkpoint_id=offer.checkpoint_id)
        try:
            self._insights.create(
                space_id, insight, client_key, {}, offer.band, lineage, None, group=offer.group if action_id else None
            )
        except ConflictError:
            # Another reaction to the same offer may have arrived.
            if self._insights.stored(space_id, insight_id) is None:
                raise
