"""Estimates the propensity of each action with its model, or with its acceptance rate if no model can score."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.checkpoints.aliases import CheckpointAliases
from shared.errors import ConflictError, ValidationFailedError
from shared.insights.store import NO_COUNTS, Counts, Insights
from shared.models.action import Action
from shared.models.checkpoint import Checkpoint, UnseenCategory
from shared.models.insight import Client, ClientKind, Contributions, ReasonCode, ScoreSource
from shared.propensity.scorers import Scorers, unseen_categories

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

if TYPE_CHECKING:
    from shared.propensity.checkpoints import Scorer
    from shared.propensity.features import Matrix

# A Beta(1, 19) prior: without any reaction, the expected acceptance rate is 1 in 20.
PRIOR_ACCEPTED, PRIOR_OFFERS = 1, 20
REASON_CODES = 5
_NAMED_COLUMNS = 5
_VALUE_CHARACTERS = 200


@dataclass(frozen=True)
class Propensity:
    """The propensity of one action: from ``checkpoint``, or without a model for the reason in ``note``.

    ``unseen_categories`` are the client's categories that the model was not trained on. ``counts`` are those of the
    acceptance rate; a drawn propensity comes from them.
    """

    value: float
    checkpoint: Checkpoint | None = None
    note: str | None = None
    unseen_categories: Sequence[UnseenCategory] = ()
    counts: Counts = NO_COUNTS
    is_drawn: bool = False

    @property
    def source(self) -> ScoreSource:
        if self.is_drawn:
            return ScoreSource.EXPLORATION
        return ScoreSource.MODEL if self.checkpoint else ScoreSource.ACCEPTANCE_RATE


@dataclass(frozen=True)
class Explained:
    """The explanation of a propensity that a model predicted."""

    contributions: Contributions
    reason_codes: list[ReasonCode]


class PropensityScorer:
    def __init__(self, aliases: CheckpointAliases, s3: "S3Client", scorers: Scorers, insights: Insights) -> None:
        self._aliases = aliases
        self._s3 = s3
        self._scorers = scorers
        self._insights = insights

    def score(self, space_id: str, client: Client, actions: Sequence[Action]) -> dict[str, Propensity]:
        """Returns the propensity of each action by its id. Actions with the same model share one score."""
        references = {action.model_id for action in actions if action.model_id}
        by_model = self._by_model(space_id, client, references)
        found: dict[str, Propensity] = {}
        notes: dict[str, str] = {}
        for action in actions:
            given = by_model[action.model_id] if action.model_id else "it has no model"
            if isinstance(given, Propensity):
                found[action.id] = given
            else:
                notes[action.id] = given
        for action_id, counts in self._insights.counts(space_id, notes).items():
            found[action_id] = Propensity(acceptance_rate(counts), note=notes[action_id], counts=counts)
        return found

    def explain(self, client: Client, checkpoint: Checkpoint) -> Explained:
        """Returns the contribution of each column to the propensity, and the reason codes."""
        scorer = self._scorers.get(self._s3, checkpoint.artifact)
        (found,) = scorer.explain(scorer.checkpoint.features.encode_rows([client.features]))
        ordered = dict(sorted(found.contributions.items(), key=lambda each: (-abs(each[1]), each[0])))
        reason_codes = [
            ReasonCode(
                feature=name,
                value=_shown(client.features[name]),
                contribution=contribution,
                direction="raises" if contribution > 0 else "lowers",
            )
            for name, contribution in list(ordered.items())[:REASON_CODES]
            if contribution
        ]
        return Explained(Contributions(base_value=found.base_value, values=ordered), reason_codes)

    def _by_model(self, space_id: str, client: Client, references: Iterable[str]) -> dict[str, Propensity | str]:
        """Returns the propensity that each model predicts, or the reason why the model cannot score the client."""
        references = sorted(references)
        if client.kind is ClientKind.TEXT:
            return dict.fromkeys(references, "no model can score a client that is free text")
        checkpoints = self._aliases.checkpoints(space_id, references)
        by_id = {each.id: each for each in checkpoints.values()}
        scorers = self._scorers.each(self._s3, {name: each.artifact for name, each in by_id.items()})
        scored = {name: _ask(client, by_id[name], scorer) for name, scorer in scorers}
        return {
            reference: scored[checkpoints[reference].id]
            if reference in checkpoints
            else f"the model '{reference}' no longer exists: set another model_id"
            for reference in references
        }


def _ask(client: Client, checkpoint: Checkpoint, scorer: "Scorer | ConflictError") -> Propensity | str:
    if isinstance(scorer, ConflictError):
        return f"its model '{checkpoint.name}' cannot be used: {scorer.message}"
    row = _row(scorer, client.features)
    if isinstance(row, str):
        return f"its model '{checkpoint.name}' cannot score this client: {row}"
    unseen = unseen_categories(scorer.checkpoint.features, [client.features], row, _NAMED_COLUMNS)
    return Propensity(float(scorer.probabilities(row)[0]), checkpoint, unseen_categories=unseen)


def acceptance_rate(counts: Counts) -> float:
    """Returns the acceptance rate. With few offers, it is close to the mean of the prior."""
    return (counts.accepted + PRIOR_ACCEPTED) / (counts.offers + PRIOR_OFFERS)


def _row(scorer: "Scorer", features: Mapping[str, Any]) -> "Matrix | str":
    """Returns the client's features as a row of the model, or the reason why the model cannot score them."""
    schema = scorer.checkpoint.features
    missing = [feature.name for feature in schema.features if feature.name not in features]
    if missing:
        return f"it needs {_listed(missing)} (send null for an unknown value)"
    try:
        row = schema.encode_rows([features])
    except ValidationFailedError as error:
        return "; ".join(f"{each.field.removeprefix('rows[0].')} {each.message}" for each in error.details)
    unread = [f"{feature.name} must be {feature.expected}" for _, feature in schema.unread([features], row)]
    return _listed(unread) if unread else row


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_COLUMNS} more" if len(names) > _NAMED_COLUMNS else ""
    return ", ".join(names[:_NAMED_COLUMNS]) + more


def _shown(value: Any) -> Any:
    return value[:_VALUE_CHARACTERS] if isinstance(value, str) else value
