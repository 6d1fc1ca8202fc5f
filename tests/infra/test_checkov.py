"""checkov finds nothing in production's templates that has no reason, in addition to cdk-nag and cfn-lint."""

import json
import os
import subprocess

import pytest

from tests.fixtures.environments import environment
from tests.infra.conftest import Synthesised

CHECKOV = "checkov==3.3.30\n"
# For each check, the beginning of the resources that may fail it, and the reason.
EXCEPTIONS = {
    "CKV_AWS_18": ("AWS::S3::Bucket.AccessLogs", "Access logs go to this bucket."),
    "CKV_AWS_21": ("AWS::S3::Bucket.AccessLogs", "Access logs are written once, and expire after 90 days."),
    "CKV_AWS_27": ("AWS::SQS::Queue.", "SQS encrypts with its own keys, which checkov does not count."),
    "CKV_AWS_59": ("AWS::ApiGateway::Method.Api", "Documentation is public, and webhooks check signatures."),
    "CKV_AWS_73": ("AWS::ApiGateway::Stage.", "Its traces would hold upload tokens. Functions make their own traces."),
    "CKV_AWS_115": ("AWS::Lambda::Function.", "A limit reserves a part of the account's concurrency, used or not."),
    "CKV_AWS_116": ("AWS::Lambda::Function.", "Asynchronous calls and streams have failure queues of their sources."),
    "CKV_AWS_117": ("AWS::Lambda::Function.", "Functions call AWS and servers in the internet, which a VPC hinders."),
    "CKV_AWS_120": ("AWS::ApiGateway::Stage.", "Answers are private to a space, so that a cache must not keep them."),
    "CKV_AWS_158": (
        "AWS::Logs::LogGroup.",
        "CloudWatch encrypts with its own keys; logs hold no content of customers.",
    ),
    "CKV_AWS_173": ("AWS::Lambda::Function.", "Variables hold names of resources. Secrets are in Secrets Manager."),
}
SECONDS = 240


@pytest.mark.timeout(SECONDS + 60)
def test_checkov_finds_exactly_the_exceptions_that_have_a_reason(prod: Synthesised) -> None:
    program = environment("checkov", CHECKOV) / "checkov"
    command = [str(program), "--framework", "cloudformation", "--directory", str(prod.folder), "--skip-download"]
    done = subprocess.run(
        [*command, "--quiet", "--compact", "--output", "json"],
        env={**os.environ, "LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    # A report about nothing would have no findings, too.
    assert report["summary"]["resource_count"] > 400
    failed = [(one["check_id"], one["resource"]) for one in report["results"]["failed_checks"]]
    assert [
        (check, resource)
        for check, resource in failed
        if check not in EXCEPTIONS or not resource.startswith(EXCEPTIONS[check][0])
    ] == []
    assert set(EXCEPTIONS) - {check for check, _ in failed} == set()
