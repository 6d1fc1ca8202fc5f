"""An AWS in this process with everything between us and it in the drill's hands, and workers of our app in it."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import boto3
from fastapi.testclient import TestClient
from moto import mock_aws

from functions.api import build_api
from shared.aws.clock import utc_now
from shared.aws.resources import Resources
from shared.settings import Settings
from tests.drills.boundary import Boundary
from tests.fixtures.aws import (
    BUCKET,
    LOGS_TABLE,
    REGION,
    TABLE,
    create_logs_table,
    create_state_machines,
    create_table,
    state_machine_arn,
)
from tests.fixtures.identity import AUDIENCE, ISSUER, Issuer
from tests.fixtures.upstream import FakeUpstream, served

CLIENTS = ("dynamodb", "s3", "step_functions", "sagemaker", "ssm")
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}


@dataclass
class World:
    """``later`` has been let pass; each worker's clock is off by its own ``skew``."""

    boundary: Boundary
    settings: Settings
    issuer: Issuer
    upstream: FakeUpstream
    later: timedelta = timedelta()
    _making: threading.Lock = field(default_factory=threading.Lock)

    def worker(self, skew: timedelta = timedelta()) -> Resources:
        """What one warm function holds: AWS clients of its own, and its clock."""
        resources = Resources(self.settings, lambda: utc_now() + self.later + skew)
        with self._making:
            for name in CLIENTS:
                self.boundary.watch(getattr(resources, name))
        return resources

    def client(self, resources: Resources, subject: str, space_id: str | None = None) -> TestClient:
        """A user's requests to one worker."""
        client = TestClient(build_api(resources))
        client.headers["Authorization"] = f"Bearer {self.issuer.token(subject, expires_in=7200)}"
        if space_id is not None:
            client.headers["X-Space-Id"] = space_id
        return client

    def owner(self, resources: Resources, subject: str = "alice") -> TestClient:
        """The owner of a space of their own, with a cluster."""
        client = self.client(resources, subject)
        client.headers["X-Space-Id"] = client.post("/spaces", json={"name": "Drill", "description": ""}).json()["id"]
        body = {"ingress_url": self.upstream.url, "manager_url": self.upstream.url}
        created = client.post("/clusters", json=body)
        if created.status_code != 201:
            raise RuntimeError(created.text)
        return client


@contextmanager
def emulated(seed: int) -> Iterator[World]:
    """A new, empty world."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {name: value for name, value in os.environ.items() if name != "AWS_ENDPOINT_URL"}
        stack.enter_context(patch.dict(os.environ, environment | ENVIRONMENT, clear=True))
        stack.enter_context(mock_aws())
        stack.enter_context(patch.object(boto3, "DEFAULT_SESSION", boto3.Session()))
        dynamodb = boto3.client("dynamodb")
        create_table(dynamodb)
        create_logs_table(dynamodb)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        boto3.client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        create_state_machines(boto3.client("stepfunctions"))
        issuer = Issuer(folder)
        upstream = stack.enter_context(served(FakeUpstream()))
        boundary = Boundary(seed)
        stack.enter_context(boundary.without_pauses())
        yield World(boundary, _settings(issuer), issuer, upstream)


def _settings(issuer: Issuer) -> Settings:
    return Settings(
        stage="test",
        table_name=TABLE,
        bucket_name=BUCKET,
        logs_table_name=LOGS_TABLE,
        oidc_issuer=ISSUER,
        oidc_audience=AUDIENCE,
        oidc_jwks_url=issuer.jwks_url,
        parameter_prefix="/inference/test",
        training_state_machine_arn=state_machine_arn("training"),
        evaluation_state_machine_arn=state_machine_arn("evaluation"),
        scan_state_machine_arn=state_machine_arn("connector-scan"),
        training_image_cpu="images.test/cpu:1",
        allow_loopback=True,
        admission_seconds=0,
        cluster_state_seconds=0,
    )
