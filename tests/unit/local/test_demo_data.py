"""Tests that the demo evaluates models on rows that they were not trained on."""

import csv
import io
from collections import Counter

import pytest

from infra.local.demo_data import DATA_SETS, DataSet


def rows(content: bytes) -> list[tuple[str, ...]]:
    return [tuple(row) for row in csv.reader(io.StringIO(content.decode(), newline=""))]


@pytest.mark.parametrize("data_set", DATA_SETS, ids=lambda data_set: data_set.name)
def test_each_row_of_a_data_set_is_in_exactly_one_of_its_two_files(data_set: DataSet) -> None:
    files = data_set.files()

    (header, *training), (same, *benchmark) = rows(files[data_set.training_file]), rows(files[data_set.benchmark_file])

    assert header == same
    original = rows(data_set.path().read_bytes())[1:]
    assert Counter(training) + Counter(benchmark) == Counter(original)
    assert len(benchmark) == round(0.3 * len(original))
    target = header.index(data_set.target)
    for part in (training, benchmark):
        assert len({row[target] for row in part}) == 2
    assert data_set.files() == files
