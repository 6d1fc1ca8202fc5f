"""The wheel of the client, in an environment of its own, does the main path against the deployed functions."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.client.build import build
from infra.local.demo_data import DATA_SETS
from infra.local.tokens import PASSWORD
from tests.e2e.conftest import JOB_SECONDS, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.row("UI-8")]

DATA_SET = next(each for each in DATA_SETS if each.name == "german-credit")
QUICK = json.dumps({"n_estimators": 30, "ensemble_size": 1})
Run = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    (folder / "customers.csv").write_bytes(DATA_SET.files()[DATA_SET.training_file])
    return folder


@pytest.fixture(scope="module")
def inference(stack: Stack, folder: Path) -> Run:
    """Installs the wheel that the published document makes, and returns the command."""
    document = folder / "openapi.json"
    document.write_bytes(httpx.get(f"{stack.url}/openapi.json", trust_env=False, timeout=60).content)
    wheel = build(folder / "built", document)
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    venv = folder / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), str(wheel)], check=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_PROXY": "*", "COLUMNS": "200"}

    def run(*arguments: str, given: str = "") -> str:
        # In a session of its own the command has no terminal, so it reads the password from standard input.
        done = subprocess.run(
            [str(venv / "bin" / "inference"), *arguments],
            cwd=folder,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=2 * JOB_SECONDS,
            start_new_session=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_file_becomes_a_ranked_model_and_a_decision(stack: Stack, folder: Path, inference: Run) -> None:
    email = "command-line@example.com"
    assert f"Signed in as {email}." in inference("login", stack.url, "--email", email, given=f"{PASSWORD}\n")
    inference("space", "Bank", "--create")
    uploaded = inference("upload", "customers.csv")
    assert "customers.csv: " in uploaded
    assert DATA_SET.target in uploaded
    options = ("--target", DATA_SET.target, "--architecture", "lightgbm", "--configuration", QUICK, "--watch")
    watched = inference("train", "customers.csv", *options)
    assert "done" in watched
    assert "customers, lightgbm" in watched
    (row,) = json.loads(inference("leaderboard", "--json"))
    assert (row["rank"], row["architecture"]) == (1, "lightgbm")
    inference("promote", "champion")
    inference("offer", "Payment plan", "--model", "champion", "--priority", "high")
    rows = csv.DictReader(DATA_SET.files()[DATA_SET.benchmark_file].decode().splitlines())
    (folder / "customer.json").write_text(json.dumps(next(rows)))
    decided: dict[str, Any] = json.loads(inference("decide", "@customer.json", "--json"))
    assert decided["candidates"][0]["checkpoint_id"] == row["id"]
    assert "Payment plan" in inference("decide", "@customer.json")
    assert inference("chat", "Say hello.", "--max-tokens", "8").strip()
