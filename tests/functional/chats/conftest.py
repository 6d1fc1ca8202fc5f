"""Fixtures of the tests of chats."""

import pytest
from fastapi.testclient import TestClient

from shared.settings import Settings
from tests.fixtures.upstream import FakeUpstream
from tests.functional.chats.helpers import register


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})


@pytest.fixture
def chatting(client: TestClient, upstream: FakeUpstream) -> TestClient:
    """Returns a client of a space with a cluster."""
    register(client, upstream)
    return client
