"""Estimates the propensity of each action with its model, or with its acceptance rate if no model can score."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from shared.errors import ConflictError, ValidationFailedError
from shared.insights.store import NO_COUNTS, Counts
from shared.models.action import Action
from shared.models.checkpoint import Checkpoint, UnseenCategory
from shared.models.insight import Client, ClientKind, Contributions, ReasonCode, ScoreSource
from shared.propensity.scorers import Scorers, unseen_categories

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from mypy_boto3_s3 import S3Client

    from shared.propensity.checkpoints import Scorer
    from shared.propensity.features import FeatureSchema, Matrix

# A Beta(1, 19) prior: without any reaction, the expected acceptance rate is 1 in 20.
PRIOR_ACCEPTED, PRIOR_OFFERS = 1, 20
REASON_CODES = 5
_NAMED_COLUMNS = 5
_NO_TEXT = "no model can score a client that is free text"
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


@dataclass(frozen=True)
class ModelScores:
    """What a model predicts for clients, or why it cannot: for one of them by its place, or for all of them.

    ``matrix`` has a row for each scored client. ``rows`` has the row of each client, which is below 0 for the others.
    """

    checkpoint: Checkpoint | None = None
    problem: str = ""
    problems: Mapping[int, str] = field(default_factory=dict)
    schema: "FeatureSchema | None" = None
    matrix: "Matrix | None" = None
    rows: "npt.NDArray[np.intp] | None" = None
    values: "npt.NDArray[np.float64] | None" = None


class Propensities:
    """The propensities of clients for actions, in the order of both."""

    def __init__(
        self,
        clients: Sequence[Client],
        actions: Sequence[Action],
        models: Mapping[str, ModelScores],
        counts: Mapping[str, Counts],
    ) -> None:
        self._clients = clients
        self._actions = actions
        self._models = models
        self._counts = counts

    def values(self) -> "npt.NDArray[np.float64]":
        """Returns a row for each client and a column for each action."""
        import numpy as np

        found = np.empty((len(self._clients), len(self._actions)))
        for column, action in enumerate(self._actions):
            rate = acceptance_rate(self._counts[action.id]) if action.id in self._counts else np.nan
            model = self._model(column)
            if model.values is None or model.rows is None:
                found[:, column] = rate
            else:
                found[:, column] = np.where(model.rows < 0, rate, model.values[model.rows])
        return found

    def checkpoint_of(self, client: int, action: int) -> Checkpoint | None:
        """Returns the checkpoint that scored a client for an action, if one did."""
        model = self._model(action)
        return model.checkpoint if model.rows is not None and model.rows[client] >= 0 else None

    def scored(self) -> "npt.NDArray[np.bool_]":
        """Returns which propensities come from a model, in the form of ``values``."""
        import numpy as np

        found = np.zeros((len(self._clients), len(self._actions)), dtype=bool)
        for column in range(len(self._actions)):
            rows = self._model(column).rows
            if rows is not None:
                found[:, column] = rows >= 0
        return found

    def of(self, client: int, action: int, value: float, *, is_drawn: bool = False) -> Propensity:
        """Returns a propensity of this value with its source."""
        model, checkpoint = self._model(action), self.checkpoint_of(client, action)
        if checkpoint is None:
            is_unreadable = model is not _NO_MODEL and self._clients[client].kind is ClientKind.TEXT
            note = _NO_TEXT if is_unreadable else model.problems.get(client, model.problem)
            return Propensity(value, note=note, counts=self._counts[self._actions[action].id], is_drawn=is_drawn)
        schema, matrix, rows = model.schema, model.matrix, model.rows
        if schema is None or matrix is None or rows is None:
            raise ValueError("a checkpoint scored, but its rows are gone")
        row = matrix[rows[client]][None]
        unseen = unseen_categories(schema, [self._clients[client].features], row, _NAMED_COLUMNS)
        return Propensity(value, checkpoint, unseen_categories=unseen, is_drawn=is_drawn)

    def unmodelled(self, actions: Iterable[int]) -> dict[str, Counts]:
        """Returns the counts behind the acceptance rates of those of the actions that have no model."""
        return {each.id: self._counts[each.id] for each in map(self._actions.__getitem__, actions) if not each.model_id}

    def _model(self, action: int) -> ModelScores:
        reference = self._actions[action].model_id
        return self._models.get(reference, _NO_MODEL) if reference else _NO_MODEL


_NO_MODEL = ModelScores(problem="it has no model")


class Checkpoints(Protocol):
    """Where the checkpoints of ids and aliases come from."""

    def checkpoints(self, space_id: str, references: list[str]) -> dict[str, Checkpoint]: ...


class Rates(Protocol):
    """Where the counts of actions come from."""

    def counts(self, space_id: str, action_ids: Iterable[str]) -> dict[str, Counts]: ...


class PropensityScorer:
    def __init__(self, checkpoints: Checkpoints, s3: "S3Client", scorers: Scorers, rates: Rates) -> None:
        self._checkpoints = checkpoints
        self._s3 = s3
        self._scorers = scorers
        self._rates = rates

    def score(
        self, space_id: str, clients: Sequence[Client], actions: Sequence[Action], wanted: Collection[str]
    ) -> Propensities:
        """Returns the propensities for the actions whose ids are wanted. Each model scores all clients in one call."""
        asked = [action for action in actions if action.id in wanted]
        models = self._by_model(space_id, clients, sorted({action.model_id for action in asked if action.model_id}))
        rated = [
            action.id
            for action in asked
            if not action.model_id or models[action.model_id].problem or models[action.model_id].problems
        ]
        return Propensities(clients, actions, models, self._rates.counts(space_id, rated))

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
        is_exact = scorer.explains_exactly
        return Explained(Contributions(base_value=found.base_value, values=ordered, is_exact=is_exact), reason_codes)

    def _by_model(self, space_id: str, clients: Sequence[Client], references: Sequence[str]) -> dict[str, ModelScores]:
        if all(client.kind is ClientKind.TEXT for client in clients):
            return dict.fromkeys(references, ModelScores(problem=_NO_TEXT))
        found = self._checkpoints.checkpoints(space_id, [*references])
        by_id = {each.id: each for each in found.values()}
        scorers = self._scorers.each(self._s3, {name: each.artifact for name, each in by_id.items()})
        scores = {name: _ask(clients, by_id[name], scorer) for name, scorer in scorers}
        return {
            reference: scores[found[reference].id]
            if reference in found
            else ModelScores(problem=f"the model '{reference}' no longer exists: set another model_id")
            for reference in references
        }


def _ask(clients: Sequence[Client], checkpoint: Checkpoint, scorer: "Scorer | ConflictError") -> ModelScores:
    import numpy as np

    if isinstance(scorer, ConflictError):
        return ModelScores(problem=f"its model '{checkpoint.name}' cannot be used: {scorer.message}")
    schema = scorer.checkpoint.features
    matrix, found = _encoded(schema, clients)
    prefix = f"its model '{checkpoint.name}' cannot score this client: "
    problems = {at: f"{prefix}{problem}" for at, problem in found.items()}
    rows = np.full(len(clients), -1)
    readable = [at for at in range(len(clients)) if at not in problems]
    rows[readable] = np.arange(len(readable))
    values = scorer.probabilities(matrix) if readable else None
    return ModelScores(checkpoint, "", problems, schema, matrix, rows if readable else None, values)


def acceptance_rate(counts: Counts) -> float:
    """Returns the acceptance rate. With few offers, it is close to the mean of the prior."""
    return (counts.accepted + PRIOR_ACCEPTED) / (counts.offers + PRIOR_OFFERS)


def _encoded(schema: "FeatureSchema", clients: Sequence[Client]) -> "tuple[Matrix, dict[int, str]]":
    """Returns the rows of a model for the clients that it can score, and by its place why it cannot score another."""
    import numpy as np

    problems = {at: _NO_TEXT for at, client in enumerate(clients) if client.kind is ClientKind.TEXT}
    places = [at for at in range(len(clients)) if at not in problems]
    try:
        matrix = schema.encode_rows([clients[at].features for at in places])
    except ValidationFailedError:
        problems |= {at: problem for at in places if (problem := _misfit(schema, clients[at].features))}
        places = [at for at in places if at not in problems]
        matrix = schema.encode_rows([clients[at].features for at in places])
    unread: dict[int, list[str]] = {}
    for row, feature in schema.unread_cells([clients[at].features for at in places], matrix):
        unread.setdefault(row, []).append(f"{feature.name} must be {feature.expected}")
    if not unread:
        return matrix, problems
    problems |= {places[row]: _listed(each) for row, each in unread.items()}
    return np.delete(matrix, [*unread], axis=0), problems


def _misfit(schema: "FeatureSchema", features: Mapping[str, Any]) -> str | None:
    """Returns why a client has no row in the model's matrix, if it has none."""
    missing = [feature.name for feature in schema.features if feature.name not in features]
    if missing:
        return f"it needs {_listed(missing)} (send null for an unknown value)"
    try:
        schema.encode_rows([features])
    except ValidationFailedError as error:
        return "; ".join(f"{each.field.removeprefix('rows[0].')} {each.message}" for each in error.details)
    return None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_COLUMNS} more" if len(names) > _NAMED_COLUMNS else ""
    return ", ".join(names[:_NAMED_COLUMNS]) + more


def _shown(value: Any) -> Any:
    return value[:_VALUE_CHARACTERS] if isinstance(value, str) else value
