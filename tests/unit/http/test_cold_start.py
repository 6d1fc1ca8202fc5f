"""What a function imports before it can answer: modules are counted, seconds depend on the machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from functions.api import app
from infra.groups import GROUPS, GroupSpec, Layer
from shared.http.app import describe

ROOT = Path(__file__).parents[3]
# Before the first request; with pydantic's plugins and its old version left out, as they are in AWS.
BASE_BUDGET = 790
BUDGETS = {Layer.SCAN: 790, Layer.SCORE: 790, Layer.LANGUAGE: 820, Layer.DATABASE: 790}
# Each takes long to import, and few requests need it: it is imported where it is used.
LATER = {
    "aiohttp", "aws_xray_sdk", "cryptography.x509.name",
    "defusedxml", "jsonschema_rs", "lightgbm", "numpy", "openpyxl", "pg8000",
    "polars", "pydantic.v1",
    "scipy", "uvicorn", "xgboost", "yarl",
}  # fmt: skip

# Every handler in a process of its own; what they all have is imported once, before these part.
PROGRAM = """
import gc, json, os, sys
sys.modules["pydantic.v1"] = None
import shared.http.cold_start, shared.http.app, shared.http.adapter
from fastapi.openapi.models import OpenAPI
print(json.dumps({"collects": gc.isenabled(), "openapi_built": OpenAPI.__pydantic_complete__}), flush=True)
for module in sys.argv[1:]:
    if not os.fork():
        __import__(module)
        names = [name for name, found in sys.modules.items() if found]
        ended = gc.isenabled() and gc.get_freeze_count() > 10 * gc.get_count()[0]
        print(json.dumps({"module": module, "names": names, "collects": ended}), flush=True)
        os._exit(0)
    os.wait()
"""


def run(program: str, *arguments: str) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def module_of(spec: GroupSpec) -> str:
    return spec.handler.rpartition(".")[0]


@pytest.fixture(scope="module")
def started() -> dict[str, dict[str, Any]]:
    common, *each = map(json.loads, run(PROGRAM, *map(module_of, GROUPS)))
    return {"common": common, **{one["module"]: one for one in each}}


@pytest.mark.parametrize("spec", GROUPS, ids=lambda spec: spec.name)
def test_a_function_imports_no_more_than_its_budget(spec: GroupSpec, started: dict[str, dict[str, Any]]) -> None:
    names = set(started[module_of(spec)]["names"])
    assert not names & LATER
    budget = max(BASE_BUDGET, *(BUDGETS[layer] for layer in spec.layers), 0)
    assert len(names) <= budget, "find what came in with `python -X importtime`, and import it where used"


@pytest.mark.parametrize("spec", GROUPS, ids=lambda spec: spec.name)
def test_garbage_is_collected_again_once_all_is_imported(spec: GroupSpec, started: dict[str, dict[str, Any]]) -> None:
    assert started["common"]["collects"] is False
    assert started[module_of(spec)]["collects"] is True


def test_models_that_only_describe_the_api_are_not_built_at_a_start(started: dict[str, dict[str, Any]]) -> None:
    assert started["common"]["openapi_built"] is False


def test_what_is_built_later_describes_the_same_api() -> None:
    program = """
import json, sys
sys.modules["pydantic.v1"] = None
import shared.http.cold_start
from functions.api import app
from shared.http.app import describe
print(json.dumps(describe(app)))
"""
    (document,) = run(program)
    assert json.loads(document) == json.loads(json.dumps(describe(app)))


def test_certificates_are_read_when_a_context_that_verifies_connects() -> None:
    program = """
import json, os, ssl
import botocore
os.environ["SSL_CERT_FILE"] = os.path.join(os.path.dirname(botocore.__file__), "cacert.pem")
import shared.http.cold_start
import aiohttp.connector as connector
contexts = connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED
read = [len(context.get_ca_certs()) for context in contexts]
for context in contexts:
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="example.com")
print(json.dumps([read, [len(context.get_ca_certs()) > 100 for context in contexts]]))
"""
    (found,) = run(program)
    assert json.loads(found) == [[0, 0], [True, False]]
