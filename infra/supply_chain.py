"""What the project is made of, and what is known to be wrong with it: ``python -m infra.supply_chain``.

Writes bills of materials (CycloneDX) of the locked Python and npm packages below ``build/sbom``, and asks the databases
of known vulnerabilities about them. A vulnerability in what runs in production fails; a database that can't be reached
is said and does not. All is done by uv and npm themselves.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from infra.groups import Layer

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "sbom"
SECONDS = 60
# What uv and npm print when the database, and not a package, is the trouble.
UNREACHABLE = re.compile(
    r"dns error|error sending request|timed out|audit endpoint returned an error|404 Not Found"
    r"|EAI_AGAIN|ECONNREFUSED|ENOAUDIT|ENOTFOUND|ETIMEDOUT"
)


@dataclass(frozen=True)
class Finding:
    """What came of one step: whether all is well, and what to tell."""

    passed: bool
    says: str


def main() -> int:
    """Runs all steps; 0 only if the bills were written and nothing is known to be wrong."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    findings = [python_bill(), npm_bill(), python_audit(), npm_audit()]
    for finding in findings:
        sys.stdout.write(f"{'ok    ' if finding.passed else 'FAILED'} {finding.says}\n")
    return 0 if all(finding.passed for finding in findings) else 1


def deployed() -> tuple[str, ...]:
    """uv's selection of what is deployed: the base layer, and a group for each other one."""
    return ("--no-dev", *(f"--group={layer}" for layer in Layer))


def not_deployed() -> tuple[str, ...]:
    """The same for uv's audit, which looks at all groups that it is not told to leave out."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return tuple(f"--no-group={group}" for group in groups if group not in set(Layer))


def python_bill() -> Finding:
    """The bill of what is deployed, from uv.lock."""
    path = OUTPUT / "python.cdx.json"
    done = run(
        "uv", "export", "--frozen", "--quiet", *deployed(), "--format", "cyclonedx1.5", "--output-file", str(path)
    )
    return _bill(done, path, "Python packages that are deployed", "a uv that knows `--format cyclonedx1.5`")


def npm_bill() -> Finding:
    """The bill of the npm tools, from package-lock.json."""
    path = OUTPUT / "npm.cdx.json"
    done = run("npm", "sbom", "--package-lock-only", "--sbom-format", "cyclonedx")
    path.write_text(done.stdout)
    return _bill(done, path, "npm packages", "an npm that knows `sbom`")


def _bill(done: "subprocess.CompletedProcess[str]", path: Path, what: str, needed: str) -> Finding:
    if done.returncode != 0:
        return Finding(False, f"no bill of materials of the {what}; it needs {needed}: {_last_line(done)}")
    return Finding(True, f"{len(components(path))} {what}: {path.relative_to(ROOT)}")


def components(path: Path) -> set[tuple[str, str]]:
    """The packages of a bill with their versions, several where it depends on the Python.

    Raises ValueError if it is no CycloneDX document.
    """
    bill = json.loads(path.read_text())
    if bill.get("bomFormat") != "CycloneDX":
        raise ValueError(f"{path} is no CycloneDX document")
    return {(component["name"], component["version"]) for component in bill["components"]}


def python_audit() -> Finding:
    """Known vulnerabilities (OSV) of what is deployed."""
    return audit("Python packages", run("uv", "audit", "--frozen", *not_deployed()))


def npm_audit() -> Finding:
    """Known vulnerabilities (npm's registry) of the tools; none runs in production, so only grave ones fail."""
    return audit("npm packages", run("npm", "audit", "--package-lock-only", "--audit-level", "critical"))


def audit(what: str, done: "subprocess.CompletedProcess[str]") -> Finding:
    """What an audit's command amounts to."""
    if done.returncode == 0:
        return Finding(True, f"nothing is known to be wrong with the {what}")
    if UNREACHABLE.search(done.stdout + done.stderr):
        return Finding(True, f"the {what} were NOT AUDITED: their vulnerability database can't be reached from here")
    return Finding(False, f"the {what} have known vulnerabilities:\n{done.stdout.strip()}\n{_last_line(done)}")


def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A program of this environment, or of the machine; one that takes too long counts as a database out of reach."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(program, path=path)
    if found is None:
        return subprocess.CompletedProcess([program], 127, "", f"{program} is not installed: `make setup` gets it")
    try:
        return subprocess.run(  # noqa: S603 - our own programs and arguments
            [found, *arguments],
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([program], 124, "", "timed out")


def _last_line(done: "subprocess.CompletedProcess[str]") -> str:
    return next((line for line in reversed(done.stderr.strip().splitlines()) if line.strip()), "")


if __name__ == "__main__":
    raise SystemExit(main())
