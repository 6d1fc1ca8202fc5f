"""The command that an operator runs after the first deployment, against the local stack."""

import os
import subprocess
import sys

import pytest

from tests.e2e.conftest import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.row("OP-6")
def test_the_smoke_command_passes_every_check_and_leaves_no_user(stack: Stack) -> None:
    command = [sys.executable, "-m", "infra.operations", "smoke", "--stage", "local", "--url", stack.url]
    done = subprocess.run(
        command, env={**os.environ, **stack.settings.aws_environment()}, capture_output=True, text=True, timeout=550
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == ["passed"] * 11, done.stdout
    users = stack.aws("cognito-idp").list_users(UserPoolId=stack.outputs["UserPoolId"])["Users"]
    assert not [user for user in users if user["Username"].startswith("smoke-")]
