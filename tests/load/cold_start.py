"""Compares the import and first request of each function with a peer that starts directly before the function.

The peer uses FastAPI, Mangum and Powertools, and reads one item of the same store. Ratios are medians of such pairs:
seven pairs show a difference of a fifth, thirty show a twentieth (``python -m tests.load.cold_start clusters --rounds
30``). Our functions use the code and layers of ``infra.package``, built for this machine's Python. The peer uses the
same versions of its packages. All have bytecode. The first request verifies a token and reads the store; models also
call their server. SnapStart, which removes imports from a cold start, is not measured.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import boto3

from functions.clusters.service import ClusterService
from infra import package
from infra.groups import GROUPS, Layer
from shared.models.cluster import ClusterCreate
from shared.resources import Resources
from shared.spaces.members import Members
from tests.fixtures.aws import TABLE
from tests.fixtures.identity import Issuer
from tests.fixtures.upstream import FakeUpstream, served
from tests.load.emulated_store import FunctionUser, emulated_store, gateway_event
from tests.load.harness import show, take_turns

LIMIT = 1.15
# The first prediction imports the layer with the libraries for scores, so a cold start does not include that layer.
LAYERS = {name: package.SELECTIONS[name] for name in (package.BASE, Layer.LANGUAGE)}
# As in the deployed functions' environment.
VARIABLES = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}

PEER = "peer"
PEER_PACKAGES = ("fastapi", "mangum", "boto3", "aws-lambda-powertools")
PEER_CODE = f"""
import boto3
from aws_lambda_powertools import Logger
from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()
logger = Logger()
serve = Mangum(app, lifespan="off")

@app.get("/item")
def item() -> dict[str, str]:
    boto3.client("dynamodb").get_item(TableName="{TABLE}", Key={{"PK": {{"S": "none"}}, "SK": {{"S": "none"}}}})
    return {{"status": "ok"}}

@logger.inject_lambda_context
def handler(event, context):
    return serve(event, context)
"""

PROGRAM = """
import json, sys, time
event = json.loads(sys.argv[2])
class Context:
    function_name, memory_limit_in_mb, aws_request_id = "bench", 1024, "bench"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:bench"
began, worked = time.perf_counter(), time.process_time()
module = __import__(sys.argv[1], fromlist=["handler"])
imported = time.perf_counter()
response = module.handler(event, Context())
ended = time.perf_counter()
assert response["statusCode"] in (200, 401, 404), response
print(json.dumps([imported - began, ended - imported, time.process_time() - worked]))
"""

# First requests of groups without a list. Webhooks return 401 to a call without a signature.
PATHS = {
    "insights": ("GET", "/insights/none"),
    "users": ("GET", "/me"),
    "documentation": ("GET", "/health"),
    "webhooks": ("POST", "/webhooks"),
}


def build(folder: Path) -> dict[str, list[Path]]:
    """Builds code and packages for this machine. Returns the import path of each measured module."""
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(package.export("--no-dev")))
    here = ("--python", sys.executable)
    (folder / PEER).mkdir()
    (folder / PEER / f"{PEER}.py").write_text(PEER_CODE)
    package.install(folder / PEER, "\n".join(PEER_PACKAGES), *here, "--constraints", str(constraints))
    paths = {PEER: [folder / PEER]}
    for layer, selection in LAYERS.items():
        package.install(folder / layer, "\n".join(package.export(*selection)), *here, "--no-deps")
        package.strip(folder / layer)
    code_folder = package.build_code(folder)
    for spec in GROUPS:
        layers = [folder / layer for layer in (package.BASE, *spec.layers) if layer in LAYERS]
        paths[spec.handler.rpartition(".")[0]] = [code_folder, *layers]
    for each in {path for several in paths.values() for path in several}:
        package.compile_bytecode(each, sys.executable, str(each))
    return paths


def start(module: str, path: Sequence[Path], event: dict[str, Any]) -> list[float]:
    """Starts a function in a new process. Returns the seconds of its import, first request and processor."""
    variables = {} if module == PEER else VARIABLES
    # -S hides this environment's packages, so that only those of the function are imported.
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, module, json.dumps(event)],
        env=os.environ | variables | {"PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stderr}")
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


def prepare_requests(issuer: Issuer, models_url: str, groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Creates a space with a cluster. Returns the first request of each measured module."""
    secret = boto3.client("secretsmanager").create_secret(Name="bench", SecretString="the benchmark's signing key")
    os.environ.update(
        WEBHOOK_SECRET_ARN=secret["ARN"], WEBHOOK_QUEUE_URL="http://127.0.0.1/none", ALLOW_LOOPBACK="true"
    )
    resources = Resources()
    user = FunctionUser(issuer, resources)
    scope = Members(resources.table).select(user.principal.user_id, user.space_id)
    service = ClusterService(
        resources.clusters,
        resources.language_model_targets,
        resources.token_cleaner,
        resources.address_guard,
        resources.clock,
    )
    asyncio.run(service.create(scope, ClusterCreate(ingress_url=models_url, manager_url=models_url), None))
    event = partial(gateway_event, token=user.token, space_id=user.space_id)
    events = {PEER: event("GET", "/item")}
    for spec in GROUPS:
        if not groups or spec.name in groups:
            events[spec.handler.rpartition(".")[0]] = event(*PATHS.get(spec.name, ("GET", f"/{spec.name}")))
    return events


def run(events: dict[str, dict[str, Any]], paths: dict[str, list[Path]], rounds: int) -> None:
    def start_pair(module: str) -> list[float]:
        peer, taken = (start(each, paths[each], events[each]) for each in (PEER, module))
        return [*taken, taken[-1] / peer[-1]]

    pairs = take_turns({module: partial(start_pair, module) for module in events}, rounds)
    rows = []
    for module, results in pairs.items():
        *seconds, ratio = (statistics.median(column) for column in zip(*results, strict=True))
        name = module.removeprefix("functions.").removesuffix(".handler")
        rows.append((name, *(f"{taken * 1000:.0f}" for taken in seconds), f"{ratio:.2f}"))
    columns = ("function", "import ms", "first request ms", "processor ms", "ratio")
    show(f"Import and first request, in processor time of the peer (at most {LIMIT}x)", columns, rows)


def main() -> None:
    names = [spec.name for spec in GROUPS]
    parser = argparse.ArgumentParser(prog="python -m tests.load.cold_start", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"some of {', '.join(names)}; all by default")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    if unknown := set(chosen.groups) - set(names):
        parser.error(f"no group {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    with tempfile.TemporaryDirectory() as folder, emulated_store() as issuer, served(FakeUpstream()) as models:
        events = prepare_requests(issuer, models.url, chosen.groups)
        run(events, build(Path(folder)), chosen.rounds)


if __name__ == "__main__":
    main()
