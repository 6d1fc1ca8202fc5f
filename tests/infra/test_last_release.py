"""What a deployment of this release would do to a stage of the last one, by ``cdk diff`` of the stored templates."""

import gzip
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.releases import FOLDER, this_version
from tests.infra.conftest import ROOT, Synthesised, node

STACKS = ("data", "api", "workflows", "observability")
# Resources that this release replaces or removes, with the reason why that loses nothing.
REVIEWED: dict[str, str] = {}
# A deployment makes new ones each time, and keeps or needs no old ones.
RENEWED = ("AWS::Lambda::Version", "AWS::Lambda::LayerVersion", "AWS::ApiGateway::Deployment")
FILES = sorted(FOLDER.glob("*-templates.json.gz"))


def stored(path: Path) -> dict[str, Any]:
    templates: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return templates


def test_the_templates_of_the_release_are_stored(request: pytest.FixtureRequest, prod: Synthesised) -> None:
    path = FOLDER / f"{this_version()}-templates.json.gz"
    if request.config.getoption("--write-release"):
        templates = {stack: prod.template(stack) for stack in STACKS}
        path.write_bytes(gzip.compress(json.dumps(templates, sort_keys=True).encode(), mtime=0))
    assert path in FOLDER.glob("*.gz"), "run: python -m pytest tests/infra/test_last_release.py --write-release"


def diff(prod: Synthesised, stack: str, template: dict[str, Any], folder: Path) -> str:
    """Returns what ``cdk diff`` says about a deployment over this template."""
    old = folder / f"{stack}.json"
    old.write_text(json.dumps(template))
    command = [node("node"), str(ROOT / "node_modules/aws-cdk/bin/cdk"), "diff", "--app", str(prod.folder),
               "--template", str(old), "--no-color", "--no-notices", f"inference-prod-{stack}"]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def losses(text: str) -> list[str]:
    """Returns the resources that a diff removes, replaces or may replace."""
    found = []
    for line in text.splitlines():
        gone = re.match(r"\[-\] (AWS::\S+) (\S+)", line)
        changed = re.match(r"\[~\] (AWS::\S+) (\S+).*(replace|may be replaced)", line)
        match = gone or changed
        if match and not match[1].startswith(RENEWED):
            found.append(f"{match[1]} {match[2]}")
    return found


@pytest.mark.row("OP-1")
@pytest.mark.parametrize("path", FILES[-1:], ids=lambda path: path.name.removesuffix("-templates.json.gz"))
def test_a_deployment_over_the_last_release_loses_nothing(path: Path, prod: Synthesised, tmp_path: Path) -> None:
    lost = [one for stack, template in stored(path).items() for one in losses(diff(prod, stack, template, tmp_path))]
    assert [one for one in lost if one not in REVIEWED] == []


def imports(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["Fn::ImportValue"]} if isinstance(value.get("Fn::ImportValue"), str) else set()
        return own.union(*(imports(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(imports(each) for each in value))
    return set()


@pytest.mark.row("OP-1")
@pytest.mark.parametrize("path", FILES[-1:], ids=lambda path: path.name.removesuffix("-templates.json.gz"))
def test_no_export_goes_that_a_stack_of_the_last_release_still_imports(path: Path, prod: Synthesised) -> None:
    # CloudFormation updates the exporting stack first, and refuses to remove an export in use.
    used = set().union(*(imports(template["Resources"]) for template in stored(path).values()))
    exported = {
        output["Export"]["Name"]
        for stack in prod.stacks
        for output in prod.template(stack).get("Outputs", {}).values()
        if "Export" in output
    }
    assert used
    assert used - exported == set()


def test_a_replaced_and_a_removed_resource_are_found(prod: Synthesised, tmp_path: Path) -> None:
    template = json.loads(json.dumps(prod.template("data")))
    [entities] = [name for name in template["Resources"] if name.startswith("Entities")]
    template["Resources"][entities]["Properties"]["KeySchema"][0]["AttributeName"] = "OTHER"
    template["Resources"]["Old"] = {"Type": "AWS::SQS::Queue", "Properties": {}}
    found = losses(diff(prod, "data", template, tmp_path))
    assert [one.split()[0] for one in found] == ["AWS::SQS::Queue", "AWS::DynamoDB::Table"]
