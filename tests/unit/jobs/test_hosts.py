"""Instances of a training share its files."""

import json
from collections import Counter
from pathlib import Path

import pytest

from functions.jobs.sharded.hosts import Hosts
from shared.errors import JobFailedError
from shared.models.job import JobDataset, JobFile

pytestmark = pytest.mark.row("DT-1")


def dataset(*sizes: int, name: str = "a") -> JobDataset:
    files = [JobFile(bucket="b", key=f"{name}-{index}", etag="e", size_bytes=size) for index, size in enumerate(sizes)]
    return JobDataset(connector_id=name, files=files, target="y")


def test_each_file_belongs_to_one_instance_and_all_have_about_as_many_bytes() -> None:
    datasets = [dataset(90, 10, 40, 0), dataset(50, 30, 20, name="b")]
    shares = [Hosts(("h1", "h2", "h3"), index).share(datasets) for index in range(3)]
    sizes = [sum(file.size_bytes for each in share for file in each.files) for share in shares]
    keys = Counter(file.key for share in shares for each in share for file in each.files)

    assert keys == Counter({file.key: 1 for each in datasets for file in each.files})
    assert sorted(sizes) == [70, 80, 90]
    assert all(each.files for share in shares for each in share)


def test_fewer_files_than_instances_are_refused() -> None:
    with pytest.raises(JobFailedError, match="2 instances share the files, and there are only 1"):
        Hosts(("h1", "h2"), 1).share([dataset(5)])


def test_the_order_of_the_names_that_sagemaker_gives_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "input/config/resourceconfig.json"
    assert len(Hosts.of(tmp_path)) == 1
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-2", "algo-1"]}))
    assert Hosts.of(tmp_path) == Hosts(["algo-1", "algo-2"], 0)
