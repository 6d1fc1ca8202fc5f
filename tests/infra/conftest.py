"""The app is synthesised once a session and stage, on a stand-in for infra.package's output."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

MAIL_DOMAIN = "mail.example.com"
ROOT = Path(__file__).resolve().parents[2]
Resource = dict[str, Any]


@dataclass(frozen=True)
class Synthesised:
    """The templates of one stage by stack (``data``, ``api``, …) and the folder they lie in."""

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
        """All resources of a type, by logical id."""
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
        """What cdk-nag and the CDK's own checks found."""
        report: dict[str, Any] = json.loads((self.folder / "validation-report.json").read_text())
        return report


@cache
def _read(template: Path) -> dict[str, Any]:
    """Thousands of times asked for, and never changed."""
    read: dict[str, Any] = json.loads(template.read_text())
    return read


Synthesise = Callable[..., Synthesised]
NewApp = Callable[[], Any]


def node(name: str) -> str:
    """A Node program: from PATH, or the one that the environment carries."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed: `make setup` gets it"
    return found


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files where the app expects infra.package's output; their content plays no part in a template."""
    folder = tmp_path_factory.mktemp("build")
    for part in ("code", "layers/base", "layers/database", "layers/language", "layers/scan", "layers/score"):
        (folder / part).mkdir(parents=True)
        (folder / part / "content.txt").write_text(part)
    (folder / "sourcedir.tar.gz").write_bytes(b"source")
    return folder


@pytest.fixture(scope="session")
def new_app(tmp_path_factory: pytest.TempPathFactory) -> NewApp:
    """Makes an empty app with the context of cdk.json, as the CDK's command does; all share one Node process."""
    node("node")
    os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    import aws_cdk as cdk

    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    return lambda: cdk.App(outdir=str(tmp_path_factory.mktemp("cdk.out")), context=context)


@pytest.fixture(scope="session")
def synthesise(build: Path, new_app: NewApp) -> Synthesise:
    """``synthesise("dev", oidc_issuer=…)``: the templates of a stage, held against cdk-nag's rules where it says so."""
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
    """Production, of those who let it write to the invited."""
    return synthesise("prod", email_sender=f"invites@{MAIL_DOMAIN}", sign_in_url="https://app.example.com")


@pytest.fixture(scope="session")
def foreign(synthesise: Synthesise) -> Synthesised:
    """A stage whose tokens come from somebody else's issuer."""
    return synthesise("dev", oidc_issuer="https://login.example.com", oidc_audience="inference")
