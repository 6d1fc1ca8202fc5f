"""What reading one input of somebody else may cost: one table for all parsers.

``docs/limits.md`` shows the table. ``tests/fixtures/hostile_inputs`` makes the worst inputs of each kind, and tests
measure that they stay within it.
"""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class ParserBound:
    """Bound of one kind of input.

    ``memory_bytes`` is what reading takes beyond the libraries' own memory, and ``seconds`` is processor time. If
    ``is_confined``, a child process reads the input, and both are enforced; else they follow from the other limits.
    ``deadline`` is what the wall clock may show, if the child has to share the processor.
    """

    input: str
    memory_bytes: int
    seconds: int
    outcome: str
    deadline: int = 0
    is_confined: bool = False
    size_bytes: int = 0
    characters: int = 0
    columns: int = 0
    depth: int = 0


_ENTRY = "the file's catalog entry has the error"
_INVALID = "400, which names the field"
_UPSTREAM = "502"
_CONNECTOR = "400, or the connector's error"

# A scan has 3,008 MB. Small files are scanned in groups, so each may take little time only.
SCANNED_FILE = ParserBound(
    "File of a connector, in a scan",
    2_400 * MIB,
    600,
    _ENTRY,
    deadline=800,
    is_confined=True,
    size_bytes=6 << 30,
    columns=10_000,
)
SMALL_SCANNED_FILE = ParserBound(
    "The same, of at most 1 MiB",
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
    "File of a connector, in a preview",
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
    "Workbook of personas",
    640 * MIB,
    20,
    _INVALID,
    deadline=20,
    is_confined=True,
    size_bytes=128 * MIB,
    columns=100,
)
PERSONA_FILE = ParserBound("CSV or JSON of personas", 128 * MIB, 20, _INVALID, size_bytes=128 * MIB, columns=100)
# Lambda accepts events of 6 MB.
REQUEST_BODY = ParserBound("Body of a request", 400 * MIB, 10, "400 or 413", size_bytes=6 * MIB)
ARGUMENT = ParserBound(
    "Text of an argument, with facts of 40,000 characters", 64 * MIB, 5, _INVALID, characters=10_000, depth=16
)
# The chats' function has 15 minutes, and a thread searches long texts.
JUDGED_TEXT = ParserBound("Text that the guard searches for blocked words", 640 * MIB, 60, "413", size_bytes=6 * MIB)
CONDITION = ParserBound(
    "Condition of an action, with a client of 100 KB", 64 * MIB, 5, "it does not hold", characters=1_000, depth=32
)
SCORED_ROW = ParserBound("Value of a row to score", 64 * MIB, 5, "the value counts as missing", size_bytes=6 * MIB)
TOOL_SCHEMA = ParserBound("JSON schema of a tool", 64 * MIB, 5, _INVALID, characters=100_000, depth=100)
MODEL_ANSWER = ParserBound("Answer of a language model's server", 400 * MIB, 10, _UPSTREAM, size_bytes=16 * MIB)
MODEL_EVENT = ParserBound("Event in a stream of such a server", 64 * MIB, 10, _UPSTREAM, size_bytes=MIB)
CLUSTER_METRICS = ParserBound(
    "Metrics of a cluster's server", 64 * MIB, 5, "the cluster's status lacks them", size_bytes=2 * MIB
)
CLUSTER_NODES = ParserBound(
    "Page of a cluster manager's nodes", 700 * MIB, 10, "the manager is `unreachable`", size_bytes=32 * MIB
)
STORAGE_ANSWER = ParserBound(
    "Answer of a customer's S3 endpoint, but files", 400 * MIB, 10, _CONNECTOR, size_bytes=4 * MIB
)
POSTGRES_ANSWER = ParserBound("Answers of a database, but rows", 250 * MIB, 10, _CONNECTOR, size_bytes=16 * MIB)
