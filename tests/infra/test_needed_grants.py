"""Finds grants that no functional test needs. The functional tests run first and store what their calls needed."""

import json

import pytest

from tests.fixtures.grants import NEEDED_FILE, Part, unneeded


def test_each_grant_is_needed_by_a_functional_test() -> None:
    if not NEEDED_FILE.exists():
        pytest.skip("the functional tests have not run as a whole: `make test` or `pytest tests/functional`")
    needed = {Part(*each) for each in json.loads(NEEDED_FILE.read_text())}
    assert unneeded(needed=needed) == []
