"""Estimates whether the rows of files fit into the memory, before they are read."""

import json
import resource
import zlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from shared.errors import JobFailedError
from shared.files.errors import UnreadableFileError
from shared.files.magic import GZIP_MAGIC, PARQUET_MAGIC
from shared.files.parquet_footer import row_groups
from shared.propensity.architectures.registry import ARCHITECTURES, names_beyond_memory

# Of a cell, at the peak of a training that holds everything: the table while it is encoded, or the encoded rows and
# what a library makes of them. Up to 19 were measured with numbers and short texts; the rest is for longer texts.
BYTES_A_CELL = 30
# Of the libraries themselves.
BASE_BYTES = 400 << 20
# The rest is for what an estimate misses.
USED_SHARE = 0.8
_SAMPLE_BYTES = 1 << 20
_LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> int:
    """Returns the memory that this process may use: the machine's, or what a container or a limit leaves of it."""
    limits = [_physical_bytes()]
    for path in map(Path, _LIMIT_FILES):
        text = path.read_text().strip() if path.exists() else ""
        if text.isdigit():
            limits.append(int(text))
    limits += [resource.getrlimit(each)[0] for each in (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_RSS)]
    return min(each for each in limits if each > 0)


def free_bytes(processes: int = 1) -> float:
    """Returns how much of the memory each of several processes may use for data."""
    return max(0.0, memory_bytes() * USED_SHARE / processes - BASE_BYTES)


def fits(paths: Sequence[Path], architecture: str) -> bool:
    """Returns whether a training of these files fits into the memory as a whole.

    Raises:
        JobFailedError: it doesn't, and the architecture needs that; the message says how many rows would fit.
    """
    cells_that_fit = int(free_bytes() / BYTES_A_CELL)
    sizes = [_size(path) for path in paths]
    rows, columns = sum(rows for rows, _ in sizes), max((columns for _, columns in sizes), default=1)
    if rows * columns <= cells_that_fit:
        return True
    if ARCHITECTURES[architecture].exceeds_memory:
        return False
    most = cells_that_fit // columns
    raise JobFailedError(
        f"The data do not fit into the instance's memory: about {rows:,} rows of {columns:,} columns. With "
        f"{memory_bytes() / 2**30:.1f} GiB about {most:,} such rows fit. Use fewer rows or columns, "
        f"a larger instance, or an architecture that reads larger data from disk: {names_beyond_memory()}."
    )


def _physical_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10
    return 1 << 62


def _size(path: Path) -> tuple[int, int]:
    """Returns about how many rows and columns a file has. A file that can't be read has none: the reader says why."""
    with path.open("rb") as file:
        head = file.read(_SAMPLE_BYTES)
    size = path.stat().st_size
    if head.startswith(PARQUET_MAGIC):
        try:
            return sum(group.rows for group in row_groups(path)), len(pl.read_parquet_schema(path))
        except (UnreadableFileError, pl.exceptions.PolarsError):
            return 0, 1
    if head.startswith(GZIP_MAGIC):
        packed, decoder = len(head), zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            head = decoder.decompress(head, 8 * _SAMPLE_BYTES)
        except zlib.error:
            return 0, 1
        size = size * len(head) // max(packed - len(decoder.unconsumed_tail), 1)
    lines = head.splitlines()
    length = sum(map(len, lines)) / max(len(lines), 1) + 1
    return int(size / length), max(map(_width, lines[:2]), default=1)


def _width(line: bytes) -> int:
    try:
        return len(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return max(map(line.count, (b",", b";", b"\t", b"|"))) + 1
