"""Fixtures of the tests of chats."""

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream
from tests.functional.chats.helpers import register


@pytest.fixture
def chatting(client: TestClient, upstream: FakeUpstream) -> TestClient:
    """Returns a client of a space with a cluster."""
    register(client, upstream)
    return client
