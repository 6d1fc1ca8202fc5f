"""A child process reads files of others. It ends when it takes too much, and nothing else does."""

from dataclasses import replace
from typing import Any

import pytest

from shared.bounds import MIB, SMALL_SCANNED_FILE
from shared.files.confined import ConfinedDefectError, run_confined
from shared.files.errors import UnreadableFileError

BOUND = replace(SMALL_SCANNED_FILE, memory_bytes=200 * MIB, seconds=2, deadline=60)


def call(name: str, **arguments: Any) -> Any:
    return run_confined(f"tests.fixtures.confined_calls:{name}", arguments, BOUND)


def refusal(name: str, **arguments: Any) -> str:
    with pytest.raises(UnreadableFileError) as refused:
        call(name, **arguments)
    return str(refused.value)


@pytest.mark.row("SE-5")
def test_a_call_that_takes_too_much_memory_is_refused() -> None:
    assert call("allocate", size=50 * MIB) == 50 * MIB
    assert "The file takes more than 200 MB of memory" in refusal("allocate", size=400 * MIB)


@pytest.mark.row("SE-5")
def test_a_call_that_takes_too_much_time_is_refused() -> None:
    assert "The file takes more than 2 seconds" in refusal("spin")


def test_a_call_that_waits_forever_is_refused() -> None:
    with pytest.raises(UnreadableFileError, match="takes more than 1 seconds"):
        run_confined("tests.fixtures.confined_calls:sleep", {"seconds": 600}, replace(BOUND, deadline=1))


def test_a_call_that_ends_its_process_is_refused_and_the_next_call_is_made() -> None:
    assert "breaks the reader" in refusal("abort")
    assert call("process")


def test_a_process_takes_one_call_after_the_other() -> None:
    first = call("process")
    assert call("process") == first
    # It is replaced after a call that took a large part of its memory.
    call("allocate", size=150 * MIB)
    call("process")


def test_what_a_reader_refuses_keeps_its_words() -> None:
    assert refusal("refuse", message="Line 3 is wrong.") == "Line 3 is wrong."


def test_a_defect_is_no_refusal() -> None:
    with pytest.raises(ConfinedDefectError, match="a defect"):
        call("fail")


def test_a_child_gets_none_of_our_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    refusal("abort")
    while not set(call("variables")) <= {"LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ"}:
        pytest.fail("the child has other variables")
