"""Fixtures of the tests of clusters."""

from collections.abc import Iterator

import pytest

from shared.settings import Settings
from tests.fixtures.upstream import FakeUpstream, served


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream()) as upstream:
        yield upstream
