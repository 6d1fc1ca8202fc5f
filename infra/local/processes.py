"""Starts, checks and stops the processes of the local stack."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.local.settings import HOST, ROOT, LocalError

LOG_LINES_SHOWN = 15


@dataclass(frozen=True)
class Service:
    """The definition of a server of the stack: its command, its port and its health check."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    port: int
    health_path: str
    log: Path
    start_seconds: float = 60.0
    stop_seconds: float = 60.0


class RunningService:
    """A service with a running process."""

    def __init__(self, service: Service) -> None:
        self.service = service
        require_free_port(service.port, service.name)
        service.log.parent.mkdir(parents=True, exist_ok=True)
        with service.log.open("wb") as log:
            self.process = subprocess.Popen(
                service.command,
                cwd=ROOT,
                env=dict(service.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C only reaches the launcher, which then stops its services in order.
                start_new_session=True,
            )

    def wait_until_healthy(self) -> None:
        """Waits for a response with status 200. Raises LocalError with the end of the log on failure."""
        service = self.service
        url = f"http://{HOST}:{service.port}{service.health_path}"
        deadline = time.monotonic() + service.start_seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise LocalError(self.describe_end("ended while starting"))
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=2.0, trust_env=False).status_code == 200:
                    return
            time.sleep(0.1)
        raise LocalError(self.describe_end(f"did not respond at {url} within {service.start_seconds:.0f} s"))

    def describe_end(self, what: str) -> str:
        """Returns a message with the last lines of the log."""
        return f"The {self.service.name} {what}. From {self.service.log}:\n{last_lines(self.service.log)}"

    def stop(self) -> None:
        """Sends SIGTERM to the process, then SIGKILL to its group."""
        stop_group(self.process.pid, self.service.stop_seconds, self.process)


def stop_group(pid: int, seconds: float, process: subprocess.Popen[bytes] | None = None) -> None:
    """Stops a process that leads a process group, then kills the rest of the group."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (process.poll() is not None) if process else not is_alive(pid):
            break
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if process:
        process.wait()


def is_alive(pid: int) -> bool:
    """Returns whether the process exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return True


def last_lines(log: Path, count: int = LOG_LINES_SHOWN) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    return "(no log)"


def require_free_port(port: int, name: str) -> None:
    """Raises LocalError if the port is in use. The message names the process that listens, if it is known."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            owner = port_owner(port)
            by = f" by {owner}" if owner else ""
            variable = {"API": "LOCAL_API_PORT", "SageMaker endpoint": "LOCAL_SAGEMAKER_PORT"}.get(
                name, "LOCAL_AWS_PORT"
            )
            raise LocalError(
                f"Port {port}, which the {name} needs, is in use{by}. "
                f"Stop that process (make down stops an earlier stack), or choose another port with {variable}=…"
            ) from None


def port_owner(port: int) -> str | None:
    """Returns the command and id of the process that listens on the port, or None if they are unknown."""
    if lsof := shutil.which("lsof"):
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            fields = subprocess.run(
                [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            ).stdout.splitlines()
            found = {line[0]: line[1:] for line in reversed(fields) if line}
            if "p" in found:
                return f"{found.get('c', 'process')} (process {found['p']})"
    return _port_owner_from_proc(port)


def _port_owner_from_proc(port: int) -> str | None:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        return f"'{command.strip()[:120]}' (process {folder.name})"
    return None


def free_port() -> int:
    """Returns a port that no process uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
