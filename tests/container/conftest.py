"""An environment like AWS's training container, and the files that a deployment ships to it."""

from pathlib import Path

import pytest

from infra import package
from tests.fixtures.environments import ENVIRONMENTS, environment, python_of
from tests.functional.jobs.conftest import box, cloud

__all__ = ["box", "cloud"]

# AWS's toolkit, and packages of the container that are older than those of the lock.
CONTAINER = "sagemaker-training==5.1.4\nnumpy==1.26.4\npandas==2.1.4\npip==25.3\n"
# Nothing answers there.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="session")
def job_python() -> tuple[str, str]:
    """Returns a Python of the container's version, and the version."""
    return python_of(package.JOB_PYTHON_VERSION)


@pytest.fixture(scope="session")
def container(job_python: tuple[str, str]) -> Path:
    """Returns the folder of the container's programs."""
    return environment("container", CONTAINER, job_python[0])


@pytest.fixture(scope="session")
def shipped(job_python: tuple[str, str]) -> Path:
    """Returns a folder with the archives that a deployment ships."""
    folder = ENVIRONMENTS / "shipped"
    package.build_job_source(folder)
    package.build_job_wheels(folder, job_python[1])
    return folder
