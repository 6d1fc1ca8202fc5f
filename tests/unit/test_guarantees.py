"""docs/guarantees.md names tests that exist, at least one for each promise."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"


def promises() -> list[str]:
    """Returns the rows of the page's tables."""
    lines = PAGE.read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| Promise")]


@pytest.mark.row("EN-6")
def test_every_promise_names_tests_that_exist() -> None:
    existing = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(promises()) > 20
    for promise in promises():
        named = set(re.findall(r"`(test_\w+)`", promise))
        assert named, promise
        assert named <= existing, named - existing
