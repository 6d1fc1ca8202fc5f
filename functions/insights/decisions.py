"""Decides which action to offer a client. No language model takes part, so no text can change the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from functions.insights.arbitration import Contender, arbitrate, arbitration_of, contender
from functions.insights.eligibility import Engagement, Removal
from functions.insights.experiments import Exploration, actions_of, assigned, policy_of
from functions.insights.scoring import Explained, Propensity, PropensityScorer
from shared.clock import Clock
from shared.dynamodb.repository import Repository, is_identifier
from shared.dynamodb.table import Table
from shared.errors import ValidationFailedError
from shared.insights.conditions import ClientConditions
from shared.insights.exposures import experiments_key
from shared.insights.store import Insights, policy_key
from shared.models.action import Action, ActionStatus, channel_key
from shared.models.action_group import ActionGroup
from shared.models.experiment import ExperimentArm, Experiments
from shared.models.insight import (
    CANDIDATES_LIMIT,
    SCORE_BANDS,
    Arbitration,
    Candidate,
    Client,
    ExplainedCandidates,
    InsightCreate,
    InsightPolicy,
    RankedOffer,
    ScoreSource,
)
from shared.models.persona import Persona

# The most actions that are read to find the active actions.
ACTIONS_LIMIT = 5000


@dataclass(frozen=True)
class Winner:
    """The action to offer, with its propensity and the explanation of the propensity."""

    action: Action
    propensity: Propensity
    explained: Explained | None = None

    @property
    def band(self) -> int | None:
        """Returns the score band of the model's propensity, or ``None`` without a model."""
        if self.propensity.checkpoint is None:
            return None
        return min(int(self.propensity.value * SCORE_BANDS), SCORE_BANDS - 1)


@dataclass(frozen=True)
class Decision:
    """The candidates and the winner. ``channels`` are the channels on which the winner may be offered."""

    client: Client
    arbitration: Arbitration
    candidates: list[Candidate]
    policy: InsightPolicy
    offers: list[RankedOffer] = field(default_factory=list)
    winner: Winner | None = None
    experiment_id: str | None = None
    arm: ExperimentArm | None = None
    withheld_action_id: str | None = None
    selection_probability: float | None = None
    channels: list[str] = field(default_factory=list)
    ledger_version: int = 0


class Decider:
    def __init__(self, table: Table, insights: Insights, propensities: PropensityScorer, clock: Clock) -> None:
        self._actions = Repository(table, Action, kind="action", clock=clock)
        self._groups = Repository(table, ActionGroup, kind="action_group", clock=clock)
        self._personas = Repository(table, Persona, kind="persona", clock=clock)
        self._table = table
        self._propensities = propensities
        self._ledger = insights.ledger
        self._clock = clock

    def decide(self, space_id: str, request: InsightCreate) -> Decision:
        """Decides which action to offer. Raises ValidationFailedError for an unknown action or too many actions."""
        policy, experiments = self._rules(space_id)
        client = self._client(space_id, request, policy)
        arm = assigned(experiments, client)
        policy = policy_of(policy, arm)
        actions = actions_of(self._candidates(space_id, request.actions), arm)
        engagement = self._engagement(space_id, client, policy, actions)
        channels = _channels(actions)
        removals = {action.id: engagement.removal(action, channels) for action in actions}
        left = [action for action in actions if removals[action.id] is None]
        propensities = self._propensities.score(space_id, client, left)
        unmodelled = left if experiments.explore else []
        exploration = Exploration({each.id: propensities[each.id].counts for each in unmodelled if not each.model_id})
        for action_id, drawn in exploration.draw().items():
            propensities[action_id] = replace(propensities[action_id], value=drawn, is_drawn=True)
        arbitration = arbitration_of(policy, actions)
        ranking = arbitrate(contender(each, propensities[each.id].value, arbitration) for each in left)
        explained = self._explained(client, propensities, ranking, request)
        by_id = {action.id: action for action in actions}
        candidates = [
            _scored(by_id[each.action_id], each, propensities[each.action_id], rank, ranking[0], arbitration)
            for rank, each in enumerate(ranking, start=1)
        ]
        if request.reason_codes is ExplainedCandidates.ALL:
            for candidate in candidates:
                model_id = candidate.checkpoint_id
                candidate.reason_codes = explained[model_id].reason_codes if model_id else []
        candidates += [_removed(by_id[name], removal) for name, removal in sorted(removals.items()) if removal]
        decision = Decision(
            client,
            arbitration,
            candidates,
            policy,
            experiment_id=experiments.id,
            arm=arm,
            ledger_version=engagement.history.version,
        )
        if not ranking:
            return decision
        if arm is not None and arm.control:
            return replace(decision, withheld_action_id=ranking[0].action_id)
        best = by_id[ranking[0].action_id]
        model, usable = propensities[best.id].checkpoint, _usable(engagement, best, channels)
        top = [(by_id[each.action_id], each) for each in ranking[: request.top or 0]]
        return replace(
            decision,
            winner=Winner(best, propensities[best.id], explained[model.id] if model else None),
            offers=[_offer(at, *each, _usable(engagement, each[0], channels)) for at, each in enumerate(top, start=1)],
            # A reserved contact has its channel before any text is written.
            channels=usable[:1] if request.reserve else usable,
            selection_probability=exploration.probability(ranking) if experiments.is_running else None,
        )

    def _rules(self, space_id: str) -> tuple[InsightPolicy, Experiments]:
        keys = policy_key(space_id), experiments_key(space_id)
        found = self._table.get_many(keys)
        policy, experiments = (found.get(key, {}) for key in keys)
        return InsightPolicy.model_validate(policy), Experiments.model_validate(experiments)

    def _client(self, space_id: str, request: InsightCreate, policy: InsightPolicy) -> Client:
        client = self._described(space_id, request, policy)
        if client.name is None and (policy.require_client_key or request.reserve):
            raise ValidationFailedError.of("body.client", f"must name the customer: {missing_key(policy)}")
        return client

    def _described(self, space_id: str, request: InsightCreate, policy: InsightPolicy) -> Client:
        given = request.client
        if isinstance(given, str) and is_identifier(given):
            persona = self._personas.get_many(space_id, [given]).get(given)
            if persona is not None:
                facts = {"name": persona.name, "birthdate": persona.birthdate, "notes": persona.notes}
                return Client.of_persona(persona.id, persona.data or {}, facts, policy.client_keys)
        return Client.of(given, policy.client_keys)

    def _candidates(self, space_id: str, action_ids: Sequence[str]) -> list[Action]:
        if not action_ids:
            return self._active(space_id)
        found = self._actions.get_many(space_id, dict.fromkeys(action_ids))
        for index, action_id in enumerate(action_ids):
            if action_id not in found:
                raise ValidationFailedError.of(
                    f"body.actions[{index}]", "there is no such action; GET /actions lists them"
                )
        return list(found.values())

    def _active(self, space_id: str) -> list[Action]:
        # Reads one more than the limit, to see whether there are too many.
        items = list(self._actions.table.query(f"action#{space_id}", limit=ACTIONS_LIMIT + 1))
        active = [self._actions.load(item) for item in items if item["status"] == ActionStatus.ACTIVE]
        for found, limit, kind in ((active, CANDIDATES_LIMIT, "active actions"), (items, ACTIONS_LIMIT, "actions")):
            if len(found) > limit:
                raise ValidationFailedError.of(
                    "body.actions",
                    f"must list the actions to compare, because the space has more than {limit:,} {kind}",
                )
        return active

    def _engagement(
        self, space_id: str, client: Client, policy: InsightPolicy, actions: Sequence[Action]
    ) -> Engagement:
        now = self._clock()
        history = self._ledger.read(space_id, (client.key, *client.former_keys), now - _memory(policy))
        groups = self._groups.get_many(space_id, {action.group for action in actions if action.group})
        return Engagement(policy, history, now, ClientConditions(client.fields, now), groups)

    def _explained(
        self,
        client: Client,
        propensities: Mapping[str, Propensity],
        ranking: Sequence[Contender],
        request: InsightCreate,
    ) -> dict[str, Explained]:
        """Returns the explanations by the id of the model: of the winner, or of all candidates."""
        asked = ranking if request.reason_codes is ExplainedCandidates.ALL else ranking[:1]
        models = {model.id: model for each in asked if (model := propensities[each.action_id].checkpoint)}
        return {model.id: self._propensities.explain(client, model) for model in models.values()}


def missing_key(policy: InsightPolicy) -> str:
    """Returns the sentence on how a client gets a key."""
    return f"send one of the fields {', '.join(policy.client_key.fields)} (PUT /insights/policy names them)"


def _channels(actions: Sequence[Action]) -> list[str]:
    """Returns the channels of the actions, each in its first spelling."""
    spelled = sorted({action.channel for action in actions if action.channel})
    return list({channel_key(channel): channel for channel in reversed(spelled)}.values())[::-1]


def _memory(policy: InsightPolicy) -> timedelta:
    """Returns the longest period of the policy: what happened before it has no effect."""
    windows = policy.suppression_days
    days = [windows.accepted, windows.ignored, windows.rejected, *(limit.days for limit in policy.contact_limits)]
    # Calendar days may be longer than 24 hours.
    return timedelta(days=max(days) + 1)


def _usable(engagement: Engagement, action: Action, channels: Sequence[str]) -> list[str]:
    """Returns the channels on which an action may be offered: its own, or those that are open."""
    return [action.channel] if action.channel else engagement.open_channels(action, channels)


def _offer(rank: int, action: Action, contender: Contender, channels: Sequence[str]) -> RankedOffer:
    channel = next(iter(channels), None)
    return RankedOffer(action_id=action.id, channel=channel, name=action.name, rank=rank, score=contender.score)


def _scored(
    action: Action,
    contender: Contender,
    propensity: Propensity,
    rank: int,
    best: Contender,
    arbitration: Arbitration,
) -> Candidate:
    value = "" if contender.value is None else f" * {contender.value:f} {arbitration.currency or ''}".rstrip()
    made_of = (
        f"{contender.score:.4f} = {contender.propensity:.4f}{value} * {contender.weight:g} "
        f"for its priority, {action.priority}"
    )
    if rank == 1:
        reason = f"It has the highest score: {made_of}."
    elif contender.score < best.score:
        reason = f"Its score is below the best score, {best.score:.4f}: {made_of}."
    else:
        reason = f"Its score equals the best score, and the older action comes first: {made_of}."
    note = None
    if propensity.source is ScoreSource.ACCEPTANCE_RATE:
        note = f"Its propensity is its acceptance rate, because {propensity.note}."
    elif propensity.source is ScoreSource.EXPLORATION:
        note = f"Its propensity is drawn around its acceptance rate, because {propensity.note}."
    return Candidate(
        action_id=action.id,
        name=action.name,
        priority=action.priority,
        rank=rank,
        score=contender.score,
        value=contender.value,
        weight=contender.weight,
        propensity=contender.propensity,
        score_source=propensity.source,
        checkpoint_id=propensity.checkpoint.id if propensity.checkpoint else None,
        note=note,
        unseen_categories=list(propensity.unseen_categories),
        reason=reason,
    )


def _removed(action: Action, removal: Removal) -> Candidate:
    return Candidate(
        action_id=action.id,
        name=action.name,
        priority=action.priority,
        removed_by=removal.rule,
        condition=removal.condition,
        reason=removal.reason,
    )
