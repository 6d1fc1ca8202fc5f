"""Reads the live state of a cluster. It asks all parts at the same time and waits a few seconds at most."""

import asyncio
import math
import re
import time
from typing import Any

import aiohttp
from yarl import URL

from functions.clusters.kubernetes import NODE_ERRORS, describe_node, list_nodes, total_resources
from shared.errors import ApiError
from shared.llm.addresses import server_root
from shared.llm.clusters import ClusterState
from shared.llm.upstream import Upstream
from shared.models.base import format_timestamp
from shared.models.cluster import Cluster, ClusterStatus
from shared.network.sessions import Sessions, read_at_most

# The whole response may take five seconds.
PROBE_SECONDS = 4.0
# Optional parts of a server get less time, so that one that hangs does not make the server unreachable.
OPTIONAL_SECONDS = 3.0
METRICS_BYTES = 2 * 1024 * 1024
REACHABLE, UNREACHABLE = "reachable", "unreachable"
INFERENCE, INGRESS, MANAGER = "inference", "ingress", "manager"
# One name for each metric of vLLM and llama.cpp, from their documentation of /metrics.
METRICS = {
    "vllm:num_requests_running": "requests_running",
    "llamacpp:requests_processing": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "llamacpp:requests_deferred": "requests_waiting",
    "vllm:gpu_cache_usage_perc": "cache_usage",
    "vllm:kv_cache_usage_perc": "cache_usage",
    "llamacpp:kv_cache_usage_ratio": "cache_usage",
    "vllm:prompt_tokens_total": "prompt_tokens_total",
    "llamacpp:prompt_tokens_total": "prompt_tokens_total",
    "vllm:generation_tokens_total": "completion_tokens_total",
    "llamacpp:tokens_predicted_total": "completion_tokens_total",
    "llamacpp:predicted_tokens_seconds": "completion_tokens_per_second",
}
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{[^}]*\})?\s+([0-9.eE+-]+|NaN|[+-]Inf)")


class ClusterProbes:
    """Reads the status of a cluster. After ``status``, ``seen`` lists the parts that responded."""

    def __init__(self, sessions: Sessions, state: ClusterState, cluster: Cluster, upstream: Upstream) -> None:
        self._sessions = sessions
        self._state = state
        self._cluster = cluster
        self._upstream = upstream
        self._server = URL(server_root(cluster.ingress_url))
        self.seen: list[str] = []

    async def status(self, token: str | None, manager_token: str | None) -> ClusterStatus:
        inference, ingress, (nodes, resources) = await asyncio.gather(
            self._inference(token), self._ingress(), self._manager(manager_token)
        )
        return ClusterStatus(inference=inference, ingress=ingress, nodes=nodes, resources=resources)

    async def _inference(self, token: str | None) -> dict[str, Any]:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                models, health, metrics = await asyncio.gather(
                    self._upstream.models(), self._text("health", token), self._text("metrics", token)
                )
        except (ApiError, TimeoutError) as error:
            return self._unreachable(INFERENCE, str(error) or "it did not answer in time")
        self.seen.append(INFERENCE)
        return {
            "status": REACHABLE,
            "models": [model.model_dump(exclude_none=True) for model in models],
            "healthy": None if health is None else health[0] == 200,
            "metrics": read_metrics(metrics[1]) if metrics and metrics[0] == 200 else {},
        }

    async def _ingress(self) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                self._sessions.check_host(self._server.host or "")
                async with self._sessions.current().get(self._server, allow_redirects=False) as response:
                    status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return {**self._unreachable(INGRESS, _error_text(error)), "url": str(self._server)}
        self.seen.append(INGRESS)
        latency = round((time.perf_counter() - started) * 1000, 1)
        return {"status": REACHABLE, "url": str(self._server), "latency_ms": latency, "http_status": status}

    async def _manager(self, token: str | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                found = await list_nodes(self._sessions, self._cluster.manager_url, token, self._cluster.manager_ca)
        except NODE_ERRORS as error:
            return [], self._unreachable(MANAGER, _error_text(error))
        self.seen.append(MANAGER)
        nodes = [describe_node(node) for node in found]
        return nodes, {"status": REACHABLE, **total_resources(nodes)}

    async def _text(self, path: str, token: str | None) -> tuple[int, str] | None:
        """Returns the status and text of an optional path, or ``None`` if the server does not respond."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        address = self._server / path
        try:
            self._sessions.check_host(self._server.host or "")
            async with (
                asyncio.timeout(OPTIONAL_SECONDS),
                self._sessions.current().get(address, headers=headers, allow_redirects=False) as response,
            ):
                content = await read_at_most(response, METRICS_BYTES)
                return response.status, content.decode(errors="replace")
        except (aiohttp.ClientError, OSError):
            return None

    def _unreachable(self, part: str, reason: str) -> dict[str, Any]:
        seen = self._state.seen.get(part)
        return {
            "status": UNREACHABLE,
            "error": reason[:300],
            "last_seen_at": format_timestamp(seen) if seen else None,
        }


def read_metrics(text: str) -> dict[str, float]:
    """Returns the known metrics of Prometheus samples, summed over their labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        name = METRICS.get(match[1]) if match else None
        if match and name and match[2] not in ("NaN", "+Inf", "-Inf"):
            try:
                total = found.get(name, 0.0) + float(match[2])
            except ValueError:
                continue
            if math.isfinite(total):
                found[name] = total
    return found


def _error_text(error: BaseException) -> str:
    return "it did not answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
