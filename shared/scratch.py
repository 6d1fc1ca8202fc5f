"""Folders on the disk for the time of a call.

Lambda stops a function that takes too long or too much memory, and keeps its disk for the next call. So each call first
removes the folders of processes that have ended. A process holds a lock of its folder, which ends with it.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "inference-scratch-"
_LOCK = ".lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yields an empty folder, and removes it afterwards."""
    _remove_leftovers()
    lock, name = tempfile.mkstemp(prefix=PREFIX, suffix=_LOCK)
    folder = Path(name).with_suffix("")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def is_disk_full(error: OSError) -> bool:
    """Returns whether the disk has no space left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _remove_leftovers() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if folder.suffix != _LOCK and not _is_in_use(folder):
            _remove(folder)


def _is_in_use(folder: Path) -> bool:
    try:
        lock = os.open(folder.with_suffix(_LOCK), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(_LOCK).unlink(missing_ok=True)
