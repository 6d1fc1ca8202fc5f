"""Checks of cdk-nag and cfn-lint, of the settings of stages, and of the imports of each function."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra import package
from infra.groups import FUNCTIONS, FunctionSpec, Layer
from infra.package import BASE, SELECTIONS, export
from infra.settings import stage_settings
from tests.infra.conftest import ROOT, NewApp, Synthesised
from tests.infra.test_definitions import break_language, break_type


def violations(report: dict[str, Any]) -> list[str]:
    return [one["ruleName"] for plugin in report["pluginReports"] for one in plugin["violations"]]


@pytest.mark.parametrize("stage", ["dev", "prod", "foreign"])
def test_a_stage_passes_the_aws_solutions_rules(stage: str, request: pytest.FixtureRequest) -> None:
    synthesised: Synthesised = request.getfixturevalue(stage)
    assert violations(synthesised.report) == []
    reasons = [
        suppression["reason"]
        for stack in synthesised.stacks
        for resource in synthesised.template(stack)["Resources"].values()
        for suppression in resource.get("Metadata", {}).get("cdk_nag", {}).get("rules_to_suppress", [])
    ]
    assert reasons
    assert all(len(reason) > 20 for reason in reasons)


def test_the_rules_refuse_an_open_bucket_and_a_role_with_wildcards(new_app: NewApp) -> None:
    import aws_cdk as cdk
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_s3 as s3

    from infra import nag

    app = new_app()
    stack = cdk.Stack(app, "Careless")
    s3.Bucket(stack, "Open")
    role = iam.Role(stack, "Greedy", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    greedy = iam.PolicyStatement(actions=["s3:*"], resources=["arn:aws:s3:::somebody-elses/*"])
    role.add_to_policy(greedy)
    nag.justify_wildcards(role, [greedy])
    nag.check(app)
    # Some versions of the CDK raise after writing the report.
    with contextlib.suppress(RuntimeError):
        app.synth()
    found = violations(json.loads((Path(app.outdir) / "validation-report.json").read_text()))
    assert any("AwsSolutions-S10" in one for one in found)
    assert any("IAM5[Resource::arn:aws:s3:::somebody-elses/*]" in one for one in found)


def cfn_lint(*arguments: str) -> subprocess.CompletedProcess[str]:
    # W3005: the CDK makes state machines depend on their roles explicitly.
    command = [str(Path(sys.executable).parent / "cfn-lint"), "--ignore-checks", "W3005", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


def test_templates_pass_cfn_lint(dev: Synthesised, prod: Synthesised) -> None:
    done = cfn_lint("--", *(str(stage.file(stack)) for stage in (dev, prod) for stack in stage.stacks))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.row("OP-1")
def test_cfn_lint_reads_the_state_machines_in_templates(prod: Synthesised, tmp_path: Path) -> None:
    damaged = {}
    for name, machine in prod.resources("AWS::StepFunctions::StateMachine").items():
        for damage in (break_type, break_language):
            definition = json.loads(machine["Properties"]["DefinitionString"])
            damage(definition)
            broken = {**machine["Properties"], "DefinitionString": json.dumps(definition)}
            damaged[f"{name}{damage.__name__.title().replace('_', '')}"] = {**machine, "Properties": broken}
    file = tmp_path / "template.json"
    file.write_text(json.dumps({"Resources": damaged}))
    found = json.loads(cfn_lint("--format", "json", "--", str(file)).stdout)
    refused = {one["Location"]["Path"][1] for one in found if one["Rule"]["Id"] == "E3601"}
    assert refused == damaged.keys()


@pytest.mark.row("OP-1")
def test_the_app_packages_the_stage_that_it_synthesises(new_app: NewApp, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra import app

    done: list[tuple[str, str, Path]] = []
    chosen = new_app()
    chosen.node.set_context("stage", "dev")
    monkeypatch.setattr("infra.app.cdk.App", lambda: chosen)
    monkeypatch.setattr(package, "build", lambda folder, stage: done.append(("packaged", stage, folder)))
    monkeypatch.setattr(
        app, "synthesise", lambda _, settings, folder: done.append(("synthesised", settings.stage, folder))
    )
    app.main()
    assert done == [("packaged", "dev", ROOT / "build"), ("synthesised", "dev", ROOT / "build")]

    def fail(*_: object) -> None:
        raise package.PackagingError("uv is not installed")

    monkeypatch.setattr(package, "build", fail)
    with pytest.raises(SystemExit, match="uv is not installed"):
        app.main()


def test_an_unknown_or_missing_stage_is_refused() -> None:
    with pytest.raises(ValueError, match=r"-c stage=local\|dev\|staging\|prod"):
        stage_settings(None, {})
    with pytest.raises(ValueError, match="production"):
        stage_settings("production", {})


def test_an_issuer_without_its_audience_is_refused() -> None:
    with pytest.raises(ValueError, match="oidc_audience"):
        stage_settings("dev", {"oidc_issuer": "https://login.example.com"})


@pytest.mark.row("Y-7")
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tabicl_weights_license": "MIT"}, "belong together"),
        ({"tabicl_weights_sha256": "a" * 64}, "belong together"),
        ({"tabicl_weights_license": "MIT", "tabicl_weights_sha256": "A" * 64}, "what `sha256sum` prints"),
        ({"tabicl_weights_license": "the MIT license", "tabicl_weights_sha256": "a" * 64}, "SPDX identifier"),
    ],
)
def test_weights_without_a_license_or_checksum_that_can_be_compared_are_refused(
    given: dict[str, str], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        stage_settings("dev", given)


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_the_handler_of_a_function_exists(spec: FunctionSpec) -> None:
    module, _, name = spec.handler.rpartition(".")
    path = ROOT / f"{module.replace('.', '/')}.py"
    assert path.is_file()
    assert name == "handler"
    assert "handler" in path.read_text()


# Imports handlers while every package outside the function's layers is hidden, as in Lambda. The emulator cannot check
# this, because its functions use the whole development environment.
IMPORT_ALONE = """
import importlib.metadata, json, re, sys
allowed, modules = json.load(sys.stdin)
normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
owners = importlib.metadata.packages_distributions()
hidden = {module for module, names in owners.items() if not {normal(name) for name in names} & set(allowed)}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{name} is not in the function's layers", name=name)
sys.meta_path.insert(0, Hide())
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        failed[module] = str(error)
print(json.dumps(failed))
"""


@pytest.mark.parametrize(
    "layers", sorted({spec.layers for spec in FUNCTIONS}), ids=lambda layers: "+".join(layers) or BASE
)
def test_functions_import_only_packages_of_their_layers(layers: tuple[Layer, ...]) -> None:
    requirements = [line for name in (BASE, *layers) for line in export(*SELECTIONS[name])]
    allowed = [line.split("==")[0].strip().lower().replace("_", "-") for line in requirements]
    modules = [spec.handler.rpartition(".")[0] for spec in FUNCTIONS if spec.layers == layers]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALONE],
        cwd=ROOT,
        input=json.dumps([allowed, modules]),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_a_token_parameter_that_no_function_may_read_is_refused() -> None:
    overrides = {"default_cluster_token_parameter": "/inference/prod/default_cluster"}
    with pytest.raises(ValueError, match="may read only parameters below /inference/prod/clusters/"):
        stage_settings("prod", overrides)
