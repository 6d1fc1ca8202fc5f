"""Networks that numpy scores: what they compute, how they explain it, and which files are refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from shared.models.job import NETWORKS_FILE
from shared.propensity import networks
from shared.propensity.errors import CheckpointError
from shared.propensity.log_odds import LogOddsModel, blend, mean
from shared.propensity.networks import TENSORS_FILE, Network, NetworkColumn
from shared.propensity.scorecards import ScorecardColumn
from tests.fixtures.networks import COLUMNS, random_network, rows

WIDTH = 4


def slowly(network: Network, row: "np.typing.NDArray[np.float32]") -> float:
    """Returns the log-odds of a row by the definition of the network, member by member."""
    vectors, start = [], 0
    for column in network.columns:
        cell, table = float(row[column.column]), network.table[start : start + column.vectors].astype(np.float64)
        start += column.vectors
        if np.isnan(cell):
            vectors.append(table[-1])
        elif column.points:
            vectors.append(np.array([np.interp(cell, column.points, part) for part in table[:-1].T]))
        else:
            vectors.append(table[int(cell) if 0 <= int(cell) < column.codes else -2])
    found = []
    for member in range(len(network.heads)):
        hidden = np.concatenate(vectors)
        for layer in network.layers:
            hidden = (hidden * layer.inward[member]) @ layer.kernel.astype(np.float64) * layer.outward[member]
            hidden = np.maximum(hidden + layer.bias[member], 0)
        found.append(float(hidden @ network.heads[member] + network.head_bias[member]))
    return network.weight * float(np.mean(found))


@pytest.mark.row("ML-3")
def test_many_rows_and_single_rows_get_the_log_odds_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    network, matrix = random_network().scaled(0.5), rows()
    wanted = [slowly(network, row) for row in matrix]

    np.testing.assert_allclose(network.log_odds(matrix), wanted, rtol=1e-5, atol=1e-5)
    found = network.log_odds(matrix)
    # To the last bit, because runs give the scores of requests.
    assert [network.log_odds(row[None])[0] for row in matrix] == found.tolist()
    monkeypatch.setattr(networks, "_NUMBERS_AT_ONCE", 300)
    assert network.log_odds(matrix).tolist() == found.tolist()
    assert network.log_odds(matrix[:0]).shape == (0,)


@pytest.mark.row("ML-3", "X-16")
def test_contributions_sum_to_the_log_odds_and_columns_that_are_not_read_add_nothing() -> None:
    matrix = rows()
    network = random_network().with_reference(matrix)
    found = network.contributions(matrix, WIDTH)

    np.testing.assert_allclose(found.sum(axis=1), network.log_odds(matrix), atol=1e-9)
    assert not found[:, 1].any()
    assert np.ptp(found[:, -1]) == 0
    (alone,) = network.contributions(matrix[5:6], WIDTH)
    np.testing.assert_allclose(alone, found[5], atol=1e-5)


def test_contributions_of_a_network_without_bends_are_exact() -> None:
    matrix = np.abs(rows())
    network = random_network()
    # All units are active: the network is a sum of its columns.
    for layer in network.layers:
        layer.bias[:] = 1e4
    network = network.with_reference(matrix)
    found = network.contributions(matrix, WIDTH)

    base = matrix.copy()
    for column in (0, 2, 3):
        changed = base.copy()
        changed[:, column] = base[0, column]
        moved = network.log_odds(base) - network.log_odds(changed)
        np.testing.assert_allclose(found[:, column] - found[0, column], moved, atol=0.05)


def test_a_row_like_the_reference_has_no_contributions() -> None:
    matrix = np.repeat(rows(1), 3, axis=0)
    network = random_network().with_reference(matrix)
    found = network.contributions(matrix, WIDTH)
    np.testing.assert_allclose(found[:, :-1], 0, atol=1e-4)


@pytest.mark.row("ML-3")
def test_networks_add_up_with_scorecards_in_blends_and_keep_their_numbers_in_files(tmp_path: Path) -> None:
    matrix = rows()
    table = ScorecardColumn(column=0, points=[-1.0, 1.0], values=[-0.5, 0.5], missing=0.1)
    one = LogOddsModel(WIDTH, 0.3, [table], networks=[random_network()])
    other = LogOddsModel(WIDTH, networks=[random_network(2, columns=COLUMNS[:1])])
    together = blend([(0.7, one), (0.3, other), (0.0, one)], bias=0.1)
    wanted = 0.7 * one.log_odds(matrix) + 0.3 * other.log_odds(matrix) + 0.1

    assert len(together.networks) == 2
    read = LogOddsModel.of_files(together.files())
    together.save(tmp_path / "model.json")
    for model in (together, read, read.without_text(), LogOddsModel.load(tmp_path / "model.json")):
        np.testing.assert_allclose(model.log_odds(matrix), wanted, atol=1e-6)
        np.testing.assert_allclose(model.contributions(matrix).sum(axis=1), wanted, atol=1e-9 + 1e-6)
    assert read.log_odds(matrix[:1])[0] == pytest.approx(wanted[0], abs=1e-5)
    assert read.files() == together.files()
    np.testing.assert_allclose(mean([one, one]).log_odds(matrix), one.log_odds(matrix), atol=1e-6)


def files(**changes: "np.typing.NDArray[np.float32] | None") -> dict[str, bytes]:
    """Returns the files of a model, with other tensors or without some."""
    found = LogOddsModel(WIDTH, networks=[random_network()]).files()
    tensors = load(found[TENSORS_FILE]) | {f"0.{name.replace('__', '.')}": each for name, each in changes.items()}
    return found | {TENSORS_FILE: save({name: each for name, each in tensors.items() if each is not None})}


def with_form(**changes: object) -> dict[str, bytes]:
    found = files()
    form = json.loads(found[NETWORKS_FILE])
    form["networks"][0] |= changes
    return found | {NETWORKS_FILE: json.dumps(form).encode()}


def with_header(header: object, body: bytes = b"") -> dict[str, bytes]:
    text = json.dumps(header).encode()
    return files() | {TENSORS_FILE: struct.pack("<Q", len(text)) + text + body}


def floats(*shape: int, value: float = 0.0) -> "np.typing.NDArray[np.float32]":
    return np.full(shape, value, dtype=np.float32)


HOSTILE = {
    "nothing": lambda: files() | {TENSORS_FILE: b""},
    "no tensors": lambda: {name: each for name, each in files().items() if name != TENSORS_FILE},
    "no columns": lambda: {name: each for name, each in files().items() if name != NETWORKS_FILE},
    "a header of 8 EB": lambda: files() | {TENSORS_FILE: struct.pack("<Q", 2**63) + b"{}"},
    "a pickle": lambda: files() | {TENSORS_FILE: b"\x80\x04\x95" + b"\x00" * 40},
    "half of it": lambda: files() | {TENSORS_FILE: files()[TENSORS_FILE][:-7]},
    "tensors of 4 EB": lambda: with_header({"0.table": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}),
    "one offset for two": lambda: with_header(
        {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in ("0.table", "0.heads")}, b"0000"
    ),
    "another type": lambda: with_header({"0.table": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, b"0" * 8),
    "an unknown type": lambda: with_header({"0.table": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}}, b"0000"),
    "nested without end": lambda: files() | {TENSORS_FILE: struct.pack("<Q", 900_000) + b"[" * 900_000},
    "a missing tensor": lambda: files(heads=None),
    "no number": lambda: files(heads=floats(3, 8, value=np.nan)),
    "an infinite number": lambda: files(heads=floats(3, 8, value=np.inf)),
    "a smaller table": lambda: files(table=floats(5, 4)),
    "a table without vectors": lambda: files(table=floats(14, 0)),
    "a flat table": lambda: files(table=floats(56)),
    "another kernel": lambda: files(**{"0__kernel": floats(11, 8)}),
    "a flat kernel": lambda: files(**{"1__kernel": floats(64)}),
    "no members": lambda: files(heads=floats(0, 8)),
    "one factor for all": lambda: files(**{"0__inward": floats(1, 12)}),
    "another reference": lambda: files(reference=floats(13)),
    "more layers": lambda: with_form(layers=3),
    "a column beyond the matrix": lambda: with_form(columns=[{"column": 9, "codes": 2}]),
    "a column twice": lambda: with_form(columns=[each.model_dump() for each in (*COLUMNS[:2], COLUMNS[1], COLUMNS[2])]),
    "falling points": lambda: with_form(columns=[{"column": 0, "points": [1, 0]}]),
    "a million points": lambda: with_form(columns=[{"column": 0, "points": [*range(2_000)]}]),
    "a weight that is no number": lambda: with_form(weight="NaN"),
}


@pytest.mark.row("ML-1")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_damaged_or_hostile_file_is_refused(kind: str) -> None:
    with pytest.raises(CheckpointError):
        LogOddsModel.of_files(HOSTILE[kind]())


def test_a_file_of_tensors_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    content = files()
    monkeypatch.setattr(networks, "MAX_TENSOR_BYTES", len(content[TENSORS_FILE]) - 1)
    with pytest.raises(CheckpointError, match="is larger than"):
        LogOddsModel.of_files(content)


def test_a_column_has_numbers_or_codes() -> None:
    with pytest.raises(ValueError, match="and no codes"):
        NetworkColumn(column=0, points=[1.0, 2.0], codes=3)
