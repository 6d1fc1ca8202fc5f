"""Tests of the settings, layers, snapshots, releases and streaming of the deployed functions."""

import json
import os

import pytest

from infra.groups import AUTHORIZE, FUNCTIONS, GROUPS
from infra.package import ROOT
from shared.settings import Settings
from tests.infra.conftest import Synthesised, function_of


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_the_code_can_read_the_settings_of_each_function(stage: str, request: pytest.FixtureRequest) -> None:
    synthesised: Synthesised = request.getfixturevalue(stage)
    for function in synthesised.properties("AWS::Lambda::Function"):
        variables = function["Environment"]["Variables"]
        known = {name.upper() for name in Settings.model_fields}
        # Variables of Powertools, Pydantic, numpy and the web adapter.
        others = ("OPENBLAS_", "POWERTOOLS_", "PYDANTIC_", "AWS_LWA_", "AWS_LAMBDA_EXEC_WRAPPER", "PORT")
        assert {name for name in variables if not name.startswith(others)} <= known
        plain = {name: value if isinstance(value, str) else "placeholder" for name, value in variables.items()}
        settings = Settings.from_environment(plain)
        assert settings.stage == stage
        assert settings.allow_loopback is (stage == "local")


def test_functions_run_on_arm_with_traces_json_logs_and_a_timeout(prod: Synthesised) -> None:
    for spec in FUNCTIONS:
        function = function_of(prod, spec)
        assert function["Architectures"] == ["arm64"]
        assert function["Runtime"] == "python3.13"
        assert function["TracingConfig"] == {"Mode": "Active"}
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert function["Timeout"] == spec.timeout_seconds
        assert function["Handler"] == (spec.web_server or spec.handler)
    # API Gateway waits at most 29 seconds for a response that it does not stream.
    assert all(spec.timeout_seconds <= 29 for spec in GROUPS if not spec.web_server)


def test_only_functions_that_need_more_layers_have_them(prod: Synthesised) -> None:
    layers = {spec.name: len(function_of(prod, spec)["Layers"]) for spec in FUNCTIONS}
    scan_or_score = {"checkpoints", "connectors", "insights", "predictions", "scan-file", "score-parts"}
    # They compare the customers of all rows.
    finish_runs = {"finish-prediction", "finish-decision-run"}
    decide = {"decide-parts", *finish_runs}
    call_models = {"arguments", "chats", "clusters", "experts", "insights", "models", "personas"}
    copy_tables = {"connectors", "list-scan-files"}
    read_conditions = {"action-groups", "actions", "insights"}
    assert {name for name, count in layers.items() if count > 1} == (
        scan_or_score | decide | call_models | copy_tables | read_conditions
    )
    # The third layer of chats is the web adapter. Scans also copy tables, and connectors list them.
    assert {name for name, count in layers.items() if count > 2} == {
        "chats", "connectors", "insights", "scan-file", *decide,
    }  # fmt: skip


def test_stacks_share_no_layers(prod: Synthesised) -> None:
    for stack in ("api", "workflows"):
        own = prod.resources("AWS::Lambda::LayerVersion", stack)
        for function in prod.properties("AWS::Lambda::Function", stack):
            # AWS's web adapter is an ARN and no reference.
            assert {layer["Ref"] for layer in function["Layers"] if "Ref" in layer} <= set(own)


def test_production_uses_snapshots_and_other_stages_do_not(prod: Synthesised, dev: Synthesised) -> None:
    with_snapshots = [spec for spec in GROUPS if spec.snap_start]
    assert len(with_snapshots) > len(GROUPS) / 2
    for spec in with_snapshots:
        assert function_of(prod, spec)["SnapStart"] == {"ApplyOn": "PublishedVersions"}
        assert "SnapStart" not in function_of(dev, spec)
    aliases = set(prod.resources("AWS::Lambda::Alias", "api"))
    for method in prod.properties("AWS::ApiGateway::Method"):
        assert any(alias in json.dumps(method["Integration"]["Uri"]) for alias in aliases)


@pytest.mark.row("X-15")
def test_production_releases_gradually_and_rolls_back_failing_versions(prod: Synthesised, dev: Synthesised) -> None:
    aliases = prod.resources("AWS::Lambda::Alias")
    groups = prod.resources("AWS::CodeDeploy::DeploymentGroup")
    alarms = prod.resources("AWS::CloudWatch::Alarm", "api")
    assert len(aliases) == len(groups) == len(alarms) == len([*GROUPS, AUTHORIZE])
    watched = []
    for alias in aliases.values():
        update = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        group = groups[update["DeploymentGroupName"]["Ref"]]["Properties"]
        assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
        assert group["AutoRollbackConfiguration"]["Enabled"] is True
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        assert group["AlarmConfiguration"]["Enabled"] is True
        [name] = [one["Name"]["Ref"] for one in group["AlarmConfiguration"]["Alarms"]]
        # The alarm watches the version of the alias.
        [version] = alias["Properties"]["FunctionVersion"]["Fn::GetAtt"][:1]
        assert version in json.dumps(alarms[name]["Properties"]["Metrics"])
        watched.append(name)
    assert sorted(watched) == sorted(alarms)
    assert dev.resources("AWS::CodeDeploy::DeploymentGroup") == dev.resources("AWS::Lambda::Alias") == {}


def test_chats_stream_through_the_web_adapter_except_in_the_local_stage(
    prod: Synthesised, dev: Synthesised, local: Synthesised
) -> None:
    (spec,) = (spec for spec in GROUPS if spec.web_server)
    for stage in (prod, dev):
        function = function_of(stage, spec)
        assert function["Handler"] == "functions/chats/run.sh"
        variables = function["Environment"]["Variables"]
        assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/bootstrap"
        assert variables["AWS_LWA_INVOKE_MODE"] == "response_stream"
        assert any("LambdaAdapterLayerArm64" in json.dumps(layer) for layer in function["Layers"])
        modes = [
            method["Integration"].get("ResponseTransferMode")
            for method in stage.properties("AWS::ApiGateway::Method")
            if method["Integration"].get("TimeoutInMillis") == 900_000
        ]
        assert modes == ["STREAM"] * len(spec.paths)
    assert function_of(local, spec)["Handler"] == "functions.chats.handler.handler"
    assert os.access(ROOT / "functions/chats/run.sh", os.X_OK)


def test_an_external_issuer_replaces_the_user_pool_and_is_a_setting_of_the_functions(foreign: Synthesised) -> None:
    assert foreign.resources("AWS::Cognito::UserPool") == {}
    for function in foreign.properties("AWS::Lambda::Function"):
        assert function["Environment"]["Variables"]["OIDC_ISSUER"] == "https://login.example.com"
        assert function["Environment"]["Variables"]["OIDC_AUDIENCE"] == "inference"
    names = {function["FunctionName"] for function in foreign.properties("AWS::Lambda::Function")}
    assert "inference-dev-authorize" in names
