"""An emulated AWS in this process, with workers of our app and a boundary between them that injects faults."""

import functools
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from fastapi.testclient import TestClient
from moto import mock_aws

from functions.api import build_api
from shared.clock import utc_now
from shared.resources import Resources
from shared.settings import Settings
from tests.faults.boundary import Boundary
from tests.fixtures.aws import REGION, create_all, settings_for
from tests.fixtures.grants import watched
from tests.fixtures.identity import Issuer
from tests.fixtures.moto import (
    copy_items_when_they_change,
    look_attribute_values_up_directly,
    make_once,
    query_one_partition,
)
from tests.fixtures.upstream import FakeUpstream, served

CLIENTS = ("dynamodb", "s3", "step_functions", "sagemaker", "ssm")
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}


@dataclass
class EmulatedPlatform:
    """An emulated AWS with workers. All clocks are ahead by ``elapsed``, each worker's also by its ``skew``."""

    boundary: Boundary
    settings: Settings
    issuer: Issuer
    upstream: FakeUpstream
    elapsed: timedelta = timedelta()
    _creation_lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> datetime:
        return utc_now() + self.elapsed

    def worker(self, skew: timedelta = timedelta(), **replaced: Any) -> Resources:
        """Returns the clients, stores and clock of one warm function; ``replaced`` are clients by their name."""
        resources = Resources(self.settings, lambda: self.now() + skew, **replaced)
        with self._creation_lock:
            for name in CLIENTS:
                self.boundary.watch(getattr(resources, name))
        return resources

    def client(self, resources: Resources, subject: str, space_id: str | None = None) -> TestClient:
        """Returns a user's HTTP client of one worker."""
        client = TestClient(watched(build_api(resources)))
        client.headers["Authorization"] = f"Bearer {self.issuer.token(subject, expires_in=7200)}"
        if space_id is not None:
            client.headers["X-Space-Id"] = space_id
        return client

    def owner(self, resources: Resources, subject: str = "alice") -> TestClient:
        """Returns the HTTP client of a user with a new space and a cluster."""
        client = self.client(resources, subject)
        client.headers["X-Space-Id"] = client.post("/spaces", json={"name": "Faults", "description": ""}).json()["id"]
        body = {"ingress_url": self.upstream.url, "manager_url": self.upstream.url}
        created = client.post("/clusters", json=body)
        if created.status_code != 201:
            raise RuntimeError(created.text)
        return client


@functools.cache
def _session() -> boto3.Session:
    """Returns one for all platforms: to read the descriptions of AWS's services takes a second."""
    return boto3.Session()


@contextmanager
def emulated_platform(seed: int) -> Iterator[EmulatedPlatform]:
    """Starts an empty platform and stops it after the block."""
    look_attribute_values_up_directly()
    copy_items_when_they_change()
    query_one_partition()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {name: value for name, value in os.environ.items() if name != "AWS_ENDPOINT_URL"}
        stack.enter_context(patch.dict(os.environ, environment | ENVIRONMENT, clear=True))
        stack.enter_context(mock_aws())
        stack.enter_context(patch.object(boto3, "DEFAULT_SESSION", _session()))
        make_once(lambda: create_all(boto3.client))
        issuer = Issuer(folder)
        upstream = stack.enter_context(served(FakeUpstream()))
        boundary = Boundary(seed)
        # So that ordinary texts and lists of columns are objects in S3.
        stack.enter_context(patch("shared.dynamodb.large_values.INLINE_BYTES", 100))
        stack.enter_context(patch("shared.connectors.catalog.INLINE_COLUMNS_BYTES", 100))
        stack.enter_context(boundary.without_pauses())
        settings = settings_for(issuer).model_copy(
            update={"allow_loopback": True, "email_sender": "invites@example.com"}
        )
        yield EmulatedPlatform(boundary, settings, issuer, upstream)
