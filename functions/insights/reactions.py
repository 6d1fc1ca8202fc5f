"""Records reactions, counts them, and exports them for the next training."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.insights.statistics import rate_interval
from shared.clock import Clock
from shared.connectors.storage import DOWNLOAD_LIFETIME, ConnectorStorages
from shared.dynamodb.repository import Repository, cursor_id
from shared.dynamodb.table import Table
from shared.errors import ConflictError, NotFoundError, ValidationFailedError
from shared.insights.ledger import require_past
from shared.insights.store import ACTION_COLUMN, EXPORTS_FOLDER, TARGET, Counts, InsightPolicies, Insights
from shared.models.action import Action
from shared.models.base import Page
from shared.models.client_key import ClientName
from shared.models.connector import Connector
from shared.models.insight import (
    SCORE_BANDS,
    AcceptanceRate,
    ActionAcceptance,
    Export,
    ExportCreate,
    InsightReaction,
    Reaction,
    ReactionCreate,
    ScoreBand,
)
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from shared.space_usage.storage import StorageUsages

EXPORT_ROWS = 10_000
EXPORT_BYTES = 32 * 2**20
# Until then, the file of an export is written.
EXPORT_WRITTEN = timedelta(minutes=1)
_NEEDS_CUSTOMER = "If it is the `insight_id` of a decision run's output, send the row's `client_key` too."


class ReactionService:
    def __init__(
        self,
        table: Table,
        insights: Insights,
        storages: ConnectorStorages,
        storage_usages: "StorageUsages",
        clock: Clock,
    ) -> None:
        self._table = table
        self._insights = insights
        self._policies = InsightPolicies(table, clock)
        self._actions = Repository(table, Action, kind="action", clock=clock)
        self._connectors = Repository(table, Connector, kind="connector", clock=clock)
        self._storages = storages
        self._storage_usages = storage_usages
        self._clock = clock

    def react(self, context: SpaceContext, insight_id: str, request: ReactionCreate) -> InsightReaction:
        """Records a reaction to an insight, or to an offer of a decision run, which becomes an insight by that.

        Raises ValidationFailedError for a time in the future and for another customer than the insight's,
        NotFoundError, and ConflictError.
        """
        if request.occurred_at is not None:
            require_past(request.occurred_at, self._clock())
        if request.client_key is not None:
            self._require_of(context.space_id, insight_id, request.client_key)
        try:
            return self._insights.react(context.space_id, insight_id, context.user_id, request)
        except NotFoundError as error:
            if request.client_key is not None or self._insights.stored(context.space_id, insight_id) is not None:
                raise
            raise NotFoundError(f"{error.message} {_NEEDS_CUSTOMER}") from None

    def _require_of(self, space_id: str, insight_id: str, text: str) -> None:
        """Requires that an insight is about a customer. The offer of a run becomes one."""
        rules = self._policies.get(space_id).client_keys
        names = [ClientName("client_key", key) for rule in rules if (key := rule.key_of(text))]
        if not names:
            raise ValidationFailedError.of("body.client_key", "names no customer")
        stored = self._insights.stored(space_id, insight_id)
        if stored is None:
            # Most reactions are to single decisions.
            from functions.insights.run_offers import RunOfferService

            RunOfferService(self._table, self._insights, self._clock).keep(space_id, insight_id, names)
        elif stored.erased_at is None and stored.client_key not in {name.digest for name in names}:
            raise ValidationFailedError.of("body.client_key", "is not the customer of this insight")

    def acceptance_rates(self, context: SpaceContext, after: str, limit: int) -> Page[ActionAcceptance]:
        """Returns the acceptance rates of the space's actions, newest action first."""
        page = self._actions.list_after(context.space_id, after, limit)
        counts = self._insights.counts(context.space_id, [action.id for action in page.data])
        data = [_acceptance(action, counts[action.id]) for action in page.data]
        return Page(count=page.count, data=data, has_more=page.has_more)

    def export(self, context: SpaceContext, request: ExportCreate) -> Export:
        """Writes reactions, oldest first, to a file of a managed connector. A repeated request replaces the file.

        The reactions of the last minute are left for the next export, because one that is older may still be stored.

        Raises ValidationFailedError for an unknown connector or action, ConflictError for a connector that is not
        managed, InvalidCursorError, and LimitReachedError if the storage of the space has no room.
        """
        connector = self._connectors.get_many(context.space_id, [request.connector_id]).get(request.connector_id)
        if connector is None:
            raise ValidationFailedError.of(
                "body.connector_id", "there is no such connector; GET /connectors lists them"
            )
        if not connector.is_managed:
            raise ConflictError("The API cannot write to this connector. Use a managed connector.")
        found = self._actions.get_many(context.space_id, [request.action_id]) if request.action_id else True
        if not found:
            raise ValidationFailedError.of("body.action_id", "there is no such action; GET /actions lists them")
        rows, export = self._rows(context, request)
        if rows:
            export.file = _file_name(request)
            storage = self._storages.open(context.space_id, connector)
            content = b"".join(rows)
            self._storage_usages.reserve(context.space_id, len(content), EXPORT_WRITTEN)
            storage.write(export.file, content)
            export.download = storage.presigned_download(export.file, self._clock() + DOWNLOAD_LIFETIME)
        return export

    def _rows(self, context: SpaceContext, request: ExportCreate) -> tuple[list[bytes], Export]:
        # Without new reactions, the next export continues at the same place.
        export = Export(file=None, has_more=False, last=cursor_id(request.after), rows=0, skipped=0, target=TARGET)
        rows: list[bytes] = []
        size = 0
        found = self._insights.reactions(context.space_id, request.after, request.since, request.action_id)
        for reaction, features in found:
            if export.rows + export.skipped == EXPORT_ROWS or size > EXPORT_BYTES:
                export.has_more = True
                break
            export.last = reaction.id
            if not features:
                export.skipped += 1
                continue
            rows.append(_line(reaction, features, names_action=request.action_id is None))
            size += len(rows[-1])
            export.rows += 1
        return rows, export


def _file_name(request: ExportCreate) -> str:
    """Returns a file name that depends on the request, so that a repeated request replaces the file."""
    since = [f"{request.since:%Y%m%dT%H%M%S.%f}"] if request.since else []
    after = [cursor_id(request.after) or "start"]
    return f"{EXPORTS_FOLDER}{'-'.join([request.action_id or 'all', *since, *after])}.jsonl"


def _line(reaction: InsightReaction, features: dict[str, Any], *, names_action: bool) -> bytes:
    """Returns one row: the features at the time of the decision, and the target. Later values would be leakage."""
    action = {ACTION_COLUMN: reaction.action_id} if names_action else {}
    row = {**features, **action, TARGET: int(reaction.reaction is Reaction.ACCEPTED)}
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _acceptance(action: Action, counts: Counts) -> ActionAcceptance:
    return ActionAcceptance(
        action_id=action.id,
        name=action.name,
        ignored=counts.reactions[Reaction.IGNORED],
        rejected=counts.reactions[Reaction.REJECTED],
        score_bands=[
            ScoreBand(from_score=band / SCORE_BANDS, to_score=(band + 1) / SCORE_BANDS, **_rate(accepted, offers))
            for band, (offers, accepted) in enumerate(counts.bands)
        ],
        **_rate(counts.accepted, counts.offers),
    )


def _rate(accepted: int, offers: int) -> dict[str, Any]:
    if not offers:
        return AcceptanceRate(accepted=0, offers=0, rate=None, low=None, high=None).model_dump()
    low, high = rate_interval(accepted, offers)
    return AcceptanceRate(accepted=accepted, offers=offers, rate=accepted / offers, low=low, high=high).model_dump()
