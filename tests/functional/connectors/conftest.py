"""Fixtures of the tests of connectors."""

from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.connectors import Lab


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Returns settings under which no connector may point at this machine, as in a deployed stage."""
    return settings.model_copy(update={"allow_loopback": False})


@pytest.fixture
def lab(client: TestClient, resources: Resources) -> Lab:
    return Lab(client, resources)


@pytest.fixture
def customer_bucket(aws: None) -> Any:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="customer")
    return s3
