"""An environment like AWS's training container, and the files that a deployment ships to it."""

import sys
from pathlib import Path

import pytest

from infra import package
from tests.fixtures.environments import ENVIRONMENTS, environment, python_of, torch_packages
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
    return shipped_for(job_python[1])


def shipped_for(python: str) -> Path:
    """Returns the archives with wheels for a version of Python."""
    folder = ENVIRONMENTS / f"shipped-{python}"
    package.build_job_source(folder)
    package.build_job_wheels(folder, python)
    return folder


@pytest.fixture(scope="session")
def torch_folder() -> Path:
    """Returns a folder with PyTorch, which AWS's containers have among their own packages."""
    folder = torch_packages()
    if folder is None:
        pytest.skip("no package index that answers has PyTorch for processors")
    return folder


@pytest.fixture(scope="session")
def torch_here(torch_folder: Path) -> None:
    """Lets this process import PyTorch, behind all other packages."""
    sys.path.append(str(torch_folder))
