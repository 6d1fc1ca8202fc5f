"""Reads the nodes of a cluster from its Kubernetes API server.

Shapes and the notation of quantities: https://kubernetes.io/docs/reference/kubernetes-api/ (Node v1 core and
Quantity).
"""

import math
import re
import ssl
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import aiohttp
from yarl import URL

from shared.network.foreign_json import parse
from shared.network.sessions import Sessions, read_at_most

PAGE_NODES = 250
NODES_LIMIT = 1000
RESPONSE_BYTES = 32 * 1024 * 1024
QUANTITY_LIMIT = 1e18
GPU = re.compile(r"^(?:nvidia\.com|amd\.com|gpu\.intel\.com|habana\.ai|aws\.amazon\.com)/(?:gpu|gaudi|i915|neuron)$")
_PRODUCTS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "node.kubernetes.io/instance-type")
_QUANTITY = re.compile(r"^([+-]?[0-9.]+(?:[eE][+-]?[0-9]{1,3})?)([numkMGTPE]|[KMGTPE]i)?$")
_SUFFIXES = {
    **{name: Decimal(10) ** power for name, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{name}i": Decimal(1024) ** (index + 1) for index, name in enumerate("KMGTPE")},
}


class KubernetesError(Exception):
    """Error raised when the server does not return nodes. Its text says why."""


async def list_nodes(sessions: Sessions, url: str, token: str | None, authority: str | None) -> list[dict[str, Any]]:
    """Returns the nodes in Kubernetes' form. ``authority`` (PEM) signs the server's certificate if no public one does.

    Raises KubernetesError, aiohttp.ClientError, OSError, TimeoutError.
    """
    nodes: list[dict[str, Any]] = []
    address = URL(url.rstrip("/")) / "api/v1/nodes"
    sessions.check_host(address.host or "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    query = {"limit": str(PAGE_NODES)}
    trusted = ssl.create_default_context(cadata=authority) if authority else True
    while len(nodes) < NODES_LIMIT:
        async with sessions.current().get(
            address, params=query, headers=headers, ssl=trusted, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise KubernetesError(f"it answered with status {response.status}")
            content = await read_at_most(response, RESPONSE_BYTES)
        try:
            page = parse(content)
            nodes += [each for each in page["items"] if isinstance(each, dict)]
            following = (page.get("metadata") or {}).get("continue")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise KubernetesError("it answered no list of nodes") from None
        if not following:
            break
        query = {"limit": str(PAGE_NODES), "continue": str(following)}
    return nodes[:NODES_LIMIT]


def describe_node(node: dict[str, Any]) -> dict[str, Any]:
    """Returns a node's name, readiness and resources, in cores, bytes and GPUs."""
    metadata, status = _object(node, "metadata"), _object(node, "status")
    capacity, allocatable = _object(status, "capacity"), _object(status, "allocatable")
    labels = _object(metadata, "labels")
    listed = status.get("conditions")
    conditions = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    ready = next((each for each in conditions if each.get("type") == "Ready"), {})
    return {
        "name": str(metadata.get("name", ""))[:300],
        "ready": ready.get("status") == "True",
        "reason": None if ready.get("status") == "True" else str(ready.get("message") or "unknown")[:300],
        "schedulable": not _object(node, "spec").get("unschedulable", False),
        "gpu_product": next((str(labels[name])[:300] for name in _PRODUCTS if name in labels), None),
        "gpu_capacity": _gpus(capacity),
        "gpu_allocatable": _gpus(allocatable),
        "cpu_capacity": quantity(capacity.get("cpu")),
        "cpu_allocatable": quantity(allocatable.get("cpu")),
        "memory_capacity_bytes": int(quantity(capacity.get("memory"))),
        "memory_allocatable_bytes": int(quantity(allocatable.get("memory"))),
    }


def total_resources(nodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the sums over described nodes. Allocatable resources count only on ready, schedulable nodes."""
    usable = [node for node in nodes if node["ready"] and node["schedulable"]]
    return {
        "nodes": len(nodes),
        "nodes_ready": sum(node["ready"] for node in nodes),
        "gpu": {
            "capacity": sum(node["gpu_capacity"] for node in nodes),
            "allocatable": sum(node["gpu_allocatable"] for node in usable),
        },
        "cpu": {
            "capacity": sum(node["cpu_capacity"] for node in nodes),
            "allocatable": sum(node["cpu_allocatable"] for node in usable),
        },
        "memory_bytes": {
            "capacity": sum(node["memory_capacity_bytes"] for node in nodes),
            "allocatable": sum(node["memory_allocatable_bytes"] for node in usable),
        },
    }


def quantity(text: Any) -> float:
    """Returns the number: ``3920m`` is 3.92, ``16Gi`` is 17179869184. Other texts, and what no cluster has, are 0."""
    match = _QUANTITY.match(str(text))
    if not match:
        return 0.0
    try:
        number = float(Decimal(match[1]) * _SUFFIXES.get(match[2] or "", Decimal(1)))
    except ArithmeticError:
        return 0.0
    return number if math.isfinite(number) and abs(number) < QUANTITY_LIMIT else 0.0


def _gpus(resources: dict[str, Any]) -> int:
    return int(sum(quantity(amount) for name, amount in resources.items() if GPU.match(name)))


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


NODE_ERRORS = (KubernetesError, aiohttp.ClientError, OSError, TimeoutError)
