"""Generated requests against our own OpenAPI document: no answer is a defect, and each is one the document promises."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from functions.api import build_api
from shared.aws.resources import Resources
from shared.settings import Settings
from tests.fixtures.identity import Issuer
from tests.fixtures.upstream import FakeUpstream, served, well_behaved

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
DEFINITION = '{"StartAt":"A","States":{"A":{"Type":"Succeed"}}}'


app = build_api()
schema = schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream(script=well_behaved)) as upstream:
        yield upstream


@pytest.fixture
def headers(aws: None, settings: Settings, issuer: Issuer, upstream: FakeUpstream) -> dict[str, str]:
    """Those of a signed-in owner of one space, in an AWS of its own."""
    machines = boto3.client("stepfunctions")
    arns = {
        f"{name}_state_machine_arn": machines.create_state_machine(
            name=name, definition=DEFINITION, roleArn="arn:aws:iam::123456789012:role/workflows"
        )["stateMachineArn"]
        for name in ("training", "evaluation", "scan")
    }
    secret = boto3.client("secretsmanager").create_secret(Name="webhooks", SecretString="whsec_c2VjcmV0LXNlY3JldC0=")
    more = {"webhook_secret_arn": secret["ARN"], "default_cluster_url": upstream.url, "allow_loopback": True}
    app.state.resources = Resources(settings.model_copy(update={**arns, **more}))
    signed_in = {"Authorization": f"Bearer {issuer.token('alice', expires_in=3600)}"}
    space = TestClient(app, headers=signed_in).post("/spaces", json={"name": "Fuzz", "description": ""}).json()
    return {**signed_in, "X-Space-Id": space["id"]}


@schema.parametrize()
@hypothesis_settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_answer_to_a_generated_request_is_a_promised_one(case: Any, headers: dict[str, str]) -> None:
    case.call_and_validate(headers=headers, checks=CHECKS)
