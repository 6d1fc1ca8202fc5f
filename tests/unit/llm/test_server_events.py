"""Server-sent events, cut into pieces at every place."""

from typing import Any

import pytest

from shared.llm.completions import BrokenResponseError
from shared.llm.server_events import EventReader

A, B, C = {"a": 1}, {"b": [2]}, {"c": "x"}
STREAMS: dict[str, tuple[bytes, list[Any], bool]] = {
    "line feeds": (b'data: {"a": 1}\n\ndata: {"b": [2]}\n\ndata: [DONE]\n\n', [A, B], True),
    "carriage returns": (b'data: {"a": 1}\r\rdata: {"b": [2]}\r\rdata: [DONE]\r\r', [A, B], True),
    "both": (b'data: {"a": 1}\r\n\r\ndata: {"b": [2]}\r\n\r\ndata: [DONE]\r\n\r\n', [A, B], True),
    "a mixture": (b'data: {"a": 1}\n\r\ndata: {"b": [2]}\r\n\rdata: [DONE]\r\r\n', [A, B], True),
    "a byte order mark": (b'\xef\xbb\xbfdata: {"a": 1}\n\ndata: [DONE]\n\n', [A], True),
    "no space": (b'data:{"a": 1}\n\ndata:[DONE]\n\n', [A], True),
    "several lines": (b'data: {\ndata: "a"\ndata: :1\ndata:}\n\ndata: [DONE]\n\n', [A], True),
    "several lines that look whole": (b'data: {"b": [2], "a": {}\ndata: }\n\n', [{"b": [2], "a": {}}], False),
    "comments": (b': hello\n\n:\ndata: {"a": 1}\n: more\n\n: [DONE]\n\ndata: [DONE]\n\n', [A], True),
    "other fields": (b'id: 1\nretry: 5\nevent: message\nfoo: {"b": [2]}\ndata\ndata:\ndata: {"a": 1}\n\n', [A], False),
    "no empty lines": (b'data: {"a": 1}\ndata: {"b": [2]}\ndata: [DONE]\n', [A, B], True),
    "no last line end": (b'data: {"a": 1}\n\ndata: {"b": [2]}', [A, B], False),
    "no line end after the end": (b'data: {"a": 1}\n\ndata: [DONE]', [A], True),
    "something after the end": (b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"b": [2]}\n\n', [A], True),
    "a cut event": (b'data: {"a": 1}\n\ndata: {"b": [2', [A], False),
    "one JSON text": (b'{"a":\n 1}', [A], False),
    "one JSON text after blanks": (b'\xef\xbb\xbf \r\n\n{"a": 1}\n', [A], False),
    "an error of its own": (b'event: error\ndata: {"message": "no"}\n\n', [{"error": {"message": "no"}}], False),
    "an error in words": (b"event: error\r\ndata: Too busy\r\n\r\n", [{"error": "Too busy"}], False),
    "an error, then none": (b'event: error\ndata: {"error": "no"}\n\ndata: {"a": 1}\n\n', [{"error": "no"}, A], False),
    "a cut character": (
        b'data: {"c": ["\\ud83d"], "d": "\\ud83d"}\n\ndata: {"c": ["\\ude00!"], "d": "?"}\n\ndata: [DONE]\n\n',
        [{"c": ["\N{GRINNING FACE}"], "d": "�"}, {"c": ["!"], "d": "?"}],
        True,
    ),
    "a cut character before an error": (
        b'data: {"c": "\\ud83d"}\n\nevent: error\ndata: {"a": 1}\n\n',
        [{"c": "�"}, {"error": A}],
        False,
    ),
    "a cut character at the end": (b'data: {"c": "\\ud83d"}\n\n', [{"c": "�"}], False),
    "bytes of no text": (b'data: {"c": "x\xff"}\n\n', [{"c": "x�"}], False),
}


def read(content: bytes, size: int) -> tuple[list[Any], bool]:
    reader = EventReader()
    found: list[Any] = []
    for start in range(0, len(content), size):
        if not reader.is_done:
            found += reader.read(content[start : start + size])
    found += reader.close()
    return found, reader.is_done


@pytest.mark.row("GW-2")
@pytest.mark.parametrize("name", STREAMS)
def test_events_are_read_wherever_their_bytes_are_cut(name: str) -> None:
    content, events, is_done = STREAMS[name]
    for size in (1, 2, 3, 5, 7, 1000):
        assert read(content, size) == (events, is_done), size


@pytest.mark.row("GW-2")
def test_an_event_is_read_before_the_empty_line_after_it() -> None:
    assert list(EventReader().read(b'data: {"c": "x"}\n')) == [C]


@pytest.mark.row("GW-2")
@pytest.mark.parametrize(
    "content",
    [
        b"data: <html>\n\n",
        b"data: 5\n\n",
        b"data: [1]\n\n",
        b"data: " + b"[" * 5000 + b"\n\n",
        b'data: {"a":' + b"[" * 30 + b'"\\ud83d"' + b"]" * 30 + b"}\n\n",
    ],
)
def test_an_event_that_is_no_object_is_broken(content: bytes) -> None:
    with pytest.raises(BrokenResponseError):
        read(content, 1000)


@pytest.mark.row("GW-2")
def test_an_event_in_very_many_lines_is_too_large() -> None:
    with pytest.raises(BrokenResponseError, match="too large"):
        read((b"data: " + b"x" * 1000 + b"\n") * 2000, 10_000)
