"""Folders of killed processes go, and those of living ones stay."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.scratch import scratch_folder

_HOLD = """
from shared.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "file").write_text("half")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder() -> Iterator["subprocess.Popen[str]"]:
    """Yields another process with a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.row("EN-3")
def test_what_a_killed_function_left_is_removed_before_the_next_one_measures_the_disk(
    holder: "subprocess.Popen[str]", temporary: Path
) -> None:
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    with scratch_folder():
        assert (left / "file").read_text() == "half", "the other one still runs"
    holder.kill()
    holder.wait()
    assert left.exists()
    with scratch_folder() as folder, scratch_folder():
        assert not left.exists()
        assert folder.exists(), "this process's own"
    assert list(temporary.iterdir()) == []


def test_a_folder_is_removed_after_an_error(temporary: Path) -> None:
    with pytest.raises(KeyError), scratch_folder() as folder:
        raise KeyError(folder)
    assert list(temporary.iterdir()) == []
