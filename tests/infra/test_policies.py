"""The synthesised policies allow the calls that the functional tests made.

A simulator of IAM decides, beside the emulator's own check. The functional tests run first and store their calls.
``test_needed_grants.py`` finds the grants that none of these calls needed.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.groups import FUNCTIONS
from tests.fixtures.environments import ENVIRONMENTS
from tests.fixtures.grants import MADE_FILE
from tests.fixtures.iam_calls import ACCOUNT, ENTITIES, FILES, LOGS, REGION, SECRETS, IamCall, read_calls
from tests.infra.conftest import Synthesised, node

SIMULATOR = "@cloud-copilot/iam-simulate@0.1.173"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
# The resources of other stacks, by the logical ids in the names of their exports.
IMPORTED = {
    "Entities": ENTITIES,
    "InferenceLogs": LOGS,
    "Files": FILES,
    "Key": KEY,
    "WebhookSecret": SECRETS["webhook-secret"],
    "ExternalIdKey": SECRETS["external-id-key"],
}
PSEUDO = {"AWS::Partition": "aws", "AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::URLSuffix": "amazonaws.com"}


def resolved(value: Any) -> Any:
    """Returns a value of a template with the names of a deployment."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return separator.join(resolved(parts))
        case {"Fn::ImportValue": name}:
            found = re.sub(r".*(?:GetAtt|Ref)(\w+?)[0-9A-F]{8}(?:(?:Stream)?Arn)?[0-9A-F]{8}$", r"\1", name)
            return IMPORTED[found]
        case {"Ref": name} if name in PSEUDO:
            return PSEUDO[name]
        case {"Fn::Sub": text}:
            return text
        case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
            return f"arn:aws:own:{REGION}:{ACCOUNT}:{name}"
        case dict():
            return {key: resolved(each) for key, each in value.items()}
        case list():
            return [resolved(each) for each in value]
    return value


@pytest.fixture(scope="module")
def policies(prod: Synthesised) -> dict[str, list[dict[str, Any]]]:
    """Returns the policy documents of each function's role."""
    roles = prod.resources("AWS::IAM::Role")
    attached = prod.properties("AWS::IAM::Policy")
    named = {one["FunctionName"]: one["Role"]["Fn::GetAtt"][0] for one in prod.properties("AWS::Lambda::Function")}
    found = {}
    for spec in FUNCTIONS:
        role = named[f"inference-prod-{spec.name}"]
        own = roles[role]["Properties"].get("Policies", [])
        more = [one for one in attached if {"Ref": role} in one["Roles"]]
        found[spec.name] = [resolved(one["PolicyDocument"]) for one in (*own, *more)]
    return found


@pytest.fixture(scope="module")
def calls() -> set[IamCall]:
    if not MADE_FILE.exists():
        pytest.skip("the functional tests have not run as a whole: `make test` or `pytest tests/functional`")
    return read_calls(MADE_FILE.read_text())


def simulate(requests: list[dict[str, Any]]) -> list[str]:
    """Returns ``Allowed``, ``ImplicitlyDenied`` or ``ExplicitlyDenied`` for each request."""
    folder = ENVIRONMENTS / re.sub(r"\W+", "-", SIMULATOR)
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install = [node("npm"), "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run([*install, "--loglevel=error", SIMULATOR], check=True, timeout=120)
        (folder / "done").touch()
    script = Path(__file__).parent / "simulator" / "simulate.mjs"
    done = subprocess.run(
        [node("node"), str(script), str(folder)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    decisions: list[str] = json.loads(done.stdout)
    return decisions


def request(call: IamCall, documents: list[dict[str, Any]]) -> dict[str, Any]:
    owner = call.resource.split(":")[4] or ACCOUNT
    single = {
        name: values if len(values) > 1 or name.endswith("LeadingKeys") else values[0] for name, values in call.keys
    }
    return {
        "request": {
            "principal": f"arn:aws:iam::{ACCOUNT}:role/{call.function}",
            "action": call.action,
            "resource": {"resource": call.resource, "accountId": owner},
            "contextVariables": single,
        },
        "identityPolicies": [{"name": str(number), "policy": each} for number, each in enumerate(documents)],
    }


@pytest.mark.row("OP-4")
def test_each_call_of_a_function_is_allowed(calls: set[IamCall], policies: dict[str, list[dict[str, Any]]]) -> None:
    made = sorted(calls)
    decisions = simulate([request(call, policies[call.function]) for call in made])
    assert len({call.function for call in made}) > 30
    assert [(call, decision) for call, decision in zip(made, decisions, strict=True) if decision != "Allowed"] == []


@pytest.mark.row("OP-4")
def test_the_simulator_denies_other_kinds_other_objects_and_other_functions(
    policies: dict[str, list[dict[str, Any]]],
) -> None:
    def keys(*kinds: str) -> Any:
        return (("dynamodb:LeadingKeys", tuple(f"{kind}#1" for kind in kinds)),)

    denied = [
        IamCall("actions", "dynamodb:GetItem", ENTITIES, keys("chat")),
        IamCall("actions", "dynamodb:BatchGetItem", ENTITIES, keys("action", "chat")),
        IamCall("actions", "dynamodb:Scan", ENTITIES),
        IamCall("chats", "s3:GetObject", f"{FILES}/spaces/1/trainings/1/job.json"),
        IamCall("trainings", "s3:DeleteObjectVersion", f"{FILES}/spaces/1/trainings/1/job.json"),
        IamCall("users", "secretsmanager:GetSecretValue", SECRETS["webhook-secret"]),
    ]
    allowed = IamCall("actions", "dynamodb:GetItem", ENTITIES, keys("action"))
    decisions = simulate([request(call, policies[call.function]) for call in (*denied, allowed)])
    assert decisions == [*["ImplicitlyDenied"] * len(denied), "Allowed"]
