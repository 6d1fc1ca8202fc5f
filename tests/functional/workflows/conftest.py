"""Fixtures of the tests of workflows."""

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.resources import Resources
from tests.fixtures.connectors import Lab


@pytest.fixture
def lab(client: TestClient, resources: Resources) -> Lab:
    return Lab(client, resources)


@pytest.fixture
def customer_bucket(aws: None) -> object:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="customer")
    return s3
