"""Reads files of others in a child process, which is stopped when it takes more memory or time than it may.

The libraries that read files cannot be bounded from inside: they allocate in one step what a file declares, and some
of their failures end the process. So the process is not ours: the kernel refuses it more memory (``RLIMIT_DATA``) and
stops it after its processor time (``RLIMIT_CPU``), and its parent stops it at the deadline. It gets none of our
credentials. Pipes do not need ``/dev/shm``, which Lambda lacks.

A child reads one file after the other, because importing the libraries takes longer than reading most files.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from multiprocessing import Pipe
from typing import Any

from shared.bounds import MIB, ParserBound
from shared.files.errors import UnreadableFileError

IDLE_CHILDREN = 2
# A child that allocated this share of its memory is replaced, because its libraries keep what they allocated.
SPENT_SHARE = 0.25
# What Python and the libraries read from the environment. Nothing of it is secret.
_VARIABLES = ("LANG", "LD_LIBRARY_PATH", "PATH", "POLARS_MAX_THREADS", "TMPDIR", "TZ")


class ConfinedDefectError(Exception):
    """Error of our own code in a child. The message is the child's stack trace."""


class _LimitReachedError(Exception):
    """Error of a child that took more than it may. The message is a sentence without its subject."""


class _Child:
    """A process that executes one call at a time."""

    def __init__(self) -> None:
        self._connection, other_end = Pipe()
        environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        self._process = subprocess.Popen(  # noqa: S603 - the command is constant
            [sys.executable, "-m", "shared.files.confined_child", str(other_end.fileno())],
            env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[other_end.fileno()],
        )
        other_end.close()
        self.allocated_bytes = 0

    def call(self, function: str, arguments: dict[str, Any], bound: ParserBound) -> dict[str, Any]:
        """Returns the answer. Raises _LimitReachedError."""
        request = {
            "function": function,
            "arguments": arguments,
            "memory_bytes": bound.memory_bytes,
            "seconds": bound.seconds,
        }
        try:
            self._connection.send_bytes(json.dumps(request).encode())
            if not self._connection.poll(bound.deadline):
                raise _LimitReachedError(_too_slow(bound))
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionError):
            ended_by = -self._process.wait()
            raise _LimitReachedError(_too_slow(bound) if ended_by == signal.SIGXCPU else _too_large(bound)) from None
        self.allocated_bytes = answer["allocated_bytes"]
        if "is_out_of_memory" in answer:
            raise _LimitReachedError(_too_large(bound))
        return answer

    def is_alive(self) -> bool:
        """Returns whether the process waits for a call."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends the process, also if it ignores signals."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


_idle: list[_Child] = []
_lock = threading.Lock()


def run_confined(function: str, arguments: dict[str, Any], bound: ParserBound, *, subject: str = "The file ") -> Any:
    """Returns the result of ``module:function`` in a child process. Arguments and result are JSON.

    Raises UnreadableFileError if the function does, or if it takes more memory or time than ``bound`` allows; then the
    message begins with ``subject``.
    """
    child = _idle_child(SPENT_SHARE * bound.memory_bytes) or _Child()
    is_reusable = False
    try:
        answer = child.call(function, arguments, bound)
        is_reusable = True
    except _LimitReachedError as error:
        raise UnreadableFileError(f"{subject}{error}") from None
    finally:
        with _lock:
            is_kept = is_reusable and len(_idle) < IDLE_CHILDREN
            if is_kept:
                _idle.append(child)
        if not is_kept:
            child.stop()
    if "refusal" in answer:
        raise UnreadableFileError(answer["refusal"])
    if "defect" in answer:
        raise ConfinedDefectError(answer["defect"])
    return answer["result"]


def prepare_child(module: str, bound: ParserBound) -> None:
    """Starts a child that has imported a module, so that the next call does not wait for that."""
    run_confined(f"{module}:", {}, bound)


def _idle_child(most_bytes: float) -> _Child | None:
    """Returns a child that waits and has allocated no more than a number of bytes. Others end."""
    while True:
        with _lock:
            child = _idle.pop() if _idle else None
        if child is None or (child.is_alive() and child.allocated_bytes <= most_bytes):
            return child
        child.stop()


def _too_slow(bound: ParserBound) -> str:
    return (
        f"takes more than {min(bound.seconds, bound.deadline)} seconds to read, which is the limit; write it again "
        "with fewer columns, or split it."
    )


def _too_large(bound: ParserBound) -> str:
    return (
        f"takes more than {bound.memory_bytes // MIB:,} MB of memory to read, or breaks the reader; write it again "
        "with fewer columns or shorter values, or split it."
    )
