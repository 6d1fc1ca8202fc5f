"""The command that an operator runs after the first deployment, against the local stack."""

import os
import subprocess
import sys

import boto3
import pytest

from infra.local.settings import REGION
from infra.operations.smoke import Smoke
from tests.e2e.conftest import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def session(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    for name, value in stack.settings.aws_environment().items():
        monkeypatch.setenv(name, value)
    return boto3.Session(region_name=REGION)


@pytest.mark.row("OP-6")
def test_the_smoke_command_passes_every_check_and_leaves_no_user(stack: Stack) -> None:
    command = [sys.executable, "-m", "infra.operations", "smoke", "--stage", "local", "--url", stack.url]
    done = subprocess.run(
        command, env={**os.environ, **stack.settings.aws_environment()}, capture_output=True, text=True, timeout=550
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == ["passed"] * 9, done.stdout
    users = stack.aws("cognito-idp").list_users(UserPoolId=stack.outputs["UserPoolId"])["Users"]
    assert not [user for user in users if user["Username"].startswith("smoke-")]


def test_a_broken_stage_fails_its_checks_and_what_was_made_is_deleted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.plan_fault(kind="kill", job_name_prefix="training-", count=20)
    lines: list[str] = []
    try:
        smoke = Smoke(session(stack, monkeypatch), "local", 120.0, stack.url, report=lines.append)
        outcomes = {one.check: one for one in smoke.run()}
    finally:
        stack.clear_faults()

    assert outcomes["a model trains on a CPU"].status == "FAILED"
    assert "is failed" in outcomes["a model trains on a CPU"].note
    assert outcomes["a decision uses the model"].status == "not run"
    assert outcomes["what was made is deleted"].status == "passed"
    assert len(lines) == len(outcomes)


def test_a_stage_that_is_not_there_is_named(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = Smoke(session(stack, monkeypatch), "nowhere", report=lambda _: None).run()
    assert [one.status for one in outcomes] == ["FAILED", *["not run"] * 8]
    assert "nowhere is not deployed" in outcomes[0].note
