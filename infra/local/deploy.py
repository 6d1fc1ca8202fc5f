"""Deploys the stage ``local`` of the CDK app to the emulator with the CDK CLI."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from infra.local import inference_server
from infra.local.settings import REGION, ROOT, LocalError, LocalSettings

ReportStep = Callable[[str], None]
Outputs = Mapping[str, str]

ACCOUNT = "000000000000"
BOOTSTRAP_STACK = "CDKToolkit"
STACK_PREFIX = "inference-local-"
# The deployed app consists of these files, without the modules of the local stack.
SOURCES = ("functions", "shared", "infra", "cdk.json", "package-lock.json", "uv.lock")
NOT_SOURCES = ("infra/local", "__pycache__")
SYNTH_SECONDS = 900
DEPLOY_SECONDS = 600
LINES_SHOWN = 25


def deploy(settings: LocalSettings, report: ReportStep) -> Outputs:
    """Deploys the app if its sources have changed, and returns the outputs of its stacks by name."""
    cloud_formation = settings.client("cloudformation")
    record = settings.directory / "deployed.json"
    digest = sources_digest(ROOT, settings)
    deployed = _stack_outputs(cloud_formation)
    if deployed and record.is_file() and json.loads(record.read_text()).get("sources") == digest:
        report("Deployed already: nothing has changed")
        return deployed
    environment = cdk_environment(settings)
    cdk = cdk_command(environment["PATH"])
    assembly = settings.directory / "cdk.out"
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Bootstrapping and packaging are independent, and both mostly wait.
        bootstrapped = pool.submit(_bootstrap, settings, cdk, environment, report)
        report("Packaging the functions and synthesising the CDK app")
        shutil.rmtree(assembly, ignore_errors=True)
        synth = [*cdk, "synth", "--quiet", "--output", str(assembly), *_context(settings)]
        run_step(synth, environment, settings, what="cdk synth", seconds=SYNTH_SECONDS)
        bootstrapped.result()
    report("Deploying the app to the local AWS")
    started = time.monotonic()
    run_step(
        [
            *cdk,
            "deploy",
            "--all",
            "--app",
            str(assembly),
            "--require-approval",
            "never",
            "--method=direct",
            "--concurrency",
            "1",
        ],
        environment,
        settings,
        what="cdk deploy",
        seconds=DEPLOY_SECONDS,
    )
    outputs = _stack_outputs(cloud_formation)
    if not outputs:
        raise LocalError(f"The deployment has no outputs. Its log is {_log(settings, 'cdk deploy')}.")
    record.write_text(json.dumps({"sources": digest, "seconds": round(time.monotonic() - started, 1)}))
    return outputs


def is_deployed(settings: LocalSettings) -> bool:
    """Returns whether the emulator holds an earlier deployment."""
    return bool(_stack_outputs(settings.client("cloudformation")))


def _bootstrap(settings: LocalSettings, cdk: list[str], environment: dict[str, str], report: ReportStep) -> None:
    """Creates the CDK's bootstrap stack if it does not exist."""
    if _stack_exists(settings.client("cloudformation"), BOOTSTRAP_STACK):
        return
    report("Preparing the local account for the CDK")
    bootstrap = [*cdk, "bootstrap", "--app", "", f"aws://{ACCOUNT}/{REGION}"]
    run_step(bootstrap, environment, settings, what="cdk bootstrap", seconds=DEPLOY_SECONDS)


def deployed_outputs(settings: LocalSettings) -> Outputs:
    """Returns the outputs of the deployed app. Raises LocalError if it is not deployed."""
    outputs = _stack_outputs(settings.client("cloudformation"))
    if not outputs:
        raise LocalError("The app is not deployed yet. Wait until make up reports that it is ready.")
    return outputs


def sources_digest(root: Path, settings: LocalSettings) -> str:
    """Returns a hash of the sources and settings of a deployment."""
    digest = hashlib.sha256(f"{_context(settings)} {sys.version}".encode())
    for name in SOURCES:
        path = root / name
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            relative = file.relative_to(root).as_posix()
            if not any(part in relative for part in NOT_SOURCES):
                digest.update(f"{relative}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def cdk_environment(settings: LocalSettings) -> dict[str, str]:
    """Returns the environment variables of the CDK CLI and of the app that it runs."""
    environment = settings.aws_environment()
    return {
        **environment,
        "CDK_DEFAULT_ACCOUNT": ACCOUNT,
        "CDK_DEFAULT_REGION": REGION,
        "CDK_DISABLE_VERSION_CHECK": "1",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")]),
    }


def _context(settings: LocalSettings) -> list[str]:
    values = {
        "stage": "local",
        "aws_endpoint_url": settings.aws_url,
        "webhook_url": f"{settings.api_url}/webhooks",
        **{name.lower(): value for name, value in inference_server.cluster_variables(settings).items()},
    }
    return [argument for name, value in values.items() for argument in ("--context", f"{name}={value}")]


def cdk_command(search_path: str, root: Path = ROOT) -> list[str]:
    """Returns the command of the CDK CLI with the Node of a search path. Raises LocalError if one is missing."""
    node = shutil.which("node", path=search_path)
    script = root / "node_modules/aws-cdk/bin/cdk"
    if node is None:
        raise LocalError("Node is missing, and the CDK needs it. Run: make setup")
    if not script.is_file():
        raise LocalError("The CDK command is not installed. Run: make setup")
    return [node, str(script)]


def run_step(
    command: list[str], environment: dict[str, str], settings: LocalSettings, *, what: str, seconds: int
) -> None:
    """Runs a command. Raises LocalError with the end of its output if it fails or takes too long."""
    log = _log(settings, what)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LocalError(f"{what} took longer than {seconds} s. Its output is in {log}.") from None
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    if code != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise LocalError(f"{what} failed. From {log}:\n" + "\n".join(lines[-LINES_SHOWN:]))


def _log(settings: LocalSettings, what: str) -> Path:
    return settings.directory / "logs" / f"{what.replace(' ', '-')}.log"


def _stack_exists(cloud_formation: Any, name: str) -> bool:
    try:
        stacks = cloud_formation.describe_stacks(StackName=name)["Stacks"]
    except ClientError:
        return False
    return any(stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE") for stack in stacks)


def _stack_outputs(cloud_formation: Any) -> Outputs:
    """Returns the outputs of all stacks of the app, or none unless every stack is complete."""
    outputs: dict[str, str] = {}
    for page in cloud_formation.get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            if not stack["StackName"].startswith(STACK_PREFIX) or stack["StackStatus"] == "DELETE_COMPLETE":
                continue
            if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                return {}
            outputs |= {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    return outputs
