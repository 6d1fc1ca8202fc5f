"""Prepares a fresh SageMaker container and becomes the job: ``python3 functions/jobs/start.py --job train``.

SageMaker sends SIGTERM only to the container's first process. The usual start of AWS's containers, the training
toolkit, runs a script as its child and passes no signal on. So the job replaces this process, which came first.

The channel ``wheels`` has the locked packages, so nothing is fetched. The local stack has no such channel: its jobs use
the packages of its own environment. Only the standard library is imported here, because nothing else is installed yet.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import NoReturn

CODE = Path(__file__).resolve().parents[2]
STOPPED = "The job was stopped before its start."


def main() -> NoReturn:
    """Installs the packages and runs the job that the command line names."""
    signal.signal(signal.SIGTERM, _stop)
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", required=True, choices=("train", "evaluate", "predict", "decide"))
    job = parser.parse_args().job
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    wheels = base / "input" / "data" / "wheels"
    python = _install(base, wheels) if wheels.is_dir() else sys.executable
    os.chdir(CODE)
    # A signal waits until the job can handle it. The kernel drops signals that a first process does not handle.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    variables = _own_variables()
    if job != "train":
        # Networks are scored row by row: numpy's threads would only wait for each other.
        variables.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.execve(python, [python, "-u", "-m", f"functions.jobs.{job}"], variables)  # noqa: S606


def _own_variables() -> dict[str, str]:
    """Returns the environment without the path to the container's packages, which the toolkit sets.

    With it, pip would take a package of the container for installed.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _install(base: Path, channel: Path) -> str:
    """Installs the wheels of ``channel`` into an environment of their own, and returns its Python.

    The container's packages are hidden: LightGBM would import its pandas, which need not fit to our numpy. Only its
    PyTorch is shared, which is too large to ship.
    """
    environment, wheels = base / "environment", base / "wheels"
    python = str(environment / "bin" / "python")
    for archive in channel.iterdir():
        with tarfile.open(archive) as tar:
            tar.extractall(wheels, filter="data")
    venv.create(environment)
    installed = subprocess.run(  # noqa: S603
        # The container's own settings of pip do not apply.
        [sys.executable, "-m", "pip", "--isolated", "--python", python, "install", "--quiet",
         "--disable-pip-version-check", "--no-index", "--no-deps", "--require-hashes", "--only-binary", ":all:",
         "--no-compile", "--find-links", str(wheels), "--requirement", str(CODE / "locked.txt")],
        env=_own_variables(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )  # fmt: skip
    if installed.returncode:
        _end(base, f"The packages of the job cannot be installed: {installed.stderr.strip()[-800:]}", 1)
    _share_torch(environment)
    return python


def _share_torch(environment: Path) -> None:
    """Links the container's PyTorch and what it needs, if there is one, behind the packages of the environment."""
    links = environment / "torch"
    # A container that starts again has the links of its first start.
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir()
    for package in _with_requirements("torch", {}).values():
        for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (links / name).exists():
                (links / name).symlink_to(Path(str(package.locate_file(name))).absolute())
    [packages] = environment.glob("lib/python3*/site-packages")
    (packages / "torch.pth").write_text(f"{links}\n", encoding="utf-8")


def _with_requirements(name: str, found: dict[str, metadata.Distribution]) -> dict[str, metadata.Distribution]:
    """Adds an installed package, and those that it names as its requirements."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return found
    if key not in found:
        found[key] = package
        for requirement in package.requires or ():
            # What only serves an option is left out.
            if "extra ==" not in requirement:
                _with_requirements(re.split(r"[^\w.-]", requirement, maxsplit=1)[0], found)
    return found


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    _end(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")), STOPPED, 128 + number)


def _end(base: Path, reason: str, code: int) -> NoReturn:
    """Reports the reason in the way of ``Container.report_failure``."""
    failure = Path(os.environ.get("FAILURE_FILE") or base / "output" / "failure")
    failure.parent.mkdir(parents=True, exist_ok=True)
    failure.write_text(reason, encoding="utf-8")
    print(reason, file=sys.stderr, flush=True)  # noqa: T201 - the container's log
    raise SystemExit(code)


if __name__ == "__main__":
    main()
