"""What reading one input of somebody else may cost: one table for all parsers.

``docs/limits.md`` shows the table. ``tests/fixtures/hostile_inputs`` makes the worst inputs of each kind, and tests
measure that they stay within it.
"""

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class ParserBound:
    """ParserBound of one kind of input.

    ``memory_bytes`` is what reading takes beyond the libraries' own memory, and ``seconds`` is processor time.
    ``is_confined``: a child process reads the input, and both are enforced; otherwise they follow from the other limits.
    """

    input: str
    memory_bytes: int
    seconds: int
    outcome: str
    # What the wall clock may show, for a process that waits or shares the processor.
    deadline: int = 0
    is_confined: bool = False
    size_bytes: int = 0
    characters: int = 0
    columns: int = 0
    items: int = 0
    depth: int = 0


_ENTRY = "the file's catalog entry has the error"
_INVALID = "400, with the field"
_UPSTREAM = "502"

# A scan has 3,008 MB. Small files are scanned in groups, so each may take little time only.
SCANNED_FILE = ParserBound(
    "file of a connector, scanned",
    2_400 * MIB,
    600,
    _ENTRY,
    deadline=800,
    is_confined=True,
    size_bytes=6 * GIB,
    columns=10_000,
)
SMALL_SCANNED_FILE = ParserBound(
    "file of at most 1 MiB, scanned",
    2_400 * MIB,
    30,
    _ENTRY,
    deadline=60,
    is_confined=True,
    size_bytes=MIB,
    columns=10_000,
)
# The connectors' function has 1,769 MB and 29 seconds.
PREVIEWED_FILE = ParserBound(
    "file of a connector, previewed",
    1_280 * MIB,
    12,
    _INVALID,
    deadline=22,
    is_confined=True,
    size_bytes=64 * MIB,
    columns=5_000,
)
# The personas' function has 1,769 MB, and 20 seconds to read all files of a request.
WORKBOOK = ParserBound(
    "workbook of personas (.xlsx)", 640 * MIB, 20, _INVALID, deadline=20, is_confined=True, size_bytes=128 * MIB
)
_REFUSED = "the connector's error, or 502"
# The functions that read answers of others' storages and databases have 512 MB or more.
STORAGE_ANSWER = ParserBound("answer of an own S3 endpoint, but files", 250 * MIB, 10, _REFUSED, size_bytes=4 * MIB)
POSTGRES_ANSWER = ParserBound("answers of a database, but rows", 250 * MIB, 10, _REFUSED, size_bytes=16 * MIB)
TOOL_SCHEMA = ParserBound("JSON schema of a tool", 64 * MIB, 5, _INVALID, characters=100_000, depth=100)
