"""Fixtures that synthesise each stage once a session, and helpers that read the templates."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from infra.groups import FunctionSpec, Layer
from shared.resources import Resources
from shared.settings import Settings
from tests.infra.stage_metrics import SPACE, Stage

MAIL_DOMAIN = "mail.example.com"
WEIGHTS_SHA256 = "a1" * 32
ROOT = Path(__file__).resolve().parents[2]
Resource = dict[str, Any]


@dataclass(frozen=True)
class Synthesised:
    """The templates of one stage, by stack (``data``, ``api``, …)."""

    folder: Path
    stage: str

    def template(self, stack: str) -> dict[str, Any]:
        return _read(self.file(stack))

    def file(self, stack: str) -> Path:
        return self.folder / f"inference-{self.stage}-{stack}.template.json"

    @property
    def stacks(self) -> list[str]:
        return [stack for stack in ("data", "api", "workflows", "observability") if self.file(stack).is_file()]

    def resources(self, type: str, stack: str | None = None) -> dict[str, Resource]:
        """Returns all resources of a type by logical id."""
        return {
            name: resource
            for one in ([stack] if stack else self.stacks)
            for name, resource in self.template(one)["Resources"].items()
            if resource["Type"] == type
        }

    def properties(self, type: str, stack: str | None = None) -> list[dict[str, Any]]:
        return [resource["Properties"] for resource in self.resources(type, stack).values()]

    @property
    def report(self) -> dict[str, Any]:
        """Returns the findings of cdk-nag and the CDK."""
        report: dict[str, Any] = json.loads((self.folder / "validation-report.json").read_text())
        return report


@cache
def _read(template: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(template.read_text())
    return read


Statement = dict[str, Any]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(role: dict[str, Any]) -> list[Statement]:
    return [one for policy in role.get("Policies", []) for one in policy["PolicyDocument"]["Statement"]]


def all_statements(stage: Synthesised) -> Iterator[Statement]:
    for role in stage.properties("AWS::IAM::Role"):
        yield from statements(role)
    for policy in stage.properties("AWS::IAM::Policy"):
        yield from policy["PolicyDocument"]["Statement"]


def function_of(stage: Synthesised, spec: FunctionSpec) -> dict[str, Any]:
    name = f"inference-{stage.stage}-{spec.name}"
    return next(one for one in stage.properties("AWS::Lambda::Function") if one["FunctionName"] == name)


def role_of(stage: Synthesised, spec: FunctionSpec) -> dict[str, Any]:
    logical_id = function_of(stage, spec)["Role"]["Fn::GetAtt"][0]
    properties: dict[str, Any] = stage.resources("AWS::IAM::Role")[logical_id]["Properties"]
    return properties


Synthesise = Callable[..., Synthesised]
NewApp = Callable[[], Any]


def node(name: str) -> str:
    """Returns the path of a Node program, from PATH or from the virtual environment."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed: run `make setup`"
    return found


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder that replaces infra.package's output. The content of its files does not affect the templates."""
    folder = tmp_path_factory.mktemp("build")
    for part in ("code", *(f"layers/{layer}" for layer in ("base", *Layer))):
        (folder / part).mkdir(parents=True)
        (folder / part / "content.txt").write_text(part)
    for layer in Layer:
        # A function unpacks such a folder of a layer.
        (folder / "layers" / layer / "python").mkdir()
        (folder / "layers" / layer / "python" / "content.txt").write_text(layer)
    (folder / "sourcedir.tar.gz").write_bytes(b"source")
    (folder / "wheels.tar").write_bytes(b"wheels")
    return folder


@pytest.fixture(scope="session")
def new_app(tmp_path_factory: pytest.TempPathFactory) -> NewApp:
    """Returns a function that makes an empty app with the context of cdk.json. All apps share one Node process."""
    node("node")
    os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    import aws_cdk as cdk

    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    return lambda: cdk.App(outdir=str(tmp_path_factory.mktemp("cdk.out")), context=context)


@pytest.fixture(scope="session")
def synthesise(build: Path, new_app: NewApp) -> Synthesise:
    """Returns a function that synthesises a stage: ``synthesise("dev", oidc_issuer=…)``."""
    from infra.app import synthesise as synthesise_app
    from infra.settings import stage_settings

    def run(stage: str, **overrides: str) -> Synthesised:
        app = new_app()
        synthesise_app(app, stage_settings(stage, overrides), build)
        return Synthesised(Path(app.outdir), stage)

    return run


@pytest.fixture(scope="session")
def local(synthesise: Synthesise) -> Synthesised:
    return synthesise("local")


@pytest.fixture(scope="session")
def dev(synthesise: Synthesise) -> Synthesised:
    return synthesise("dev")


@pytest.fixture(scope="session")
def prod(synthesise: Synthesise) -> Synthesised:
    """Returns production with a sender of invites."""
    return synthesise("prod", email_sender=f"invites@{MAIL_DOMAIN}", sign_in_url="https://app.example.com")


@pytest.fixture(scope="session")
def staging(synthesise: Synthesise) -> Synthesised:
    return synthesise("staging")


@pytest.fixture(scope="session", params=["dev", "staging", "prod"])
def deployed(request: pytest.FixtureRequest) -> Synthesised:
    """Returns each stage that is deployed to AWS, for rules that hold in all of them."""
    stage: Synthesised = request.getfixturevalue(request.param)
    return stage


@pytest.fixture(scope="session")
def foreign(synthesise: Synthesise) -> Synthesised:
    """Returns the development stage with an external issuer of tokens, and the weights of TabICL."""
    issuer = {"oidc_issuer": "https://login.example.com", "oidc_audience": "inference"}
    return synthesise("dev", **issuer, tabicl_weights_license="MIT", tabicl_weights_sha256=WEIGHTS_SHA256)


@pytest.fixture
def stage(
    prod: Synthesised,
    resources: Resources,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    return Stage(prod, resources, capsys, monkeypatch)


@pytest.fixture
def broken(settings: Settings, stage: Stage, issuer: Any) -> TestClient:
    """Returns a client of an API without a table."""
    client = stage.client(Resources(settings.model_copy(update={"table_name": "missing"})))
    client.headers["Authorization"] = f"Bearer {issuer.token('alice')}"
    client.headers["X-Space-Id"] = SPACE
    return client
