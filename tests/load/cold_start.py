"""Import and first request of each function as deployed, against an empty function started right before it.

The empty one is FastAPI + Mangum with what any function of an API on AWS has: boto3 and Powertools; a bare one is shown
for comparison. Machines drift by more than functions differ, so a ratio is the median over pairs of neighbours. Seven
pairs tell what is a fifth slower, thirty what is a twentieth: ``python -m tests.load.cold_start clusters --rounds 30``.

Ours run on the code and the layers as ``infra.package`` makes them, made here for this machine's Python; the empty ones
on what pip installs of the same versions. All have bytecode. The first request is a real one: the token is verified,
the membership and the list are read from the (emulated) store, models are asked of their server. The equipped function
reads one item of the same store. SnapStart, which takes the imports out of a cold start, is not part of it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import boto3
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable
from shared.aws.resources import Resources
from shared.store.members import Members

from functions.clusters.service import ClusterService
from functions.spaces.service import SpaceService
from infra import package
from infra.groups import GROUPS, Layer
from shared.models.cluster import ClusterCreate
from shared.models.space import SpaceCreate
from tests.fixtures.aws import TABLE
from tests.fixtures.identity import Issuer
from tests.fixtures.upstream import FakeUpstream, served
from tests.load.emulated_store import emulated_store, gateway_event

LIMIT = 1.15
# What scores is imported at the first prediction, so the layer that has it is left out.
LAYERS = {name: package.SELECTIONS[name] for name in (package.BASE, Layer.LANGUAGE)}
# As in AWS, where functions are told so by their environment.
VARIABLES = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}

EMPTY = """
from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()

@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}

handler = Mangum(app, lifespan="off")
"""
# The same, with a log, and one read of a table.
EQUIPPED = f"""
import boto3
from aws_lambda_powertools import Logger
{EMPTY}
logger = Logger()
serve = handler

@app.get("/item")
def item() -> dict[str, str]:
    boto3.client("dynamodb").get_item(TableName="{TABLE}", Key={{"PK": {{"S": "none"}}, "SK": {{"S": "none"}}}})
    return {{"status": "ok"}}

@logger.inject_lambda_context
def handler(event, context):
    return serve(event, context)
"""
PEER = "equipped"
PEERS = {
    "empty": (EMPTY, "/health", ("fastapi", "mangum")),
    PEER: (EQUIPPED, "/item", ("fastapi", "mangum", "boto3", "aws-lambda-powertools")),
}

PROGRAM = """
import json, sys, time
event = json.loads(sys.argv[2])
class Context:
    function_name, memory_limit_in_mb, aws_request_id = "bench", 1024, "bench"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:bench"
began, worked = time.perf_counter(), time.process_time()
module = __import__(sys.argv[1], fromlist=["handler"])
imported = time.perf_counter()
answer = module.handler(event, Context())
ended = time.perf_counter()
assert answer["statusCode"] in (200, 401, 404), answer
print(json.dumps([imported - began, ended - imported, time.process_time() - worked]))
"""

# Groups without a list are asked for what they have, or have not; webhooks answer 401 to an unsigned call.
PATHS = {
    "insights": ("GET", "/insights/none"),
    "users": ("GET", "/me"),
    "documentation": ("GET", "/health"),
    "webhooks": ("POST", "/webhooks"),
}


def build(folder: Path) -> dict[str, list[Path]]:
    """Code and packages for this machine: what each module that is measured has on its path."""
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(package.export("--no-dev")))
    here = ("--python", sys.executable)
    paths = {}
    for name, (code, _, packages) in PEERS.items():
        (folder / name).mkdir()
        (folder / name / f"{name}.py").write_text(code)
        package.install(folder / name, "\n".join(packages), *here, "--constraints", str(constraints))
        paths[name] = [folder / name]
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


def start(module: str, path: Sequence[Path], event: dict[str, object]) -> list[float]:
    """Seconds to import a function in a fresh process, to answer its first request, and of processor time in all."""
    variables = {} if module in PEERS else VARIABLES
    # Without this environment's own packages (-S): theirs are the only ones in AWS.
    found = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, module, json.dumps(event)],
        env=os.environ | variables | {"PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if found.returncode:
        raise SystemExit(f"{module} failed:\n{found.stderr}")
    times: list[float] = json.loads(found.stdout.splitlines()[-1])
    return times


def run(issuer: Issuer, folder: Path, models_url: str, options: argparse.Namespace) -> RichTable:
    secret = boto3.client("secretsmanager").create_secret(Name="bench", SecretString="a signing key of the bench's own")
    os.environ.update(WEBHOOK_SECRET_ARN=secret["ARN"], ALLOW_LOOPBACK="true")
    resources = Resources()
    token = issuer.token("bench", expires_in=3600)
    principal = resources.token_verifier.verify(token)
    space_id = SpaceService(resources).create(principal, SpaceCreate(name="bench", description=""), None).id
    scope = Members(resources.table).select(principal.user_id, space_id)
    cluster = ClusterCreate(ingress_url=models_url, manager_url=models_url)
    ClusterService(resources).create(scope, cluster, None)
    paths = build(folder)
    events = {peer: gateway_event("GET", path, token, space_id) for peer, (_, path, _) in PEERS.items()}
    for spec in GROUPS:
        if not options.groups or spec.name in options.groups:
            method, address = PATHS.get(spec.name, ("GET", f"/{spec.name}"))
            events[spec.handler.rpartition(".")[0]] = gateway_event(method, address, token, space_id)
    turns: dict[str, list[list[float]]] = {module: [] for module in events}
    for turn in track(range(options.rounds + 1), "starting functions", transient=True):
        for module in events:
            peer, taken = (start(each, paths[each], events[each]) for each in (PEER, module))
            if turn:  # the first round fills the disk's cache
                turns[module].append([*taken, taken[-1] / peer[-1]])
    shown = RichTable(title=f"Import and first request, in processor time of the {PEER} function (at most {LIMIT}x)")
    for column in ("function", "import ms", "first request ms", "processor ms", "ratio"):
        shown.add_column(column, justify="left" if column == "function" else "right")
    for module, each in turns.items():
        *seconds, ratio = (statistics.median(column) for column in zip(*each, strict=True))
        name = module.removeprefix("functions.").removesuffix(".handler")
        shown.add_row(name, *(f"{taken * 1000:.0f}" for taken in seconds), f"{ratio:.2f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description="What a function takes to start and to answer its first request.")
    names = [spec.name for spec in GROUPS]
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"some of {', '.join(names)}; all when left out")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if unknown := set(options.groups) - set(names):
        parser.error(f"no group {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    with tempfile.TemporaryDirectory() as folder, emulated_store() as issuer, served(FakeUpstream()) as models:
        Console().print(run(issuer, Path(folder), models.url, options))


if __name__ == "__main__":
    main()
