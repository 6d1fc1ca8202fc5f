"""Counts the modules that a function imports at its start, because seconds depend on the machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from functions.api import app
from infra.groups import GROUPS, GroupSpec, Layer
from shared.http.app import describe

ROOT = Path(__file__).parents[3]
# The modules before the first request. As in AWS, pydantic imports neither its plugins nor its old version.
BASE_BUDGET = 831
BUDGETS = {Layer.SCAN: 790, Layer.SCORE: 790, Layer.LANGUAGE: 853, Layer.DATABASE: 790, Layer.CONDITIONS: 790}
# These modules take long to import and few requests need them, so they are imported where they are used.
LATER = {
    "aiohttp", "aws_xray_sdk", "cel_expr_python",
    "defusedxml", "jsonschema_rs", "lightgbm", "numpy", "openpyxl", "pg8000",
    "polars", "pydantic.v1",
    "scipy", "uvicorn", "xgboost", "yarl",
}  # fmt: skip

# Each handler starts in its own process.
PROGRAM = """
import gc, json, os, sys
sys.modules["pydantic.v1"] = None
import boto3, mangum, aws_lambda_powertools
for module in sys.argv[1:]:
    if not os.fork():
        __import__(module)
        from fastapi.openapi.models import OpenAPI
        names = [name for name, found in sys.modules.items() if found]
        collects = gc.isenabled() and gc.get_freeze_count() > 10 * gc.get_count()[0]
        built = OpenAPI.__pydantic_complete__
        routes = [f"{method} {each.path}" for each in sys.modules[module].app.routes for method in each.methods]
        found = {"module": module, "names": names, "collects": collects, "built": built, "routes": routes}
        print(json.dumps(found), flush=True)
        os._exit(0)
    os.wait()
"""

# Runs the hooks that Lambda's runtime runs before it takes a snapshot.
SNAPSHOT = """
import json, sys
import snapshot_restore_py
__import__(sys.argv[1])
for hook, positional, named in snapshot_restore_py.get_before_snapshot():
    hook(*positional, **named)
print(json.dumps(list(sys.modules)))
"""
SNAPSHOT_LIBRARIES = {
    Layer.CONDITIONS: {"cel_expr_python"},
    Layer.LANGUAGE: {"aiohttp", "yarl"},
    Layer.SCORE: {"lightgbm", "numpy"},
}
# A child process imports polars.
CHILD = """
import json, os, sys
import functions.connectors.handler
import snapshot_restore_py
for hook, positional, named in snapshot_restore_py.get_before_snapshot():
    hook(*positional, **named)
from shared.files import confined
maps = open(f"/proc/{confined._idle[0]._process.pid}/maps").read()
print(json.dumps(["polars" in maps, "polars" in sys.modules]))
"""
# SnapStart does not support streams, which chats need. Experts never call a model.
CALLERS = [spec for spec in GROUPS if SNAPSHOT_LIBRARIES.keys() & spec.layers and spec.name not in ("chats", "experts")]


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
    return {one["module"]: one for one in map(json.loads, run(PROGRAM, *map(module_of, GROUPS)))}


@pytest.mark.parametrize("spec", GROUPS, ids=lambda spec: spec.name)
def test_a_function_imports_no_more_than_its_budget(spec: GroupSpec, started: dict[str, dict[str, Any]]) -> None:
    names = set(started[module_of(spec)]["names"])
    assert not names & LATER
    budget = max(BASE_BUDGET, *(BUDGETS[layer] for layer in spec.layers), 0)
    assert len(names) <= budget, "find the new import with `python -X importtime`, and import it where it is used"


@pytest.mark.parametrize("spec", GROUPS, ids=lambda spec: spec.name)
def test_the_garbage_collector_runs_again_after_the_imports(
    spec: GroupSpec, started: dict[str, dict[str, Any]]
) -> None:
    assert started[module_of(spec)]["collects"] is True


def test_the_functions_together_serve_every_operation_once(started: dict[str, dict[str, Any]]) -> None:
    served = [route for one in started.values() for route in one["routes"]]
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert sorted(served) == sorted(f"{method} {route.path}" for route in routes for method in route.methods or ())


def test_models_that_only_describe_the_api_are_not_built_at_the_start(started: dict[str, dict[str, Any]]) -> None:
    assert not any(one["built"] for one in started.values())


def test_models_that_are_built_later_describe_the_same_api() -> None:
    program = """
import json, sys
sys.modules["pydantic.v1"] = None
import functions.documentation.handler
from functions.api import app
from shared.http.app import describe
print(json.dumps(describe(app)))
"""
    (document,) = run(program)
    assert json.loads(document) == json.loads(json.dumps(describe(app)))


@pytest.mark.parametrize("spec", CALLERS, ids=lambda spec: spec.name)
def test_snapstart_imports_the_libraries_of_later_requests_before_its_snapshot(spec: GroupSpec) -> None:
    (names,) = run(SNAPSHOT, module_of(spec))
    libraries = set().union(*(SNAPSHOT_LIBRARIES.get(layer, set()) for layer in spec.layers))
    assert set(json.loads(names)) >= libraries


def test_snapstart_starts_the_child_that_reads_previews_before_its_snapshot() -> None:
    (found,) = run(CHILD)
    assert json.loads(found) == [True, False]
