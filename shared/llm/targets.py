"""Finds the language model server of a space."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync as in_thread

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.llm.circuits import Circuits
from shared.llm.cluster_tokens import ClusterTokens
from shared.llm.clusters import DEFAULT, Clusters, ClusterState
from shared.models.cluster import ClusterSettings, ToolCalls
from shared.network.address_guard import AddressGuard
from shared.settings import Settings

if TYPE_CHECKING:
    from yarl import URL

    from shared.llm.upstream import Upstream
    from shared.network.sessions import Sessions


class NoClusterError(UnavailableError):
    """Error raised when neither the space nor the deployment has a cluster."""

    code = "no_cluster"
    is_theirs = True


@dataclass(frozen=True)
class Target:
    """A language model server to call. ``owner`` is the partition of its state: a space's id, or DEFAULT."""

    owner: str
    state: ClusterState
    settings: ClusterSettings
    upstream: "Upstream"
    circuits: Circuits

    @property
    def is_shared(self) -> bool:
        """Returns whether the server is the deployment's, and serves all spaces without one."""
        return self.owner == DEFAULT


class Targets:
    """A finder of the servers of spaces. It keeps connections and tokens until the process ends."""

    def __init__(self, settings: Settings, clusters: Clusters, tokens: ClusterTokens, clock: Clock) -> None:
        self._settings = settings
        self._clusters = clusters
        self.tokens = tokens
        self._clock = clock
        self._refusing_usage: set[URL] = set()

    @cached_property
    def sessions(self) -> "Sessions":
        # The HTTP client takes long to import, and many requests do not use it.
        from shared.network.sessions import Sessions

        return Sessions(AddressGuard(allow_loopback=self._settings.allow_loopback))

    async def target(self, space_id: str) -> Target:
        """Returns the server of the space's cluster or of the default cluster. Raises NoClusterError without both."""
        state, settings = await self._state(space_id), self._settings
        if state.cluster is not None:
            cluster = state.cluster
            upstream = await self._reach(cluster.ingress_url, cluster.token_parameter)
            return self._target(space_id, state, cluster, upstream)
        if settings.default_cluster_url is None:
            raise NoClusterError("The space has no cluster. Register one with POST /clusters.")
        upstream = await self._reach(settings.default_cluster_url, settings.default_cluster_token_parameter)
        cluster_settings = ClusterSettings(tool_calls=ToolCalls(settings.default_cluster_tool_calls))
        return self._target(space_id, await self._state(DEFAULT), cluster_settings, upstream)

    def upstream(self, url: str, token_parameter: str | None) -> "Upstream":
        from shared.llm.upstream import Upstream

        token = self.tokens.read(token_parameter) if token_parameter else None
        settings = self._settings
        times = settings.upstream_timeout_seconds, settings.upstream_total_seconds
        return Upstream(self.sessions, url, token, *times, self._refusing_usage)

    async def _state(self, owner: str) -> ClusterState:
        recent = self._clusters.recent_state(owner)
        return await in_thread(self._clusters.state, owner) if recent is None else recent

    async def _reach(self, url: str, token_parameter: str | None) -> "Upstream":
        if token_parameter is None or self.tokens.has_read(token_parameter):
            return self.upstream(url, token_parameter)
        return await in_thread(self.upstream, url, token_parameter)

    def _target(self, space_id: str, state: ClusterState, settings: ClusterSettings, upstream: "Upstream") -> Target:
        circuits = Circuits(self._clusters, state, self._clock, space_id, upstream)
        return Target(state.owner, state, settings, upstream, circuits)
