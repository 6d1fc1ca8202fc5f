"""An environment like AWS's training container, and the files that a deployment ships to it."""

import sys
from pathlib import Path

import pytest

from infra import package
from tests.fixtures.environments import ENVIRONMENTS, environment, torch_packages
from tests.functional.jobs.conftest import box, cloud

__all__ = ["box", "cloud"]

# AWS's toolkit, and packages of the container that are older than those of the lock.
CONTAINER = "sagemaker-training==5.1.4\nnumpy==1.26.4\npandas==2.1.4\npip==25.3\n"
# Nothing answers there.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="session")
def container() -> Path:
    """Returns the folder of the container's programs. It has our Python, and not the container's 3.12."""
    return environment("container", CONTAINER)


@pytest.fixture(scope="session")
def shipped() -> Path:
    """Returns a folder with the archives that a deployment ships. The wheels are for our Python."""
    folder = ENVIRONMENTS / "shipped"
    package.build_job_source(folder)
    package.build_job_wheels(folder, f"{sys.version_info.major}.{sys.version_info.minor}")
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
