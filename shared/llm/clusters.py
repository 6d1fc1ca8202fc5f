"""Stores clusters: their settings, their latest lists of models, and their recent failures.

A space's cluster is one partition, so that one query reads it before a call of a language model.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, Write, delete, put, update
from shared.models.base import parse_timestamp
from shared.models.cluster import Cluster, LanguageModel

# The partition of the default cluster.
DEFAULT = "default"
MODELS = "models"
SEEN = "seen"
MODELS_LIFETIME = timedelta(seconds=60)
MODELS_LIMIT = 500
MODELS_BYTES = 200_000
# A failing server or model gets no calls for this time; then one call may try again.
COOL_DOWN = timedelta(seconds=15)
# A failure is deleted if no call has tried again for this time.
REMEMBERED = timedelta(hours=1)
REMEMBERED_STATES = 1000
_CIRCUIT = "circuit#"
_REQUEST = "request#"
# Different failed requests of a space after which it probes the server before its next call.
SUSPECT_REQUESTS = 3
# The name of all requests that got no response in time.
LATE = "late"


@dataclass(frozen=True)
class ModelList:
    """The models of a cluster at the time ``fetched_at``."""

    models: Sequence[LanguageModel]
    fetched_at: datetime

    def is_fresh(self, now: datetime) -> bool:
        return now - self.fetched_at < MODELS_LIFETIME

    def find(self, model: str) -> LanguageModel | None:
        return next((each for each in self.models if each.id == model), None)


@dataclass(frozen=True)
class Circuit:
    """The circuit breaker of a server or model: its proven failures, and the requests that only make it a suspect.

    ``suspects`` are the requests that failed, each with its space. After ``retry_at`` one call may try.
    """

    name: str
    failures: int
    retry_at: datetime
    suspects: frozenset[tuple[str, str]] = frozenset()

    def is_suspected_by(self, space_id: str) -> bool:
        """Returns whether enough requests of the space failed: several different ones, or one without a response."""
        requests = {request for space, request in self.suspects if space == space_id}
        return LATE in requests or len(requests) >= SUSPECT_REQUESTS


@dataclass(frozen=True)
class ClusterState:
    """The state of a cluster. ``owner`` is its partition: a space's id, or DEFAULT."""

    owner: str
    read_at: datetime
    cluster: Cluster | None = None
    models: ModelList | None = None
    circuits: Mapping[str, Circuit] = field(default_factory=dict)
    # The time of the last response of each part.
    seen: Mapping[str, datetime] = field(default_factory=dict)


class Clusters:
    """A store of clusters. ``recent`` is the maximum age of a cached state that a call may use."""

    def __init__(self, table: Table, clock: Clock = utc_now, recent: timedelta = timedelta(0)) -> None:
        self._table = table
        self._clock = clock
        self._recent = recent
        self._read: dict[str, ClusterState] = {}
        self.clusters = Repository(table, Cluster, kind="cluster", clock=clock)

    def state(self, owner: str) -> ClusterState:
        cluster, models, circuits, seen = None, None, {}, {}
        read_at = self._clock()
        for item in self._table.query(f"cluster#{owner}"):
            name = item["SK"]
            if name == MODELS:
                models = _model_list(item)
            elif name.startswith(_CIRCUIT):
                circuit = _circuit(item)
                circuits[circuit.name] = circuit
            elif name == SEEN:
                seen = {part: parse_timestamp(item[part]) for part in item if part not in ("PK", "SK")}
            else:
                cluster = self.clusters.load(item)
        if len(self._read) >= REMEMBERED_STATES:
            del self._read[next(iter(self._read))]
        state = self._read[owner] = ClusterState(owner, read_at, cluster, models, circuits, seen)
        return state

    def recent_state(self, owner: str) -> ClusterState | None:
        """Returns the cached state, or ``None`` if it is too old, has failures, or this process changed it."""
        state = self._read.get(owner)
        has_failures = state is not None and any(circuit.failures for circuit in state.circuits.values())
        if state is None or has_failures or self._clock() - state.read_at >= self._recent:
            return None
        return state

    def changed(self, owner: str) -> None:
        """Removes the cached state, so that the next call reads it again."""
        self._read.pop(owner, None)

    def longest_window(self, space_id: str) -> int | None:
        """Returns the longest context of the cluster's models in tokens, or ``None`` if a model does not state one."""
        own = self.state(space_id)
        listed = (own if own.cluster is not None else self.state(DEFAULT)).models
        lengths = [model.context_length for model in listed.models] if listed else []
        return max((each for each in lengths if each), default=None) if all(lengths) else None

    def record_seen(self, owner: str, parts: Sequence[str]) -> None:
        """Records that these parts of the cluster have just responded."""
        if parts:
            now = self._clock()
            self._write(owner, update(Key(f"cluster#{owner}", SEEN), dict.fromkeys(parts, now)))

    def save_models(self, owner: str, models: Sequence[LanguageModel]) -> ModelList:
        found = ModelList(_fitting(models), self._clock())
        values = {"models": [model.model_dump() for model in found.models], "fetched_at": found.fetched_at}
        self._write(owner, put(Key(f"cluster#{owner}", MODELS), values))
        return found

    def forget(self, owner: str) -> None:
        """Deletes everything except the settings, after a cluster was deleted or its address changed."""
        for item in list(self._table.query(f"cluster#{owner}", attributes=("SK",))):
            if item["SK"] in (MODELS, SEEN) or item["SK"].startswith(_CIRCUIT):
                self._write(owner, delete(Key(f"cluster#{owner}", item["SK"])))
        self.changed(owner)

    def record_failure(self, owner: str, name: str, weight: int = 1) -> None:
        """Records a failure, and the time from which a call may try again if the circuit opens."""
        retry_at = self._clock() + COOL_DOWN
        changes = {"retry_at": retry_at, "expires_at": int((retry_at + REMEMBERED).timestamp())}
        self._write(owner, update(self._key(owner, name), changes, add={"failures": weight}))

    def record_suspicion(self, owner: str, name: str, space_id: str, request: str) -> None:
        """Records that a request of the space failed, unless the circuit is open. The same request counts once."""
        now = self._clock()
        expires_at = int((now + REMEMBERED).timestamp())
        changes = {f"{_REQUEST}{space_id}#{request}": True, "retry_at": now, "expires_at": expires_at}
        is_closed = Attr("failures").not_exists()
        with suppress(ConditionFailedError):
            self._write(owner, update(self._key(owner, name), changes, condition=is_closed))

    def record_success(self, owner: str, name: str) -> None:
        self._write(owner, delete(self._key(owner, name)))

    def may_try(self, owner: str, circuit: Circuit) -> bool:
        """Returns whether this call may try again. Only one of several concurrent calls may do so."""
        retry_at = self._clock() + COOL_DOWN
        is_first = Attr("retry_at").eq(circuit.retry_at)
        try:
            self._write(owner, update(self._key(owner, circuit.name), {"retry_at": retry_at}, condition=is_first))
        except ConditionFailedError:
            return False
        return True

    def _write(self, owner: str, write: Write) -> None:
        try:
            self._table.write(write)
        finally:
            self.changed(owner)

    @staticmethod
    def _key(owner: str, name: str) -> Key:
        return Key(f"cluster#{owner}", f"{_CIRCUIT}{name}")


def _fitting(models: Sequence[LanguageModel]) -> Sequence[LanguageModel]:
    """Returns as many models as one item can hold, however long the names are that a server gives them."""
    sizes = accumulate(len(model.model_dump_json()) for model in models[:MODELS_LIMIT])
    return [model for model, size in zip(models, sizes, strict=False) if size <= MODELS_BYTES]


def _model_list(item: Item) -> ModelList:
    models: list[Any] = item["models"]
    return ModelList([LanguageModel.model_validate(each) for each in models], parse_timestamp(item["fetched_at"]))


def _circuit(item: Item) -> Circuit:
    requests = (name.split("#") for name in item if name.startswith(_REQUEST))
    suspects = frozenset((space, request) for _, space, request in requests)
    name, retry_at = item["SK"].removeprefix(_CIRCUIT), parse_timestamp(item["retry_at"])
    return Circuit(name, int(item.get("failures", 0)), retry_at, suspects)
