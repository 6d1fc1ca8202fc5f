"""Generates the typed client from the OpenAPI document, and builds the wheel of the client and its command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PACKAGE = "inference_client"


def build(folder: Path, document: Path | None = None) -> Path:
    """Builds the wheel in ``folder``, from a document or from that of this checkout, and returns its path."""
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    source.mkdir(parents=True)
    described = document or folder / "openapi.json"
    if document is None:
        _run(sys.executable, "-m", "functions.openapi", str(described))
    readable = folder / "readable.json"
    readable.write_text(json.dumps(for_generator(json.loads(described.read_text()))))
    _run(_tool("openapi-python-client"), "generate", "--path", str(readable), "--meta", "none", "--fail-on-warning",
         "--config", str(HERE / "generator.yaml"), "--output-path", str(source / PACKAGE))  # fmt: skip
    shutil.copytree(HERE / PACKAGE, source / PACKAGE, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (source / PACKAGE / "py.typed").touch()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(HERE / name, source)
    _run(_tool("uv"), "build", "--quiet", "--wheel", "--out-dir", str(folder / "dist"), str(source))
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def for_generator(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the document without equal titles and without errors, and with the generator's word for files."""
    for name, schema in document["components"]["schemas"].items():
        # A schema that differs between requests and responses occurs twice with one title.
        schema["title"] = name
    for operations in document["paths"].values():
        for operation in operations.values():
            # The client raises ApiError for errors, so no call returns one.
            operation["responses"] = {
                status: response for status, response in operation["responses"].items() if status.startswith("2")
            }
    _mark_files(document)
    return document


def _mark_files(value: Any) -> None:
    if isinstance(value, list):
        for each in value:
            _mark_files(each)
    elif isinstance(value, dict):
        if value.pop("contentMediaType", None) == "application/octet-stream":
            value["format"] = "binary"
        for each in value.values():
            _mark_files(each)


def _tool(name: str) -> str:
    own = Path(sys.executable).with_name(name)
    return str(own) if own.exists() else shutil.which(name) or name


def _run(*command: str) -> None:
    done = subprocess.run(  # noqa: S603 - the commands are ours
        command, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed:\n{done.stdout.strip()}\n{done.stderr.strip()}")
