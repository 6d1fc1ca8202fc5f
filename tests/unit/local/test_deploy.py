"""Tests of the deployment to the emulator."""

from pathlib import Path

import pytest

from infra.local import deploy, dev_server
from infra.local.settings import LocalError, LocalSettings


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("functions/spaces/routes.py", "shared/errors.py", "infra/app.py", "infra/local/demo.py", "cdk.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_only_a_changed_source_or_port_changes_the_digest_of_a_deployment(checkout: Path) -> None:
    settings = LocalSettings(directory=checkout / ".local")
    before = deploy.sources_digest(checkout, settings)

    (checkout / "infra/local/demo.py").write_text("changed")
    (checkout / "shared/__pycache__").mkdir()
    (checkout / "shared/__pycache__/errors.pyc").write_text("changed")
    assert deploy.sources_digest(checkout, settings) == before

    other_port = LocalSettings(directory=checkout / ".local", aws_port=4999)
    assert deploy.sources_digest(checkout, other_port) != before

    (checkout / "functions/spaces/routes.py").write_text("changed")
    changed = deploy.sources_digest(checkout, settings)
    assert changed != before

    (checkout / "functions/spaces/service.py").write_text("")
    assert deploy.sources_digest(checkout, settings) not in (before, changed)


def test_the_error_of_a_failed_step_contains_the_end_of_its_output(tmp_path: Path) -> None:
    settings = LocalSettings(directory=tmp_path)
    command = ["sh", "-c", "for i in $(seq 100); do echo line $i; done; echo the reason >&2; exit 3"]

    with pytest.raises(LocalError) as caught:
        deploy.run_step(command, settings.aws_environment(), settings, what="cdk deploy", seconds=30)

    assert "cdk deploy failed" in str(caught.value)
    assert str(caught.value).endswith("the reason")
    assert "line 1\n" not in str(caught.value)


def test_a_step_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    settings = LocalSettings(directory=tmp_path)

    with pytest.raises(LocalError, match="longer than 1 s"):
        deploy.run_step(["sleep", "60"], settings.aws_environment(), settings, what="cdk synth", seconds=1)


def test_the_error_of_a_missing_node_or_cdk_names_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"Node is missing.*make setup"):
        deploy.cdk_command(str(tmp_path))

    node = tmp_path / "node"
    node.write_text("#!/bin/sh\n")
    node.chmod(0o755)
    with pytest.raises(LocalError, match=r"CDK command is not installed.*make setup"):
        deploy.cdk_command(str(tmp_path), root=tmp_path)


def test_the_outputs_become_settings_of_the_development_server() -> None:
    pool = {"UserPoolId": "pool", "UserPoolClientId": "client"}
    outputs = {"TableName": "t", "OidcJwksUrl": "http://keys", "ExportsOutputRefX": "x", **pool}

    variables = dev_server.variables(LocalSettings(api_port=9000), outputs)

    assert variables["TABLE_NAME"] == "t"
    assert variables["OIDC_JWKS_URL"] == "http://keys"
    assert variables["WEBHOOK_URL"] == "http://127.0.0.1:9000/webhooks"
    assert (variables["CONSOLE_POOL_ID"], variables["CONSOLE_CLIENT_ID"]) == ("pool", "client")
    assert not any(name.startswith("EXPORTS") for name in variables)
