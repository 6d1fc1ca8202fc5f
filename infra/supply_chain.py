"""Lists the project's packages and checks them for known vulnerabilities: ``python -m infra.supply_chain``.

uv and npm write bills of materials (CycloneDX) of the locked packages below ``build/sbom``, and query the databases of
known vulnerabilities. A third bill lists what Scalar's makers bundled into the scripts of `/docs`. A
vulnerability fails the run. A database that can't be reached is reported but does not.
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
from infra.package import JOB_GROUPS
from infra.scalar_bill import scalar_bill

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "sbom"
SECONDS = 60
# uv and npm print these texts when they can't reach the database.
UNREACHABLE = re.compile(
    r"dns error|error sending request|timed out|audit endpoint returned an error|404 Not Found"
    r"|EAI_AGAIN|ECONNREFUSED|ENOAUDIT|ENOTFOUND|ETIMEDOUT"
)


@dataclass(frozen=True)
class Finding:
    """Result of one step."""

    passed: bool
    message: str


def main() -> int:
    """Runs all steps and returns 0 if all passed."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    findings = [python_bill(), npm_bill(), script_bill(), python_audit(), npm_audit()]
    for finding in findings:
        sys.stdout.write(f"{'ok    ' if finding.passed else 'FAILED'} {finding.message}\n")
    return 0 if all(finding.passed for finding in findings) else 1


def deployed() -> tuple[str, ...]:
    """Returns uv's options that select the deployed packages."""
    return ("--no-dev", *(f"--group={group}" for group in sorted({*Layer, *JOB_GROUPS})))


def not_deployed() -> tuple[str, ...]:
    """Returns the options that exclude all other groups, because uv's audit includes every group by default."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return tuple(f"--no-group={group}" for group in groups if group not in {*Layer, *JOB_GROUPS})


def python_bill() -> Finding:
    """Writes the bill of the deployed Python packages from uv.lock."""
    path = OUTPUT / "python.cdx.json"
    done = run(
        "uv", "export", "--frozen", "--quiet", *deployed(), "--format", "cyclonedx1.5", "--output-file", str(path)
    )
    return _bill(done, path, "deployed Python packages", "a uv that supports `--format cyclonedx1.5`")


def npm_bill() -> Finding:
    """Writes the bill of the npm tools from package-lock.json."""
    path = OUTPUT / "npm.cdx.json"
    done = run("npm", "sbom", "--package-lock-only", "--sbom-format", "cyclonedx")
    path.write_text(done.stdout)
    return _bill(done, path, "npm packages", "an npm that supports `sbom`")


def script_bill() -> Finding:
    """Writes the bill of the packages in Scalar's scripts, which users' browsers run on ``/docs``."""
    path = OUTPUT / "scalar.cdx.json"
    try:
        path.write_text(json.dumps(scalar_bill(ROOT), indent=2))
    except FileNotFoundError as error:
        return Finding(False, f"no bill of materials of Scalar: {error.filename} is missing; run `make setup`")
    return Finding(True, f"{len(components(path))} packages in Scalar's scripts: {path.relative_to(ROOT)}")


def _bill(done: "subprocess.CompletedProcess[str]", path: Path, what: str, needed: str) -> Finding:
    if done.returncode != 0:
        return Finding(False, f"no bill of materials of the {what}, which needs {needed}: {_last_line(done)}")
    return Finding(True, f"{len(components(path))} {what}: {path.relative_to(ROOT)}")


def components(path: Path) -> set[tuple[str, str]]:
    """Returns the names and versions of the packages in a bill. An unknown version is empty.

    Raises ValueError if the file is not a CycloneDX document.
    """
    bill = json.loads(path.read_text())
    if bill.get("bomFormat") != "CycloneDX":
        raise ValueError(f"{path} is not a CycloneDX document")
    return {(component["name"], component.get("version", "")) for component in bill["components"]}


def python_audit() -> Finding:
    """Checks the deployed Python packages for known vulnerabilities (OSV)."""
    return audit("Python packages", run("uv", "audit", "--frozen", *not_deployed()))


def npm_audit() -> Finding:
    """Checks the npm tools for critical vulnerabilities (npm's registry), because none runs in production."""
    return audit("npm packages", run("npm", "audit", "--package-lock-only", "--audit-level", "critical"))


def audit(what: str, done: "subprocess.CompletedProcess[str]") -> Finding:
    """Returns the finding that the result of an audit command means."""
    if done.returncode == 0:
        return Finding(True, f"the {what} have no known vulnerabilities")
    if UNREACHABLE.search(done.stdout + done.stderr):
        return Finding(True, f"the {what} were NOT AUDITED: their vulnerability database can't be reached from here")
    return Finding(False, f"the {what} have known vulnerabilities:\n{done.stdout.strip()}\n{_last_line(done)}")


def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program of this environment or of PATH. The result of a timeout matches UNREACHABLE."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(program, path=path)
    if found is None:
        return subprocess.CompletedProcess([program], 127, "", f"{program} is not installed: run `make setup`")
    try:
        return subprocess.run(  # noqa: S603 - programs and arguments are constants
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
