"""Jobs start in a fresh container from what a deployment ships, as SageMaker and as AWS's toolkit start them."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.constructs import definitions
from infra.constructs.definitions import JobOptions
from shared.propensity.checkpoints import read_checkpoint
from tests.container.conftest import NOWHERE
from tests.functional.jobs.conftest import Box, Cloud, training
from tests.functional.jobs.test_evaluate import evaluation
from tests.functional.jobs.test_process import long_training, wait_for_saved_rounds
from tests.functional.jobs.test_train import customers

SECONDS_TO_WAIT = 200


def deployed_command(machine: definitions.Definition, base: Path) -> list[str]:
    """Returns the command of the deployed workflow, with the paths of this machine."""
    algorithm = machine["States"]["RunJob"]["Arguments"]["AlgorithmSpecification"]
    parts = [*algorithm["ContainerEntrypoint"], *algorithm["ContainerArguments"]]
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AlgorithmSpecification.html
    assert all(len(part) <= 256 for part in parts)
    return [part.replace("/opt/ml", str(base)) for part in parts]


class FreshContainer:
    """A container with the channels of a job, and without a way to a package index."""

    def __init__(self, box: Box, programs: Path, shipped: Path) -> None:
        self.box, self.programs, self.shipped = box, programs, shipped
        self.variables: dict[str, str] = {}
        data = box.base / "input" / "data"
        for channel, archive in (("code", "sourcedir.tar.gz"), ("wheels", "wheels.tar")):
            (data / channel).mkdir(parents=True)
            shutil.copy(shipped / archive, data / channel / archive)

    def start(self, job: Any, command: list[str]) -> "subprocess.Popen[str]":
        self.box.container.job_file.parent.mkdir(parents=True, exist_ok=True)
        self.box.container.job_file.write_text(job.model_dump_json())
        environment = {
            **self.box.cloud.environment,
            "PATH": os.pathsep.join([str(self.programs), os.defpath]),
            "SAGEMAKER_BASE_DIR": str(self.box.base),
            "PIP_INDEX_URL": NOWHERE,
            "HTTPS_PROXY": NOWHERE,
            **self.variables,
        }
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def deploy(self, job: Any, machine: definitions.Definition | None = None) -> "subprocess.Popen[str]":
        """Starts a job with the deployed workflow's command."""
        machine = machine or definitions.training(JobOptions(), capacity_wait=60)
        return self.start(job, deployed_command(machine, self.box.base))

    def script_mode(self, job: Any, name: str) -> "subprocess.Popen[str]":
        """Starts a job with AWS's toolkit, as an estimator of SageMaker's SDK does."""
        configuration = {
            "hyperparameters": {
                "sagemaker_program": "functions/jobs/start.py",
                "sagemaker_submit_directory": str(self.shipped / "sourcedir.tar.gz"),
                "job": name,
            },
            "inputdataconfig": {name: {"TrainingInputMode": "File"} for name in ("code", "job", "wheels")},
            # The toolkit waits until the names of all hosts are known.
            "resourceconfig": {"current_host": "localhost", "hosts": ["localhost"], "network_interface_name": "lo"},
        }
        folder = self.box.base / "input" / "config"
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in configuration.items():
            (folder / f"{file}.json").write_text(json.dumps(content))
        return self.start(job, [str(self.programs / "train")])


@pytest.fixture
def fresh(box: Box, container: Path, shipped: Path) -> FreshContainer:
    return FreshContainer(box, container, shipped)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Waits for the end of a job, which installs its packages first."""
    output, errors = process.communicate(timeout=SECONDS_TO_WAIT)
    return process.returncode, output, errors


def ended(process: "subprocess.Popen[str]") -> str:
    """Waits for the end of a job that must succeed."""
    code, output, errors = finish(process)
    assert code == 0, output + errors
    return output + errors


@pytest.mark.row("OP-5")
def test_jobs_start_from_the_shipped_wheels_alone(fresh: FreshContainer, cloud: Cloud) -> None:
    output = ended(fresh.deploy(training([cloud.put_frame("a.csv", customers())])))
    assert "metric roc_auc=" in output
    trained = read_checkpoint(fresh.box.container.model_folder)
    # The container's own numpy is older, and must not be used.
    assert trained.library_versions["numpy"] == np.__version__

    fresh.box.use_trained_model()
    measured = evaluation([cloud.put_frame("new.csv", customers(100, seed=9))])
    ended(fresh.deploy(measured, definitions.evaluation(JobOptions(), capacity_wait=60)))
    assert (fresh.box.container.model_folder / "result.json").exists()


@pytest.mark.row("OP-5")
def test_a_changed_wheel_is_not_installed(fresh: FreshContainer, cloud: Cloud) -> None:
    archive = fresh.box.base / "input/data/wheels/wheels.tar"
    with tarfile.open(archive) as tar:
        six = next(entry for entry in tar if entry.name.startswith("six-"))
    with archive.open("r+b") as file:
        file.seek(six.offset_data + 100)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))

    code, _, errors = finish(fresh.deploy(training([cloud.put_frame("a.csv", customers())])))

    assert code == 1
    assert "HASH" in errors.upper()
    assert fresh.box.failure.startswith("The packages of the job cannot be installed:")


@pytest.mark.row("TR-5")
def test_a_stop_reaches_the_training_which_keeps_its_rounds(fresh: FreshContainer, cloud: Cloud) -> None:
    process = fresh.deploy(long_training(cloud, "lightgbm", 4000))
    rounds = wait_for_saved_rounds(fresh.box, 0, SECONDS_TO_WAIT)

    process.terminate()
    code, _, _ = finish(process)

    assert code == 128 + signal.SIGTERM
    assert "stopped" in fresh.box.failure
    assert json.loads((fresh.box.container.checkpoints / "member-0.state").read_text())["rounds"] >= rounds


@pytest.mark.row("TR-5")
def test_a_stop_during_the_installation_ends_the_job(fresh: FreshContainer, cloud: Cloud) -> None:
    process = fresh.deploy(training([cloud.put_frame("a.csv", customers())]))
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while not (fresh.box.base / "wheels").is_dir():
        assert time.monotonic() < deadline
        time.sleep(0.01)

    process.terminate()
    code, _, _ = finish(process)

    assert code == 128 + signal.SIGTERM
    assert fresh.box.failure == "The job was stopped before its start."


@pytest.mark.row("OP-3")
def test_the_archive_trains_and_evaluates_under_awss_toolkit(fresh: FreshContainer, cloud: Cloud) -> None:
    output = ended(fresh.script_mode(training([cloud.put_frame("a.csv", customers())]), "train"))
    assert "Reporting training SUCCESS" in output
    assert read_checkpoint(fresh.box.container.model_folder).library_versions["numpy"] == np.__version__

    fresh.box.use_trained_model()
    measured = evaluation([cloud.put_frame("new.csv", customers(100, seed=9))])
    ended(fresh.script_mode(measured, "evaluate"))
    assert json.loads((fresh.box.container.model_folder / "result.json").read_text())["measurement"]
