"""Fixtures of the tests of inference logs."""

from collections.abc import Iterator

import boto3
import pytest

from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import LOGS_TABLE, create_logs_table
from tests.fixtures.emulator import emulated_aws
from tests.unit.inference_logs.helpers import NOW, Space


@pytest.fixture(scope="module")
def emulator() -> Iterator[dict[str, str]]:
    with emulated_aws() as environment:
        yield environment


@pytest.fixture
def stores(emulator: dict[str, str], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resources]:
    """Yields stores on the emulator, because moto copies and sorts a whole table at each transaction and query."""
    for name, value in emulator.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("dynamodb")
    create_logs_table(client)
    yield Resources(settings, clock=lambda: NOW)
    client.delete_table(TableName=LOGS_TABLE)


@pytest.fixture
def space(stores: Resources) -> Space:
    return Space(stores)
