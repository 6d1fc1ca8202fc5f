"""Runs the client libraries that people use, each in its own process, against the API on loopback.

They have an environment of their own in ``build/clients``, from the lock files in this folder.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.resources import Resources
from tests.conftest import empty_aws
from tests.fixtures.aws import settings_for
from tests.fixtures.identity import Issuer
from tests.fixtures.upstream import Body, FakeUpstream, served

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "clients"
MODELS = ("gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small")
PYTHON_PROGRAMS = sorted(path.stem for path in (HERE / "programs").glob("*_client.py"))
PROGRAM_SECONDS = 120


def example_of(schema: Body, definitions: Body) -> Any:
    """Returns a value that fits a schema."""
    if "$ref" in schema:
        return example_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for several in ("anyOf", "allOf", "oneOf"):
        if several in schema:
            return example_of(schema[several][0], definitions)
    if "enum" in schema or "const" in schema:
        return schema["enum"][0] if "enum" in schema else schema["const"]
    match schema.get("type"):
        case "object":
            return {name: example_of(each, definitions) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [example_of(schema["items"], definitions)]
        case "string":
            return "Lyon"
        case _:
            return 1


def answer(body: Body) -> Any:
    """Returns what a model would: an object of the wanted schema, a call of a tool, or a text after the call."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema" and not isinstance(body.get("tool_choice"), dict):
        schema = wanted["json_schema"]["schema"]
        return json.dumps(example_of(schema, schema.get("$defs", {})))
    if body.get("tools") and body["messages"][-1]["role"] != "tool" and len(_asked(body)) == 1:
        function = body["tools"][0]["function"]
        assert "$ref" not in json.dumps(function), "a server gets tools without references"
        arguments = json.dumps(example_of(function["parameters"], {}))
        called = {"id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}
        return {"role": "assistant", "content": None, "tool_calls": [called]}
    return "Hello there."


def _asked(body: Body) -> list[Body]:
    return [message for message in body["messages"] if message["role"] == "user"]


@pytest.fixture(scope="module")
def api(aws_session: boto3.Session, setup_client: Callable[[str], Any], issuer: Issuer) -> Iterator[dict[str, str]]:
    """Serves the API, and returns the variables with its address and a key of a space with a cluster."""
    models = [{"id": name, "object": "model", "context_length": 100_000} for name in MODELS]
    with empty_aws(aws_session, setup_client), served(FakeUpstream(script=answer, models=models)) as upstream:
        app = build_api(Resources(settings_for(issuer).model_copy(update={"allow_loopback": True})))
        with TestClient(app, headers={"Authorization": f"Bearer {issuer.token('ann')}"}) as owner:
            space = owner.post("/spaces", json={"name": "Ours", "description": ""}).json()["id"]
            owner.headers["X-Space-Id"] = space
            owner.post("/clusters", json={"ingress_url": upstream.url, "manager_url": upstream.url}).raise_for_status()
            key = owner.post("/api-keys", json={"name": "clients", "scopes": ["chat"]}).json()["key"]
        with running(uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))) as port:
            yield {"API_URL": f"http://127.0.0.1:{port}/v1", "API_KEY": key}


class running:  # noqa: N801 - reads as a statement
    """Runs a server in a thread, and returns its port."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.run, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def python() -> Path:
    """Installs the libraries of Python, and returns their interpreter."""
    folder = BUILD / "venv"
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder)}
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    command = [uv, "sync", "--frozen", "--quiet", "--project", str(HERE), "--python", sys.executable]
    subprocess.run(command, env=environment, check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def node_folder() -> Path:
    """Installs the libraries of npm, and returns their folder with the programs."""
    folder = BUILD / "node"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (HERE / "package.json", HERE / "package-lock.json", *(HERE / "programs").glob("*.mjs")):
        shutil.copy(path, folder)
    npm = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"]
    subprocess.run(npm, cwd=folder, check=True)
    return folder


def run(command: list[str], folder: Path, api: dict[str, str]) -> None:
    # No client needs anything but the API, and none may report what it does.
    environment = {"PATH": os.environ["PATH"], "HOME": str(BUILD), "DO_NOT_TRACK": "1", **api}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PROGRAM_SECONDS)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["ok"]), done.stdout[-2000:] + done.stderr[-6000:]


@pytest.mark.row("GW-7", "X-4")
@pytest.mark.parametrize("program", PYTHON_PROGRAMS)
def test_a_client_library_of_python_works(program: str, python: Path, api: dict[str, str]) -> None:
    run([str(python), f"{program}.py"], HERE / "programs", api)


@pytest.mark.row("GW-7")
def test_the_ai_sdk_works(node_folder: Path, api: dict[str, str]) -> None:
    run(["node", "ai_sdk.mjs"], node_folder, api)
