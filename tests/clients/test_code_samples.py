"""Runs the code samples of the reference unchanged, against a server that gives the recorded responses.

A sample must send the documented request. ``tests/functional/spaces/test_owner_calls_everything.py`` shows that the API
gives the documented response to that request.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from infra.client.build import PACKAGE, build
from tests.fixtures.recorded_examples import recorded

pytestmark = pytest.mark.row("UI-7")

TOKEN = "the-token-of-a-reader"
RUN_PYTHON = """
import json, pathlib, sys
from inference_client import ApiStatusError
for name, source in json.loads(pathlib.Path(sys.argv[1]).read_text()).items():
    try:
        exec(compile(source, name, "exec"), {})
    except ApiStatusError as error:
        assert error.status == 409, name  # few operations need a run that has finished
"""
Request = tuple[str, str, Any]


@dataclass
class Player:
    """A server that gives the recorded response to each documented request, and notes the requests."""

    answers: dict[tuple[str, str], dict[str, Any]]
    requests: list[Request] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    port: int = 0

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        address = urlsplit(handler.path)
        content = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.requests.append((handler.command, address.path, (parse_qs(address.query), _body(handler, content))))
        answer = self.answers.get((handler.command, address.path), {"status": 404, "response": {}})
        if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.strangers.append(address.path)
        body = json.dumps(answer["response"]).encode() if "response" in answer else b""
        handler.send_response(answer["status"])
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def _body(handler: BaseHTTPRequestHandler, content: bytes) -> Any:
    if "multipart" in handler.headers.get("Content-Type", ""):
        return re.findall(r'name="(\w+)"; filename="([^"]+)".*?\r\n\r\n(.*?)\r\n--', content.decode(), re.DOTALL)
    return json.loads(content) if content else None


@pytest.fixture(scope="module")
def samples(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Returns the samples of each operation by language."""
    return {
        f"{method.upper()} {path}": {each["label"]: each["source"] for each in operation["x-codeSamples"]}
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "x-codeSamples" in operation
    }


def wanted(name: str, example: dict[str, Any]) -> Request:
    """Returns the documented request."""
    method, path = name.split(" ", 1)
    for parameter, value in example.get("path", {}).items():
        path = path.replace(f"{{{parameter}}}", quote(value, safe=""))
    query = {key: [str(each) for each in _listed(value)] for key, value in example.get("query", {}).items()}
    files = [(each["field"], each["name"], each["content"]) for each in example.get("files", ())]
    return method, path, (query, files or example.get("body"))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture
def player() -> Iterator[Player]:
    examples = recorded()
    player = Player({wanted(name, each)[:2]: each for name, each in examples.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            player.take(self)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    player.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield player
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def defaults_of(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Returns the names and values of the documented defaults, which the Python client sends."""
    return {
        (parameter["name"], value if isinstance(value, str) else json.dumps(value))
        for operations in document["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if (value := parameter["schema"].get("default")) is not None
    }


def without_defaults(sent: Request, expected: Request, defaults: Set[tuple[str, str]]) -> Request:
    """Returns a request without the defaults of parameters that the expected one leaves out."""
    query, body = sent[2]
    kept = {
        name: values
        for name, values in query.items()
        if name in expected[2][0] or not all((name, value) in defaults for value in values)
    }
    return (*sent[:2], (kept, body))


def check(
    player: Player,
    command: list[str],
    folder: Path,
    names: Iterable[str],
    defaults: Set[tuple[str, str]] = frozenset(),
    **variables: str,
) -> None:
    """Runs the samples of one language, and compares their requests with the documented ones."""
    examples = {name: recorded()[name] for name in names}
    for example in examples.values():
        for file in example.get("files", ()):
            (folder / file["name"]).write_text(file["content"])
    url = f"http://127.0.0.1:{player.port}"
    environment = {"PATH": os.environ["PATH"], "API": url, "TOKEN": TOKEN, "HOME": str(folder), "NO_PROXY": "*"}
    done = subprocess.run(
        command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    expected = [wanted(name, example) for name, example in examples.items()]
    assert [
        without_defaults(sent, one, defaults) for sent, one in zip(player.requests, expected, strict=True)
    ] == expected
    assert player.strangers == []


def test_every_operation_has_an_example_and_a_sample_in_each_language(
    document: dict[str, Any], samples: dict[str, dict[str, str]]
) -> None:
    secured = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
    }
    assert samples.keys() == secured == recorded().keys()
    assert {frozenset(each) for each in samples.values()} == {frozenset({"curl", "Python", "TypeScript"})}


def test_the_samples_for_curl_send_the_documented_requests(
    samples: dict[str, dict[str, str]], player: Player, tmp_path: Path
) -> None:
    script = "\n".join(["set -eu", *(each["curl"].replace("curl ", "curl -sS ", 1) for each in samples.values())])
    check(player, ["bash", "-c", script], tmp_path, samples)


def test_the_samples_for_python_send_the_documented_requests(
    document: dict[str, Any], samples: dict[str, dict[str, str]], player: Player, generated: Path, tmp_path: Path
) -> None:
    (tmp_path / "samples.json").write_text(json.dumps({name: each["Python"] for name, each in samples.items()}))
    url = f"http://127.0.0.1:{player.port}"
    variables = {"INFERENCE_URL": url, "INFERENCE_TOKEN": TOKEN, "PYTHONPATH": str(generated / "source")}
    check(
        player,
        [sys.executable, "-c", RUN_PYTHON, "samples.json"],
        tmp_path,
        samples,
        defaults_of(document),
        **variables,
    )


def test_the_samples_for_typescript_send_the_documented_requests(
    samples: dict[str, dict[str, str]], player: Player, tmp_path: Path
) -> None:
    lines = [line for each in samples.values() for line in ("{", *each["TypeScript"].splitlines(), "}")]
    imports = [line for line in lines if line.startswith("import ")]
    program = tmp_path / "samples.mts"
    program.write_text("\n".join([*imports, *(line for line in lines if line not in imports)]))
    check(player, ["node", "--disable-warning=ExperimentalWarning", str(program)], tmp_path, samples)


@pytest.mark.row("UI-8")
def test_the_client_is_typed_and_its_generation_is_reproducible(generated: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again", generated.parent / "openapi.json")
    (first,) = (generated / "dist").glob("*.whl")
    assert first.read_bytes() == again.read_bytes()
    source = generated / "source"
    assert (source / PACKAGE / "py.typed").exists()
    written = [str(path.relative_to(source)) for path in (source / PACKAGE).glob("*.py")]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", *written]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
