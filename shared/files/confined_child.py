"""The child process of ``shared.files.confined``: executes the calls that come through its connection."""

import json
import resource
import sys
import traceback
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from shared.files.errors import UnreadableFileError


def main(descriptor: int) -> None:
    """Serves one parent until its connection ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(descriptor)
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except EOFError:
            return
        _limit(request["memory_bytes"], request["seconds"])
        answer = _answer(request["function"], request["arguments"])
        answer["allocated_bytes"] = _allocated_bytes()
        connection.send_bytes(json.dumps(answer).encode())


def _limit(memory_bytes: int, seconds: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    # Only the soft limits, so that the next call can have others.
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, resource.RLIM_INFINITY))


def _answer(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    module, _, name = function.partition(":")
    try:
        imported = import_module(module)
        return {"result": getattr(imported, name)(**arguments) if name else None}
    except UnreadableFileError as error:
        return {"refusal": str(error)}
    except MemoryError:
        return {"is_out_of_memory": True}
    except Exception:  # noqa: BLE001 - the parent raises it again
        return {"defect": traceback.format_exc()}


def _allocated_bytes() -> int:
    # The sixth number counts the pages of data and stack.
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]))
