"""Rows that are there twice: copies are found, and rows that are equal by chance are not taken for copies."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.jobs.modelling.copies import HASHES_FILE, copies, read_hashes, row_hashes, write_hashes
from shared.propensity.errors import CheckpointError

pytestmark = pytest.mark.row("FL-9")


def clients(rows: int, seed: int = 1) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame({"income": random.random(rows), "city": random.choice(["Lyon", "Nice"], rows)})


def labels_of(frame: pl.DataFrame, seed: int = 2) -> pl.Series:
    return pl.Series(np.random.default_rng(seed).choice(["yes", "no"], frame.height))


@given(st.lists(st.integers(0, 99), max_size=80), st.integers(0, 2**32))
def test_every_row_but_the_first_of_its_kind_is_a_copy(repeats: list[int], seed: int) -> None:
    frame = clients(100)
    places = np.random.default_rng(seed).permutation(np.array([*range(100), *repeats], dtype=np.int64))

    found, are_copies = copies(frame[places], labels_of(frame)[places])

    first = {place: index for index, place in reversed(list(enumerate(places.tolist())))}
    assert found.tolist() == [first[place] < index for index, place in enumerate(places.tolist())]
    assert are_copies


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_rows_of_few_values_are_equal_by_chance(share: float) -> None:
    random = np.random.default_rng(3)
    survey = pl.DataFrame({f"q{index}": random.integers(1, 6, 20_000) for index in range(4)})
    # Those who agree with the first question buy three times as often.
    chance = share * np.where(survey["q0"] > 3, 1.5, 0.5)
    labels = pl.Series(np.where(random.random(20_000) < chance, "yes", "no"))

    found, are_copies = copies(survey, labels)

    assert found.sum() > 18_000
    assert not are_copies
    assert not copies(survey.head(50), pl.Series(["yes"] * 50))[1]


def test_some_rows_that_are_equal_by_chance_do_not_hide_the_copies() -> None:
    random = np.random.default_rng(4)
    frame = pl.DataFrame({"age": random.integers(18, 90, 1000), "visits": random.integers(0, 200, 1000)})
    labels = labels_of(frame)

    assert copies(pl.concat([frame] * 3), pl.concat([labels] * 3))[1]


def test_a_hash_depends_on_the_values_and_the_label_only() -> None:
    matrix = np.array([[1, np.nan], [1, 0.0], [0.0, 1]], dtype=np.float32)
    same = np.array([[1, -np.nan], [1, -0.0], [-0.0, 1]], dtype=np.float32)
    labels = np.array([0, 0, 1], dtype=np.float32)

    assert (row_hashes(matrix, labels) == row_hashes(same, labels)).all()
    assert len(set(row_hashes(matrix, labels).tolist())) == 3
    assert (row_hashes(matrix, labels) != row_hashes(matrix, 1 - labels)).all()


def test_hashes_mean_the_same_in_later_versions() -> None:
    matrix = np.array([[1, np.nan], [1, 0.0], [0.0, 1]], dtype=np.float32)

    assert row_hashes(matrix, np.array([0, 0, 1], dtype=np.float32)).tolist() == [3318106361, 128465961, 401564900]


def test_hashes_of_a_hundred_thousand_rows_hardly_collide() -> None:
    matrix = np.random.default_rng(5).integers(0, 1000, (100_000, 8)).astype(np.float32)

    assert len(np.unique(row_hashes(matrix, np.zeros(100_000, dtype=np.float32)))) > 99_990


@pytest.mark.parametrize(("distinct", "kept"), [(1000, True), (995, True), (900, False)])
def test_hashes_are_kept_where_they_tell_rows_apart(tmp_path: Path, distinct: int, kept: bool) -> None:
    matrix = (np.arange(1000) % distinct).astype(np.float32)[:, None]
    write_hashes(tmp_path, matrix, np.zeros(1000, dtype=np.float32))

    found = read_hashes(tmp_path)

    assert (found is not None) is kept
    if found is not None:
        assert np.isin(row_hashes(matrix, np.zeros(1000, dtype=np.float32)), found).all()


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_damaged_hashes_are_an_error_of_the_checkpoint(tmp_path: Path, content: Any) -> None:
    (tmp_path / HASHES_FILE).write_bytes(content)

    with pytest.raises(CheckpointError, match="damaged"):
        read_hashes(tmp_path)
