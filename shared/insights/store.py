"""Stores insights, the clients' reactions, and the counters of reactions.

- ``insight``: one item for each decision, with the response and the client's features. Large values are in S3.
- ``insight_reaction``: one item for each reaction with the client's features, in the order of time, for exports.
- ``insight_contact#<space>#<client>``: the ledger of each client's contacts and reactions (see ``ledger``).
- ``insight_rate``: the counters of each action. They change in the transaction of the reaction.
- ``insight_experiment``: the experiment of a space, and the sums of its arms (see ``exposures``).
- ``insight_policy``: one item for each space that has set its policy.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.large_values import LargeValues
from shared.dynamodb.repository import Idempotency, Repository, cursor_id
from shared.dynamodb.table import (
    ConditionFailedError,
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    delete,
    put,
    repeat_on_conflict,
    update,
)
from shared.dynamodb.write_markers import WRITE_MARKER, has_write_marker, write_marker
from shared.errors import ConflictError, NotFoundError, PreconditionFailedError
from shared.insights.exposures import Exposure, Exposures
from shared.insights.ledger import Ledger, Mention, ReportedReaction, ledger_partition
from shared.models.base import Entity, Timestamp
from shared.models.insight import (
    SCORE_BANDS,
    Insight,
    InsightPolicy,
    InsightReaction,
    Reaction,
    ReactionCreate,
)
from shared.models.lineage import DecisionLineage

# The folder of exported reactions, and the columns that are added to the features.
EXPORTS_FOLDER = "reactions/"
TARGET = "reaction_accepted"
ACTION_COLUMN = "reaction_action_id"
# Earlier rules of the client key under which contacts are still found.
EARLIER_RULES = 5
# The fields of a policy that change scores.
_LEVERS = {"currency", "default_value", "weights"}
# A reaction gets its id before its transaction, so one with a lower id may appear later than one with a higher id. A
# request ends within 29 seconds. The rest is for differences between clocks.
SETTLED = timedelta(minutes=1)


class StoredInsight(Entity):
    """An insight in the table. ``band`` is the score band of its propensity, or ``None`` without a model.

    After the erasure of its customer, only ids are left.
    """

    action_id: str | None = None
    answer: dict[str, Any]
    band: int | None = None
    channel: str | None = None
    client_key: str
    exposure: Exposure | None = None
    erased_at: Timestamp | None = None
    features: dict[str, Any]
    lineage: DecisionLineage
    group: str | None = None
    reaction: InsightReaction | None = None
    withheld_action_id: str | None = None


class StoredReaction(InsightReaction):
    features: dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """The counts of one action: offers by reaction, and pairs of offered and accepted by score band."""

    reactions: dict[Reaction, int]
    bands: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, item: Item) -> "Counts":
        return cls(
            {reaction: int(item.get(reaction, 0)) for reaction in Reaction},
            tuple(
                (int(item.get(f"offered_{band}", 0)), int(item.get(f"accepted_{band}", 0)))
                for band in range(SCORE_BANDS)
            ),
        )

    @property
    def item(self) -> dict[str, int]:
        """Returns the counts as they are stored."""
        bands = {
            f"{name}_{band}": count
            for band, pair in enumerate(self.bands)
            for name, count in zip(("offered", "accepted"), pair, strict=True)
        }
        return {**{reaction.value: count for reaction, count in self.reactions.items()}, **bands}

    @property
    def accepted(self) -> int:
        return self.reactions[Reaction.ACCEPTED]

    @property
    def offers(self) -> int:
        return sum(self.reactions.values())


NO_COUNTS = Counts.of({})


def band_of(propensity: float) -> int:
    """Returns the score band of a propensity that a model gave."""
    return min(int(propensity * SCORE_BANDS), SCORE_BANDS - 1)


class Insights:
    def __init__(self, table: Table, values: LargeValues, clock: Clock = utc_now) -> None:
        self._table = table
        self._values = values
        self._clock = clock
        self.ledger = Ledger(table)
        self.exposures = Exposures(table)
        self._insights = Repository(table, StoredInsight, kind="insight", clock=clock)
        self._reactions = Repository(table, StoredReaction, kind="insight_reaction", clock=clock)

    def create(
        self,
        space_id: str,
        insight: Insight,
        client_key: str,
        features: dict[str, Any],
        band: int | None,
        lineage: DecisionLineage,
        idempotency: Idempotency | None,
        group: str | None = None,
        correlation_id: str | None = None,
        also: Sequence[Write] = (),
    ) -> Insight:
        """Stores an insight and carries out ``also``. A repeated request returns the first insight.

        Raises ConflictError if a request with the same idempotency key had another body, ExposedMeanwhileError, and the
        errors of ``also``.
        """
        folder = f"spaces/{space_id}/insights/{insight.id}"
        exposure = None
        if insight.arm and insight.experiment_id:
            exposure = Exposure(experiment_id=insight.experiment_id, arm=insight.arm)
        key = self._insights.key(space_id, insight.id)
        answered = insight.model_dump(mode="json", exclude={"reaction"})
        answer, with_answer = self._values.keep(space_id, answered, f"{folder}/answer.json", key)
        kept_features, with_features = self._values.keep(space_id, features, f"{folder}/features.json", key)
        stored = StoredInsight(
            id=insight.id,
            created_at=insight.created_at,
            updated_at=insight.updated_at,
            action_id=insight.action_id,
            answer=answer,
            band=band,
            channel=insight.best_channel or None,
            client_key=client_key,
            exposure=exposure,
            features=kept_features,
            group=group,
            lineage=lineage,
            withheld_action_id=insight.withheld_action_id,
        )
        mention = Mention("insight", insight.id, correlation_id, idempotency.sort_key if idempotency else None)
        counted = self.exposures.first(space_id, client_key, exposure) if exposure else []
        writes = [*with_answer, *with_features, *counted, *also, mention.write(space_id, client_key)]
        first = self._insights.create(space_id, stored, idempotency=idempotency, also=writes)
        return insight if first.id == insight.id else self._first(space_id, first)

    def reword(self, space_id: str, insight: Insight) -> Insight:
        """Replaces the texts of an insight."""
        key = self._insights.key(space_id, insight.id)
        answered = insight.model_dump(mode="json", exclude={"reaction"})
        place = f"spaces/{space_id}/insights/{insight.id}/answer.json"
        answer, with_answer = self._values.keep(space_id, answered, place, key)
        changes = {"answer": answer, "channel": insight.best_channel or None}
        self._table.transact([self._insights.update_write(space_id, insight.id, changes), *with_answer])
        return insight

    def answered(self, space_id: str, idempotency: Idempotency) -> Insight | None:
        """Returns the insight of the first request with this idempotency key, if there is one.

        Raises ConflictError if the first request had another body.
        """
        first = self._insights.answered(space_id, idempotency)
        return self._first(space_id, first) if first else None

    def _first(self, space_id: str, first: StoredInsight) -> Insight:
        """Returns the insight of a first request with the texts that it got after its decision was stored."""
        return self._load(self._insights.get(space_id, first.id).model_copy(update={"reaction": None}))

    def features(self, stored: StoredInsight) -> dict[str, Any]:
        """Returns the client's features of an insight."""
        found: dict[str, Any] = self._values.load(stored.features)
        return found

    def reacted(self, space_id: str, reaction_id: str) -> str | None:
        """Returns the id of the insight of a reaction, if there is one."""
        item = self._table.get(self._reactions.key(space_id, reaction_id))
        return str(item["insight_id"]) if item else None

    def erase(self, space_id: str, stored: StoredInsight, idempotency: str | None) -> None:
        """Removes what an insight says about its customer. Its id and its lineage stay.

        Raises TransactionFailedError if another request was faster.
        """
        now = self._clock()
        left = StoredInsight(
            id=stored.id,
            created_at=stored.created_at,
            updated_at=now,
            version=stored.version + 1,
            action_id=stored.action_id,
            answer={},
            client_key="",
            erased_at=now,
            features={},
            lineage=stored.lineage,
        )
        values = {name: getattr(left, name) for name in StoredInsight.model_fields}
        unchanged = Attr("version").eq(stored.version)
        writes = [put(self._insights.key(space_id, stored.id), {**values, WRITE_MARKER: write_marker()}, unchanged)]
        if stored.reaction is not None:
            writes.append(delete(self._reactions.key(space_id, stored.reaction.id)))
        if idempotency is not None:
            writes.append(delete(Key(f"insight#{space_id}#idempotency", idempotency)))
        self._table.transact(writes)

    def stored(self, space_id: str, insight_id: str) -> StoredInsight | None:
        """Returns the item of an insight, if there is one."""
        return self._insights.get_many(space_id, [insight_id]).get(insight_id)

    def get(self, space_id: str, insight_id: str) -> Insight:
        """Returns an insight. Raises NotFoundError."""
        return self._load(self._insights.get(space_id, insight_id))

    def lineage(self, space_id: str, insight_id: str) -> DecisionLineage:
        """Returns the lineage of the decision at its time. Raises NotFoundError."""
        return self._insights.get(space_id, insight_id).lineage

    def _load(self, stored: StoredInsight) -> Insight:
        _require_kept(stored)
        values = self._values.load(stored.answer)
        return Insight.model_validate({**values, "reaction": stored.reaction, "version": stored.version})

    def react(self, space_id: str, insight_id: str, user_id: str, request: ReactionCreate) -> InsightReaction:
        """Records the reaction to an insight, or replaces it, and changes the counters in the same transaction.

        A reaction to an offer that the control arm withheld only counts in the experiment.

        Raises NotFoundError, and ConflictError for an insight without an offer.
        """

        def step() -> InsightReaction:
            insight = self._insights.get(space_id, insight_id)
            _require_kept(insight)
            action_id = insight.action_id or insight.withheld_action_id
            if action_id is None:
                raise ConflictError("This insight has no offer, so it cannot have a reaction.")
            reaction = self._reaction(insight, action_id, user_id, request)
            self._table.transact(self._write(space_id, insight, reaction))
            return reaction

        return repeat_on_conflict(step, "Too many requests change the same insight now.", (TransactionFailedError,))

    def _reaction(
        self, insight: StoredInsight, action_id: str, user_id: str, request: ReactionCreate
    ) -> InsightReaction:
        now, before = self._clock(), insight.reaction
        happened = request.occurred_at or (before.happened_at if before else now)
        return InsightReaction(
            id=before.id if before else new_id(),
            created_at=before.created_at if before else now,
            updated_at=now,
            action_id=action_id,
            channel=request.channel or insight.channel,
            comment=request.comment,
            created_by=before.created_by if before else user_id,
            insight_id=insight.id,
            occurred_at=happened,
            reaction=request.reaction,
        )

    def _write(self, space_id: str, insight: StoredInsight, reaction: InsightReaction) -> list[Write]:
        # ``model_dump`` leaves out the fields that responses do not show.
        values: Item = {name: getattr(reaction, name) for name in InsightReaction.model_fields}
        changed = self._insights.update_write(
            space_id, insight.id, {"reaction": values}, expected_version=insight.version
        )
        before = insight.reaction.reaction if insight.reaction else None
        accepted = int(reaction.reaction is Reaction.ACCEPTED) - int(before is Reaction.ACCEPTED)
        counted = (
            self.exposures.accepted(space_id, insight.client_key, insight.exposure, accepted)
            if insight.exposure
            else []
        )
        if insight.action_id is None:
            return [changed, *counted]
        reported = ReportedReaction(
            reaction.action_id, reaction.reaction, reaction.happened_at, reaction.channel, insight.group
        )
        actions = [
            changed,
            *counted,
            put(self._reactions.key(space_id, reaction.id), {**values, "features": insight.features}),
            *self.ledger.reaction(space_id, insight.client_key, insight.id, reported),
        ]
        if insight.reaction is not None:
            # The item of a reaction of the time before there was a ledger.
            actions.append(delete(Key(ledger_partition(space_id, insight.client_key), reaction.id)))
        moved = _moves(before, reaction.reaction, insight.band)
        if moved:
            actions.append(update(Key(_rates(space_id), reaction.action_id), {}, add=moved))
        return actions

    def counts(self, space_id: str, action_ids: Iterable[str]) -> dict[str, Counts]:
        """Returns the counters of each action."""
        keys = {action_id: Key(_rates(space_id), action_id) for action_id in action_ids}
        found = self._table.get_many(list(keys.values()))
        return {action_id: Counts.of(found[key]) if key in found else NO_COUNTS for action_id, key in keys.items()}

    def reactions(
        self, space_id: str, after: str, since: datetime | None, action_id: str | None
    ) -> Iterator[tuple[InsightReaction, dict[str, Any]]]:
        """Returns settled reactions with the client's features, oldest first. Raises InvalidCursorError."""
        last = cursor_id(after)
        # Sorts after ``last`` and before every other id.
        start = max(f"{last}~" if last else "", first_id(since) if since else "")
        end = first_id(self._clock() - SETTLED)
        if start > end:
            return
        wanted = Attr("action_id").eq(action_id) if action_id else None
        found = self._table.query(
            f"insight_reaction#{space_id}",
            condition=KeyCondition("SK").between(start or " ", end),
            newest_first=False,
            filter=wanted,
        )
        for item in found:
            yield InsightReaction.model_validate(item), self._values.load(item["features"])


def _require_kept(insight: StoredInsight) -> None:
    if insight.erased_at is not None:
        raise NotFoundError(
            "The customer of this insight was erased. GET /insights/{id}/lineage has the ids that are left."
        )


class InsightPolicies:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock

    def get(self, space_id: str) -> InsightPolicy:
        """Returns the space's policy, or the default policy."""
        return InsightPolicy.model_validate(self._table.get(policy_key(space_id)) or {})

    def update(
        self, space_id: str, user_id: str, changes: dict[str, Any], expected_version: int | None
    ) -> InsightPolicy:
        """Updates the policy. Raises PreconditionFailedError if ``expected_version`` is not the current version."""
        if "client_key" not in changes:
            return self._update(space_id, user_id, changes, expected_version)

        def step() -> InsightPolicy:
            current = self.get(space_id)
            earlier = [rule for rule in current.client_keys if rule != changes["client_key"]]
            expected = current.version if expected_version is None else expected_version
            kept = {"earlier_client_keys": earlier[:EARLIER_RULES]}
            return self._update(space_id, user_id, {**changes, **kept}, expected)

        if expected_version is not None:
            return step()
        return repeat_on_conflict(step, "The policy changes too often now.", (PreconditionFailedError,))

    def _update(
        self, space_id: str, user_id: str, changes: dict[str, Any], expected_version: int | None
    ) -> InsightPolicy:
        current = None
        if expected_version is not None:
            current = Attr("version").eq(expected_version) if expected_version else Attr("PK").not_exists()
        values = {**changes, "updated_at": self._clock(), "updated_by": user_id, WRITE_MARKER: write_marker()}
        try:
            item = self._table.write(update(policy_key(space_id), values, add=_versions(changes), condition=current))
        except ConditionFailedError as failed:
            if not has_write_marker(failed.item, values[WRITE_MARKER]):
                raise PreconditionFailedError(
                    "The policy has changed since you read it. Get the policy again and use its new ETag."
                ) from None
            item = failed.item
        return InsightPolicy.model_validate(item)


def _versions(changes: dict[str, Any]) -> dict[str, int]:
    """Returns what a change adds to the versions of a policy."""
    return {"version": 1, **({"weights_version": 1} if _LEVERS & changes.keys() else {})}


def first_id(moment: datetime) -> str:
    """Returns the lowest id of a time. Ids of later times sort after it, because a UUIDv7 begins with its time."""
    return str(UUID(int=max(0, int(moment.timestamp() * 1000)) << 80))


def _moves(before: Reaction | None, after: Reaction, band: int | None) -> dict[str, int]:
    """Returns the changes of an action's counters when ``after`` replaces ``before``, or is the first reaction."""
    moves = dict.fromkeys(Reaction, 0)
    moves[after] += 1
    if before is not None:
        moves[before] -= 1
    counters: dict[str, int] = {str(reaction): amount for reaction, amount in moves.items()}
    if band is not None:
        counters[f"offered_{band}"] = int(before is None)
        counters[f"accepted_{band}"] = moves[Reaction.ACCEPTED]
    return {name: amount for name, amount in counters.items() if amount}


def _rates(space_id: str) -> str:
    return f"insight_rate#{space_id}"


def policy_key(space_id: str) -> Key:
    return Key(f"insight_policy#{space_id}", "policy")
