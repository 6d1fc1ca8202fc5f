"""Fixtures of the tests of clusters."""

import pytest

from shared.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})
