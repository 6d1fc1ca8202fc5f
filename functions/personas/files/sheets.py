"""Reads the rows of a workbook that a child process has converted to lines of JSON."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, BinaryIO

from functions.personas.files.columns import UnusableCell
from functions.personas.files.limits import UploadLimits
from shared.bounds import WORKBOOK
from shared.files.confined import run_confined
from shared.scratch import scratch_folder

_WRITE_CELLS = "functions.personas.files.workbook:write_cells"


def read_rows(file: BinaryIO, limits: UploadLimits) -> Iterator[tuple[int, list[Any]]]:
    """Yields the number and the cells of each row. Raises UnreadableFileError before the first."""
    with scratch_folder() as folder:
        book, lines = folder / "book", folder / "rows"
        file.seek(0)
        with book.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        arguments = {"source": str(book), "target": str(lines), "limits": asdict(limits)}
        bound = replace(WORKBOOK, deadline=max(1, min(WORKBOOK.deadline, int(limits.seconds))))
        run_confined(_WRITE_CELLS, arguments, bound, subject="")
        book.unlink()  # the disk is small
        with lines.open(encoding="utf-8") as rows:
            for line in rows:
                number, cells = json.loads(line)
                yield number, [UnusableCell(**cell) if isinstance(cell, dict) else cell for cell in cells]
