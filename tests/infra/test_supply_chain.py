"""Bills of materials list the locked packages, and audits report vulnerabilities."""

import json
import subprocess
from pathlib import Path

import pytest

from infra.package import BASE, SELECTIONS, export
from infra.supply_chain import OUTPUT, ROOT, audit, components, npm_bill, python_bill, script_bill


def done(code: int, out: str = "", error: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.CompletedProcess(["audit"], code, out, error)


@pytest.fixture
def folder() -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)


def test_the_bill_lists_every_deployed_package_in_its_locked_version(folder: None) -> None:
    assert python_bill().passed
    listed = components(OUTPUT / "python.cdx.json")
    for selection in SELECTIONS.values():
        for line in export(*selection):
            name, _, rest = line.partition("==")
            if name.strip():
                assert (name.strip().lower().partition("[")[0], rest.split(";")[0].strip()) in listed
    assert "pytest" not in dict(listed)
    assert {"boto3", "fastapi"} <= {line.partition("==")[0] for line in export(*SELECTIONS[BASE])}


def test_the_bill_of_the_tools_lists_the_cdk(folder: None) -> None:
    assert npm_bill().passed
    assert {"aws-cdk", "@scalar/api-reference"} <= set(dict(components(OUTPUT / "npm.cdx.json")))


@pytest.mark.row("SE-8")
def test_the_bill_of_scalars_scripts_lists_what_is_bundled_in_the_versions_that_are_bundled(folder: None) -> None:
    assert script_bill().passed
    listed = components(OUTPUT / "scalar.cdx.json")
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    # This package is bundled in another version than the one that package-lock.json installs.
    assert ("@internationalized/number", "3.5.3") in listed
    assert locked["node_modules/@internationalized/number"]["version"] != "3.5.3"
    assert {"fuse.js", "parse5", "yaml", "@scalar/api-client", "@vue/runtime-core"} <= dict(listed).keys()
    assert all(version for _, version in listed)
    assert len(listed) > 150


def test_a_missing_script_fails_and_the_message_names_the_remedy(
    folder: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("infra.supply_chain.ROOT", tmp_path)
    finding = script_bill()
    assert not finding.passed
    assert "make setup" in finding.message


@pytest.mark.parametrize(
    "error",
    [
        "cause: dns error\ncause: failed to lookup address information",
        "error: error sending request for url (https://api.osv.dev/v1/querybatch)",
        "npm error audit endpoint returned an error",
        "timed out",
    ],
)
def test_an_unreachable_database_is_reported_and_does_not_fail(error: str) -> None:
    finding = audit("packages", done(2, error=error))
    assert finding.passed
    assert "NOT AUDITED" in finding.message


def test_a_known_vulnerability_fails_and_is_reported() -> None:
    finding = audit("packages", done(1, out="jinja2 3.1.2 has 1 known vulnerability: GHSA-h5c8-rqwp-cp95"))
    assert not finding.passed
    assert "GHSA-h5c8-rqwp-cp95" in finding.message


def test_a_missing_program_fails_and_the_message_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.supply_chain.shutil.which", lambda *_, **__: None)
    finding = python_bill()
    assert not finding.passed
    assert "make setup" in finding.message
