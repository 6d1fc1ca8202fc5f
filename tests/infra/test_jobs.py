"""How SageMaker's jobs start: their container, their packages, their keys and their network."""

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from functions.trainings.prices import HOURLY
from infra import package, settings
from infra.groups import Layer, Workflow
from infra.settings import STAGES
from shared.jobs.instances import instance_types
from shared.settings import Settings
from tests.infra.conftest import Synthesise, Synthesised, all_statements, listed
from tests.infra.test_definitions import MACHINES, NO_CAPACITY, PREPARED, SUBSTITUTED, TRAIN, Engine, TaskFailed, engine

__all__ = ["engine"]

NOTICE = timedelta(days=60)
LAMBDA_PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(34, 16, -1)] + ["manylinux2014_aarch64"]


def job_states(stage: Synthesised, kind: str = "Training") -> Iterator[dict[str, Any]]:
    """Yields the arguments of each state that starts a job, with the substitutions that its machine makes."""
    for machine in stage.properties("AWS::StepFunctions::StateMachine"):
        text = re.sub(r"\$\{(Job\w+)\}", lambda found: f"<{found[1]}>", machine["DefinitionString"])
        for state in json.loads(text)["States"].values():
            if f"sagemaker:create{kind}Job" in state.get("Resource", ""):
                missing = set(re.findall(r"<(Job\w+)>", json.dumps(state))) - set(machine["DefinitionSubstitutions"])
                assert not missing
                yield state.get("Arguments") or state["Parameters"]


def test_the_containers_get_security_patches_for_two_more_months() -> None:
    left = settings.IMAGES_PATCHED_UNTIL - datetime.now(UTC).date()
    assert left > NOTICE, (
        f"AWS patches the training containers for {left.days} more days. Take the newest tags of "
        "https://aws.github.io/deep-learning-containers/reference/available_images/ into infra/settings.py, with "
        "their end of patch, and their Python into infra/package.py."
    )


# --- packages


def wheels_of(python: str, platforms: list[str]) -> dict[str, set[str]]:
    """Returns the versions of each locked package that this Python can install as wheels."""
    version = tuple(map(int, python.split(".")))
    tags: set[Tag] = {
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, f"cp{''.join(python.split('.'))}", platforms),
    }
    found: dict[str, set[str]] = {}
    for each in tomllib.loads((package.ROOT / "uv.lock").read_text())["package"]:
        names = [wheel["url"].rpartition("/")[2].replace("%2B", "+") for wheel in each.get("wheels", [])]
        if any(tags & parse_wheel_filename(name)[3] for name in names):
            found.setdefault(canonicalize_name(each["name"]), set()).add(each["version"])
    return found


@pytest.mark.row("OP-5")
def test_each_package_of_jobs_has_a_wheel_with_a_hash_for_the_containers() -> None:
    wheels = wheels_of(package.JOB_PYTHON_VERSION, list(package.JOB_PLATFORMS))
    exported = list(package.for_python(package._exported(*package.JOB_SELECTION), package.JOB_PYTHON_VERSION))
    assert {"xgboost", "lightgbm", "polars"} <= {Requirement(line.split(" --hash")[0]).name for line in exported}
    for line in exported:
        requirement = Requirement(line.partition(" --hash=sha256:")[0])
        assert " --hash=sha256:" in line
        assert any(requirement.specifier.contains(one) for one in wheels.get(canonicalize_name(requirement.name), ()))
    # NCCL serves machines with several GPUs, and the container has its own.
    assert not [line for line in exported if "nccl" in line]


@pytest.mark.row("OP-2")
@pytest.mark.parametrize("layer", [package.BASE, *Layer])
def test_each_package_of_a_layer_has_a_wheel_for_lambdas_processors(layer: str) -> None:
    wheels = wheels_of(package.PYTHON_VERSION, LAMBDA_PLATFORMS)
    target = {"python_full_version": f"{package.PYTHON_VERSION}.0", "python_version": package.PYTHON_VERSION,
              "platform_machine": "aarch64", "sys_platform": "linux"}  # fmt: skip
    needed = [Requirement(line) for line in package.export(*package.SELECTIONS[layer])]
    for requirement in needed:
        if requirement.marker and not requirement.marker.evaluate(target):
            continue
        versions = wheels.get(canonicalize_name(requirement.name), set())
        assert any(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.row("BD-5")
def test_the_machines_of_a_run_share_its_tasks_and_get_the_code(deployed: Synthesised) -> None:
    jobs = list(job_states(deployed, "Processing"))
    assert len(jobs) == 2
    for job in jobs:
        inputs = {one["InputName"]: one["S3Input"] for one in job["ProcessingInputs"]}
        assert (inputs["code"]["S3Uri"], inputs["wheels"]["S3Uri"]) == ("<JobSource>", "<JobWheels>")
        distributions = {name: one["S3DataDistributionType"] for name, one in inputs.items()}
        assert distributions == {"code": "FullyReplicated", "wheels": "FullyReplicated", "tasks": "ShardedByS3Key"}
        assert "VpcConfig" not in json.dumps(job)
        keyed = bool(deployed.resources("AWS::KMS::Key"))
        assert ("VolumeKmsKeyId" in job["ProcessingResources"]["ClusterConfig"]) == keyed
        entrypoint = job["AppSpecification"]["ContainerEntrypoint"]
        assert all(len(part) <= 256 for part in entrypoint)
        assert f"{job['Environment']['SAGEMAKER_BASE_DIR']}/input/data/code" in entrypoint[2]


def test_markers_are_those_of_the_containers_python() -> None:
    exported = (
        "scipy==1.17.1 ; python_full_version < '3.12' \\\n    --hash=sha256:aa\n"
        "scipy==1.18.1 ; python_full_version >= '3.12' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "nccl==2 ; sys_platform == 'never'\n"
    )
    assert list(package.for_python(exported, "3.12")) == ["scipy==1.18.1 --hash=sha256:bb --hash=sha256:cc"]
    assert list(package.for_python(exported, "3.11")) == ["scipy==1.17.1 --hash=sha256:aa"]


# --- templates


@pytest.mark.row("OP-5")
def test_each_job_gets_its_code_and_its_packages_and_may_read_them(deployed: Synthesised) -> None:
    jobs = list(job_states(deployed))
    assert len(jobs) == 2
    for job in jobs:
        channels = {one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"] for one in job["InputDataConfig"]}
        assert (channels["code"], channels["wheels"]) == ("<JobSource>", "<JobWheels>")
        # AWS's own start would install packages from the internet, and forward no signals.
        assert "exec python3" in job["AlgorithmSpecification"]["ContainerEntrypoint"][2]
    description = "Permissions of SageMaker jobs"
    [role] = [one for one in deployed.properties("AWS::IAM::Role") if one.get("Description") == description]
    readable = json.dumps([one["Resource"] for one in role["Policies"][0]["PolicyDocument"]["Statement"]])
    [machine, *_] = [
        one
        for one in deployed.properties("AWS::StepFunctions::StateMachine")
        if "JobWheels" in one["DefinitionSubstitutions"]
    ]
    for archive in ("JobSource", "JobWheels"):
        uri = json.dumps(machine["DefinitionSubstitutions"][archive])
        [key] = re.findall(r"/([0-9a-f]{64}\.\w+)", uri)
        assert key in readable


def test_volumes_are_encrypted_with_the_key_of_the_stage_where_sagemaker_can(deployed: Synthesised) -> None:
    keyed = bool(deployed.resources("AWS::KMS::Key"))
    for job in job_states(deployed):
        resources = json.dumps(job["ResourceConfig"])
        assert ("VolumeKmsKeyId" in resources) == keyed
        assert "ml.g" not in resources
        assert ("ml.m5.2xlarge" in resources) == keyed
    granting = [one for one in all_statements(deployed) if "kms:CreateGrant" in listed(one["Action"])]
    assert len(granting) == keyed
    assert all(one["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}} for one in granting)


@pytest.fixture(scope="module")
def isolated(synthesise: Synthesise) -> Synthesised:
    return synthesise("prod", job_network="isolated")


def test_jobs_of_an_isolated_network_have_no_way_to_the_internet(isolated: Synthesised) -> None:
    for kind in ("InternetGateway", "NatGateway", "EgressOnlyInternetGateway", "VPCPeeringConnection", "Route"):
        assert isolated.resources(f"AWS::EC2::{kind}") == {}
    jobs = list(job_states(isolated))
    assert len(jobs) == 2
    for job in jobs:
        assert job["VpcConfig"] == {
            "Subnets": ["<JobSubnet0>", "<JobSubnet1>"], "SecurityGroupIds": ["<JobSecurityGroup>"]
        }  # fmt: skip
    runs = list(job_states(isolated, "Processing"))
    assert [run["NetworkConfig"]["VpcConfig"] for run in runs] == [jobs[0]["VpcConfig"]] * 2
    # What jobs call: S3, the table, the roles of customers, and their stored secrets.
    services = [json.dumps(one["ServiceName"]) for one in isolated.properties("AWS::EC2::VPCEndpoint")]
    assert sorted(re.findall(r"\.(dynamodb|s3|sts|ssm|secretsmanager)\"", " ".join(services))) == [
        "dynamodb", "s3", "secretsmanager", "ssm", "sts"
    ]  # fmt: skip


def test_an_isolated_network_lets_jobs_write_to_the_bucket_of_the_stage_only(isolated: Synthesised) -> None:
    gateways = [one for one in isolated.properties("AWS::EC2::VPCEndpoint") if one["VpcEndpointType"] == "Gateway"]
    [files] = [one for one in gateways if "s3" in json.dumps(one["ServiceName"])]
    [items] = [one for one in gateways if one is not files]
    assert "Entities" in json.dumps([one["Resource"] for one in items["PolicyDocument"]["Statement"]])
    writing = [
        listed(one["Resource"])
        for one in files["PolicyDocument"]["Statement"]
        if not all(action.startswith(("s3:Get", "s3:List")) for action in listed(one["Action"]))
    ]
    assert len(writing) == 1
    assert all(resource != "*" and "Files" in json.dumps(resource) for resource in writing[0])


def test_instances_of_a_training_reach_each_other_and_nothing_else_reaches_them(isolated: Synthesised) -> None:
    groups = isolated.resources("AWS::EC2::SecurityGroup")
    [jobs] = [name for name, one in groups.items() if one["Properties"]["GroupDescription"] == "SageMaker jobs"]
    into = [one for one in isolated.properties("AWS::EC2::SecurityGroupIngress") if jobs in json.dumps(one["GroupId"])]
    assert "SecurityGroupIngress" not in groups[jobs]["Properties"]
    assert len(into) == 1
    assert (into[0]["IpProtocol"], into[0]["GroupId"]) == ("-1", into[0]["SourceSecurityGroupId"])
    out = [
        one
        for one in isolated.properties("AWS::EC2::SecurityGroupEgress")
        if one["GroupId"] == one.get("DestinationSecurityGroupId") == into[0]["GroupId"]
    ]
    assert [one["IpProtocol"] for one in out] == ["-1"]


def test_what_instances_of_a_training_send_each_other_is_encrypted(deployed: Synthesised) -> None:
    for job in job_states(deployed):
        assert job["EnableInterContainerTrafficEncryption"] == "{% $job.instance_count > 1 %}"


def test_stages_have_no_network_of_their_own_unless_asked(deployed: Synthesised) -> None:
    assert deployed.resources("AWS::EC2::VPC") == {}
    assert all("VpcConfig" not in job for job in job_states(deployed))


@pytest.mark.parametrize("types", [["ml.g5.2xlarge", "ml.m5.2xlarge"], ["ml.m5.2xlarge"]])
def test_only_machines_without_own_disks_get_the_volume_key(engine: Engine, types: list[str]) -> None:
    found = [
        {**TRAIN, "next": "run", "job_name": one, "search": {"instance_type": one, "spot": False}} for one in types
    ]
    gave_up = {**TRAIN, "next": "fail", "error": "Capacity", "cause": NO_CAPACITY, "search": found[0]["search"]}
    decisions = iter([*found, gave_up])

    def refuse(_attempt: int) -> None:
        raise TaskFailed("States.TaskFailed", NO_CAPACITY)

    engine.results = {"CheckTraining": PREPARED, "FindTrainingMachine": lambda _: next(decisions)}
    engine.job = refuse
    engine.run(MACHINES[Workflow.TRAINING], TRAIN)
    used = {job["ResourceConfig"]["InstanceType"]: job["ResourceConfig"].get("VolumeKmsKeyId") for job in engine.jobs}
    assert used == {one: SUBSTITUTED["JobKey"] if one == "ml.m5.2xlarge" else None for one in types}
    assert all(job["ResourceConfig"]["VolumeSizeInGB"] == 30 for job in engine.jobs)


@pytest.mark.row("X-3")
@pytest.mark.parametrize("stage", STAGES)
def test_each_instance_of_a_stage_has_a_price(stage: str) -> None:
    chosen = STAGES[stage]
    types: Any = {
        "cpu_instance_types": ",".join(chosen.cpu_instance_types),
        "gpu_instance_types": ",".join(chosen.gpu_instance_types),
    }
    settings = Settings.model_construct(**types)
    wanted = {each for count in range(chosen.max_gpu_count + 1) for each in instance_types(settings, count)}
    assert wanted - HOURLY.keys() == set()
