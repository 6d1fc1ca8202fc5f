"""Defines the steps of ``make test``. ``nox -l`` lists them; ``nox -s e2e -- -k roles`` runs one of them.

``nox -j 2`` runs lint, format and unit alone. It then runs the end-to-end tests beside the other steps: the local stack
mostly waits, so the other steps use the second processor. Every step runs, also after a failure.
"""

import os
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
TEST_FOLDERS = (ROOT / "tests/unit", ROOT / "tests/functional")

# Functional tests that run on the emulator of the local stack, too, and those that need SageMaker, which it lacks.
ON_BOTH_EMULATORS = (
    "tests/functional/trainings",
    "tests/functional/clients",
    "tests/functional/dynamodb",
    "tests/functional/connectors/test_files.py",
    "tests/functional/connectors/test_scans.py",
)
NEED_SAGEMAKER = (
    "trainings/test_reports.py::test_a_training_without_a_model_has_a_report_of_why",
    "trainings/test_trainings.py::test_a_deleted_running_training_is_not_found_and_its_job_is_stopped",
    "trainings/test_trainings.py::test_a_training_that_is_deleted_before_its_start_gets_the_status_stopped",
)

nox.options.default_venv_backend = "none"
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


@nox.session
def lint(session: nox.Session) -> None:
    """Finds mistakes with ruff."""
    run_module(session, 2, "ruff", "check")


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Checks the formatting."""
    run_module(session, 2, "ruff", "format", "--check")


@nox.session
def unit(session: nox.Session) -> None:
    """Runs the unit and functional tests, and stores which grants they needed for ``infra``."""
    # These tests wait, too: three processes keep two processors busy.
    run_pytest(session, 20, "-n", "3", "tests/unit", "tests/functional")


@nox.session(allow_parallel=True)
def e2e(session: nox.Session) -> None:
    """Runs the end-to-end tests against the local stack."""
    run_pytest(session, 22, "--timeout", "600", "tests/e2e")


@nox.session(allow_parallel=True)
def emulator(session: nox.Session) -> None:
    """Runs functional tests on a second implementation of AWS, so that the code is not built to moto's."""
    left_out = (f"--deselect=tests/functional/{test}" for test in NEED_SAGEMAKER)
    run_pytest(session, 5, "--emulator", *ON_BOTH_EMULATORS, *left_out)


@nox.session(allow_parallel=True)
def types(session: nox.Session) -> None:
    """Checks the types."""
    run_module(session, 15, "mypy")


@nox.session(allow_parallel=True)
def infra(session: nox.Session) -> None:
    """Runs the tests of the CDK app."""
    run_pytest(session, 15, "--timeout", "600", "tests/infra")


@nox.session(allow_parallel=True)
def container(session: nox.Session) -> None:
    """Starts jobs in an environment like SageMaker's, from what a deployment ships."""
    run_pytest(session, 15, "--timeout", "300", "tests/container")


@nox.session(allow_parallel=True)
def contract(session: nox.Session) -> None:
    """Tests the API against its published contract."""
    run_pytest(session, 15, "tests/contract")


@nox.session(allow_parallel=True)
def clients(session: nox.Session) -> None:
    """Runs the client libraries that people use against the API."""
    run_pytest(session, 8, "--timeout", "300", "tests/clients")


@nox.session(name="supply-chain", allow_parallel=True)
def supply_chain(session: nox.Session) -> None:
    """Writes the bills of materials and looks for known vulnerabilities."""
    run_module(session, 4, "infra.supply_chain")


@nox.session(default=False)
def fast(session: nox.Session) -> None:
    """Runs the unit and functional tests of the files that changed since the branch left main."""
    selected = tests_of(changed_files())
    if not selected:
        session.skip("no unit or functional test belongs to the changed files")
    run_pytest(session, 1, "-n", "2", *selected)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Measures the branch coverage of the unit and functional tests; fails below the floor in pyproject.toml."""
    run_pytest(session, 30, "-n", "3", "--cov", "--cov-report", "term:skip-covered", "tests/unit", "tests/functional")


def run_module(session: nox.Session, minutes: int, *command: str) -> None:
    # Without --foreground, the command would not receive an interrupt.
    session.run("timeout", "--foreground", f"{minutes}m", sys.executable, "-m", *command)


def run_pytest(session: nox.Session, minutes: int, *arguments: str) -> None:
    """Runs pytest. At the time limit and after an interrupt, fixtures still stop what they started."""
    pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--session-timeout={60 * minutes}")
    session.run(*pytest, *arguments, *session.posargs, interrupt_timeout=120)


def changed_files() -> list[str]:
    """Returns the files that differ from the commit where the branch left main, and the new files."""

    def git(*arguments: str) -> list[str]:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()

    [base] = git("merge-base", "HEAD", "main") or ["HEAD"]
    return [*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")]


def tests_of(files: list[str]) -> list[str]:
    """Returns the changed test files, and the tests that have the name of a changed source file or of its folder.

    For example, ``functions/insights/scoring.py`` selects ``tests/unit/insights``, ``tests/functional/insights`` and
    every ``test_scoring.py``.
    """
    selected: set[Path] = set()
    for path in (ROOT / file for file in files if file.endswith(".py")):
        top, *names = path.relative_to(ROOT).with_suffix("").parts
        if top in ("functions", "shared", "infra"):
            for folder in TEST_FOLDERS:
                for name in names:
                    selected |= {folder / name, *folder.rglob(f"test_{name}.py")}
        elif path.name.startswith("test_") and any(path.is_relative_to(folder) for folder in TEST_FOLDERS):
            selected.add(path)
    return sorted(str(path.relative_to(ROOT)) for path in selected if path.exists())
