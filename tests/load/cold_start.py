"""Import and first request of each function, against an empty FastAPI + Mangum function in the same run.

The first request is a real one: the token is verified, the membership and the list are read from the (emulated) store.
SnapStart, which takes the imports out of a cold start, is not part of it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable

from functions.spaces.service import SpaceService
from shared.aws.resources import Resources
from shared.models.space import SpaceCreate
from tests.fixtures.identity import Issuer
from tests.load.emulated_store import emulated_store, gateway_event

ROOT = Path(__file__).parents[2]
ROUNDS = 7
LIMIT = 1.5

EMPTY = """
from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()

@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}

handler = Mangum(app, lifespan="off")
"""

PROGRAM = """
import json, sys, time
event = json.loads(sys.argv[2])
class Context:
    function_name, memory_limit_in_mb, aws_request_id = "bench", 1024, "bench"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:bench"
began = time.perf_counter()
module = __import__(sys.argv[1], fromlist=["handler"])
imported = time.perf_counter()
answer = module.handler(event, Context())
ended = time.perf_counter()
assert answer["statusCode"] in (200, 401), answer
print(json.dumps([imported - began, ended - imported]))
"""

# Groups without a list are asked for what they have; webhooks answer 401 to an unsigned call.
PATHS = {"users": ("GET", "/me"), "documentation": ("GET", "/health"), "webhooks": ("POST", "/webhooks")}


def functions() -> list[str]:
    return sorted(path.parent.name for path in (ROOT / "functions").glob("*/handler.py"))


def start(module: str, event: dict[str, object], folder: str) -> tuple[float, float]:
    """Milliseconds to import a function in a fresh process, and to answer its first request."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, json.dumps(event)],
        env=environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if found.returncode:
        raise SystemExit(f"{module} failed:\n{found.stderr}")
    imported, answered = json.loads(found.stdout.splitlines()[-1])
    return imported * 1000, answered * 1000


def run(issuer: Issuer, folder: Path) -> RichTable:
    secret = boto3.client("secretsmanager").create_secret(Name="bench", SecretString="a signing key of the bench's own")
    os.environ["WEBHOOK_SECRET_ARN"] = secret["ARN"]
    resources = Resources()
    token = issuer.token("bench", expires_in=3600)
    principal = resources.token_verifier.verify(token)
    space_id = SpaceService(resources).create(principal, SpaceCreate(name="bench", description=""), None).id
    (folder / "empty_function.py").write_text(EMPTY)
    events = {"empty_function": gateway_event("GET", "/health", token, space_id)}
    for group in functions():
        method, path = PATHS.get(group, ("GET", f"/{group.replace('_', '-')}"))
        events[f"functions.{group}.handler"] = gateway_event(method, path, token, space_id)
    times: dict[str, list[tuple[float, float]]] = {module: [] for module in events}
    for turn in track(range(ROUNDS + 1), "starting functions", transient=True):
        for module, event in events.items():
            taken = start(module, event, str(folder))
            if turn:  # the first round only writes bytecode
                times[module].append(taken)
    empty = statistics.median(sum(each) for each in times["empty_function"])
    shown = RichTable(title=f"Import and first request against an empty function (at most {LIMIT}x)")
    for column in ("function", "import ms", "first request ms", "ratio"):
        shown.add_column(column, justify="left" if column == "function" else "right")
    for module, starts in times.items():
        imported = statistics.median(first for first, _ in starts)
        answered = statistics.median(second for _, second in starts)
        ratio = statistics.median(sum(each) for each in starts) / empty
        shown.add_row(module.removesuffix(".handler"), f"{imported:.0f}", f"{answered:.0f}", f"{ratio:.2f}")
    return shown


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, emulated_store() as issuer:
        Console().print(run(issuer, Path(folder)))


if __name__ == "__main__":
    main()
