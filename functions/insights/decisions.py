"""Decides which action to offer a client. No language model takes part, so no text can change the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from functions.insights.early_checkpoints import EarlyCheckpoints
from shared.checkpoints.lineages import Lineages
from shared.clock import Clock
from shared.decisions.arbitration import Contender
from shared.decisions.customers import CustomerDecider
from shared.decisions.eligibility import Removal
from shared.decisions.moments import Moments
from shared.decisions.scoring import Explained, Propensity, PropensityScorer
from shared.dynamodb.repository import Repository, is_identifier
from shared.dynamodb.table import Table
from shared.errors import ValidationFailedError
from shared.insights.store import Insights, band_of
from shared.models.action import Action
from shared.models.experiment import ExperimentArm
from shared.models.insight import (
    Arbitration,
    Candidate,
    Client,
    ExplainedCandidates,
    InsightCreate,
    InsightPolicy,
    LimitLeft,
    RankedOffer,
    ScoreSource,
)
from shared.models.lineage import DecisionLineage
from shared.models.persona import Persona
from shared.space_binding import aside


@dataclass(frozen=True)
class Winner:
    """The action to offer, with its propensity, the explanation of the propensity, and what they rest on."""

    action: Action
    propensity: Propensity
    explained: Explained | None
    lineage: DecisionLineage

    @property
    def band(self) -> int | None:
        """Returns the score band of the model's propensity, or ``None`` without a model."""
        if self.propensity.checkpoint is None:
            return None
        return band_of(self.propensity.value)


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
    limits: list[LimitLeft] = field(default_factory=list)


class Decider:
    def __init__(
        self,
        table: Table,
        insights: Insights,
        checkpoints: EarlyCheckpoints,
        propensities: PropensityScorer,
        lineages: Lineages,
        clock: Clock,
    ) -> None:
        self._personas = Repository(table, Persona, kind="persona", clock=clock)
        self._checkpoints = checkpoints
        self._propensities = propensities
        self._lineages = lineages
        self._customers = CustomerDecider(insights.ledger, propensities)
        self._moments = Moments(table, clock)

    def decide(self, space_id: str, request: InsightCreate) -> Decision:
        """Decides which action to offer. Raises ValidationFailedError for an unknown action or too many actions."""
        moment = self._moments.read(space_id, request.actions)
        client, experiments = self._client(space_id, request, moment.policy), moment.experiments
        with self._checkpoints.begun(space_id, moment.actions):
            (decided,) = self._customers.decide(space_id, moment, [client])
        rules, ranking, propensities = decided.rules, decided.ranking(0), decided.propensities_of(0)
        with aside(self._lineage, space_id, ranking, propensities) as tracing:
            explained = self._explained(client, propensities, ranking, request)
            lineage = tracing.result()
        by_id = {action.id: action for action in rules.actions}
        candidates = [
            _scored(by_id[each.action_id], each, propensities[each.action_id], rank, ranking[0], rules.arbitration)
            for rank, each in enumerate(ranking, start=1)
        ]
        if request.reason_codes is ExplainedCandidates.ALL:
            for candidate in candidates:
                model_id = candidate.checkpoint_id
                candidate.reason_codes = explained[model_id].reason_codes if model_id else []
        removals = zip(rules.actions, decided.removals[0], strict=True)
        candidates += [_removed(action, removal) for action, removal in removals if removal]
        decision = Decision(
            client,
            rules.arbitration,
            candidates,
            rules.policy,
            experiment_id=experiments.id,
            arm=rules.arm,
            ledger_version=decided.histories[0].version,
            limits=[LimitLeft.of(*each) for each in decided.engagements[0].uses],
        )
        if not ranking:
            return decision
        if rules.arm is not None and rules.arm.control:
            return replace(decision, withheld_action_id=ranking[0].action_id)
        best, engagement = by_id[ranking[0].action_id], decided.engagements[0]
        model, usable = propensities[best.id].checkpoint, engagement.usable_channels(best)
        top = [(by_id[each.action_id], each) for each in ranking[: request.top or 0]]
        return replace(
            decision,
            winner=Winner(best, propensities[best.id], explained[model.id] if model else None, lineage),
            offers=[_offer(at, *each, engagement.usable_channels(each[0])) for at, each in enumerate(top, start=1)],
            # A reserved contact has its channel before any text is written.
            channels=usable[:1] if request.reserve else usable,
            selection_probability=decided.explorations[0].probability(ranking) if experiments.is_running else None,
        )

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

    def _lineage(
        self, space_id: str, ranking: Sequence[Contender], propensities: Mapping[str, Propensity]
    ) -> DecisionLineage:
        """Returns what a decision for the best action rests on."""
        if not ranking:
            return DecisionLineage()
        best = ranking[0].action_id
        return self._lineages.of_decision(space_id, best, propensities[best].checkpoint)

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
