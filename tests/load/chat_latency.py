"""What a chat completion costs beyond the model: ours and LiteLLM's proxy in front of the same upstream, in turns.

``python -m tests.load.chat_latency``. The upstream is a server on this machine that answers at once; LiteLLM runs with
its smallest configuration and no database. Ours keeps the chat and logs the call; the time it waits for the emulated
store is shown apart and taken off the latencies, not off the throughput.
"""

import argparse
import asyncio
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable

from tests.fixtures.identity import Issuer
from tests.load.emulated_store import emulated_store

LITELLM = "litellm[proxy]==1.108.7"
ROOT = Path(__file__).parents[2]
CONNECTIONS = 32
MESSAGES = [{"role": "user", "content": "Which offer suits Ada, who rents in Rome and saves for a house?"}]
WORDS = 20

UPSTREAM = f"""
import asyncio, json, sys
from aiohttp import web
ANSWER = {{"id": "1", "object": "chat.completion", "created": 1, "model": "small", "usage":
    {{"prompt_tokens": 12, "completion_tokens": {WORDS}, "total_tokens": {12 + WORDS}}}, "choices": [{{"index": 0,
    "finish_reason": "stop", "message": {{"role": "assistant", "content": "word " * {WORDS}}}}}]}}
def chunk(delta, reason=None, **more):
    choices = [{{"index": 0, "delta": delta, "finish_reason": reason}}]
    return b"data: " + json.dumps({{"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "small",
        "choices": choices, **more}}).encode() + b"\\n\\n"
async def complete(request):
    body = await request.json()
    if not body.get("stream"):
        return web.json_response(ANSWER)
    response = web.StreamResponse(headers={{"Content-Type": "text/event-stream"}})
    await response.prepare(request)
    for _ in range({WORDS}):
        await response.write(chunk({{"content": "word "}}))
        await asyncio.sleep(0.002)
    await response.write(chunk({{}}, "stop", usage=ANSWER["usage"]) + b"data: [DONE]\\n\\n")
    return response
async def models(request):
    return web.json_response({{"object": "list", "data": [{{"id": "small", "object": "model"}}]}})
app = web.Application()
app.router.add_post("/v1/chat/completions", complete)
app.router.add_get("/v1/models", models)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""


@dataclass(frozen=True)
class Side:
    """One way to the model."""

    name: str
    url: str
    headers: dict[str, str]

    def body(self, *, stream: bool) -> dict[str, Any]:
        return {"model": "small", "messages": MESSAGES, "stream": stream}


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call; ``store`` is what of it was the emulated store's."""

    total: float
    store: float = 0.0

    @property
    def own(self) -> float:
        return self.total - self.store


async def call(session: aiohttp.ClientSession, side: Side, *, stream: bool = False) -> Timing:
    """A whole answer, or the first words of a stream."""
    began = time.perf_counter()
    async with session.post(side.url, json=side.body(stream=stream), headers=side.headers) as response:
        if response.status not in (200, 201):
            raise SystemExit(f"{side.name}: {response.status} {await response.text()}")
        if stream:
            async for line in response.content:
                if b'"content"' in line and b"word" in line:
                    break
            taken = time.perf_counter() - began
            await response.read()
        else:
            await response.read()
            taken = time.perf_counter() - began
        return Timing(taken * 1000, float(response.headers.get("X-Store-Milliseconds", 0)))


async def sequential(sides: Sequence[Side], rounds: int, *, stream: bool) -> dict[str, list[Timing]]:
    times: dict[str, list[Timing]] = {side.name: [] for side in sides}
    async with aiohttp.ClientSession() as session:
        for turn in track(range(-10, rounds), "one after the other", transient=True):
            for side in sides:
                timing = await call(session, side, stream=stream)
                if turn >= 0:
                    times[side.name].append(timing)
    return times


async def together(side: Side, calls: int) -> tuple[list[Timing], float]:
    """The calls over 32 connections, and how many a second were answered."""
    waiting = iter(range(calls))
    times: list[Timing] = []
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for _ in waiting:
                times.append(await call(session, side))

        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))  # connections and caches warm up
        waiting, times = iter(range(calls)), []
        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        return times, calls / (time.perf_counter() - began)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(command: list[str], url: str, log: Path, **environment: str) -> Iterator[int]:
    """A server in a process of its own; answers its process id."""
    with log.open("wb") as output:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        server = subprocess.Popen(
            command, cwd=ROOT, env=variables | environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + 300
            while True:
                try:
                    httpx.get(url, timeout=2, trust_env=False).raise_for_status()
                    break
                except httpx.HTTPError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(f"{command} did not start:\n{log.read_text()[-3000:]}") from None
                    time.sleep(0.2)
            yield server.pid
        finally:
            server.terminate()
            server.wait(30)


def megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def post(url: str, body: Any, headers: dict[str, str]) -> Any:
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False).raise_for_status().json()


def our_side(port: int, upstream: str, issuer: Issuer) -> Side:
    url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {issuer.token('bench', expires_in=7200)}"}
    headers["X-Space-Id"] = post(f"{url}/spaces", {"name": "bench", "description": ""}, headers)["id"]
    post(f"{url}/clusters", {"ingress_url": upstream, "manager_url": upstream}, headers)
    return Side("ours", f"{url}/chats", headers)


@contextmanager
def sides(issuer: Issuer, folder: Path, *, with_peer: bool) -> Iterator[tuple[list[Side], int]]:
    """The upstream itself, ours and LiteLLM's, all running; and our process id."""
    ports = [free_port() for _ in range(3)]
    upstream = f"http://127.0.0.1:{ports[0]}/v1"
    with ExitStack() as stack:

        def start(command: list[str], url: str, name: str, **environment: str) -> int:
            return stack.enter_context(served(command, url, folder / f"{name}.log", **environment))

        start([sys.executable, "-c", UPSTREAM, str(ports[0])], f"{upstream}/models", "upstream")
        ours = start(
            [
                sys.executable, "-m", "uvicorn", "tests.load.chat_server:app", "--port", str(ports[1]),
                "--log-level", "warning", "--no-access-log",
            ],
            f"http://127.0.0.1:{ports[1]}/health",
            "ours",
            ALLOW_LOOPBACK="true",
        )  # fmt: skip
        found = [Side("upstream", f"{upstream}/chat/completions", {}), our_side(ports[1], upstream, issuer)]
        if with_peer:
            configuration = folder / "litellm.yaml"
            parameters = {"model": "openai/small", "api_base": upstream, "api_key": "none"}
            configuration.write_text(
                json.dumps({"model_list": [{"model_name": "small", "litellm_params": parameters}]})
            )
            peer, key = f"http://127.0.0.1:{ports[2]}", f"sk-{secrets.token_hex(32)}"
            uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
            if uv is None:
                raise SystemExit("uv is missing: run `make bench`, which finds it.")
            start(
                [
                    uv, "tool", "run", "--compile-bytecode", "--from", LITELLM, "litellm",
                    "--config", str(configuration), "--port", str(ports[2]), "--host", "127.0.0.1",
                ],
                f"{peer}/health/liveliness",
                "litellm",
                LITELLM_LOG="ERROR",
                LITELLM_MASTER_KEY=key,
            )  # fmt: skip
            found.append(Side("LiteLLM", f"{peer}/v1/chat/completions", {"Authorization": f"Bearer {key}"}))
        yield found, ours


def quantile(times: Sequence[float], share: float) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[round(share * 100) - 1]


def added(times: dict[str, list[Timing]], name: str, share: float) -> float:
    """Milliseconds beyond the upstream's own, the emulated store's left out."""
    direct = quantile([each.total for each in times["upstream"]], share)
    return quantile([each.own for each in times[name]], share) - direct


def run(issuer: Issuer, folder: Path, options: argparse.Namespace) -> list[RichTable]:
    with sides(issuer, folder, with_peer=not options.without_peer) as (found, ours):
        names = [side.name for side in found[1:]]
        alone = asyncio.run(sequential(found, options.rounds, stream=False))
        streamed = asyncio.run(sequential(found, options.rounds // 2, stream=True))
        crowded: dict[str, list[Timing]] = {}
        rates: dict[str, float] = {}
        for side in found:
            crowded[side.name], rates[side.name] = asyncio.run(together(side, options.calls))
        before = megabytes(ours)
        asyncio.run(together(found[1], 1000))
        after = megabytes(ours)
    shown = RichTable(title="Milliseconds added to the upstream's own (at most 0.3x of LiteLLM's)")
    for column in ("", *names, "ratio", "store apart (ours)"):
        shown.add_column(column, justify="left" if not column else "right")
    for title, times in (
        ("one after the other", alone),
        (f"{CONNECTIONS} connections", crowded),
        ("first token", streamed),
    ):
        for share in (0.5, 0.99):
            values = [added(times, name, share) for name in names]
            ratio = f"{values[0] / values[1]:.2f}" if len(values) > 1 else ""
            store = quantile([each.store for each in times["ours"]], share)
            shown.add_row(f"{title}, p{share * 100:.0f}", *(f"{value:.2f}" for value in values), ratio, f"{store:.2f}")
    rate = RichTable(title="Requests a second over 32 connections, store included (at least 3x LiteLLM's)")
    for column in rates:
        rate.add_column(column, justify="right")
    rate.add_row(*(f"{value:.0f}" for value in rates.values()))
    memory = RichTable(title="Our server's memory (flat)")
    memory.add_column(f"after {options.rounds * 2 + options.calls * 2:,} chats")
    memory.add_column("after 2,000 more")
    memory.add_row(f"{before:.0f} MB", f"{after:.0f} MB")
    return [shown, rate, memory]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a chat completion costs beyond the model.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--without-peer", action="store_true", help="leave LiteLLM out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, emulated_store() as issuer:
        for table in run(issuer, Path(folder), options):
            Console().print(table)


if __name__ == "__main__":
    main()
