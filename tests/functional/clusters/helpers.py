"""Helpers that register a cluster and read its stored tokens."""

from typing import Any

import boto3
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream

TOKEN = "a-token-of-the-cluster-1234"


def stored_tokens() -> dict[str, str]:
    ssm = boto3.client("ssm")
    names = [each["Name"] for each in ssm.describe_parameters()["Parameters"]]
    return {name: ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] for name in names}


def register(client: TestClient, upstream: FakeUpstream, **fields: Any) -> Any:
    body = {"ingress_url": upstream.url, "manager_url": upstream.url, "token": TOKEN, **fields}
    return client.post("/clusters", json=body)
