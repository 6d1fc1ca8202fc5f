"""Small neural networks whose members share most weights, scored and explained by numpy alone.

The form is TabM's (Gorishniy et al., 2025): several perceptrons with common kernels, and with factors, biases and heads
of their own. A network's log-odds are the mean of its members'. Each column of the matrix is a table of vectors: lines
between them for numbers, one for each category, one for missing values.

``networks.json`` has the columns, ``networks.safetensors`` the numbers. Reading them runs no code.
"""

import math
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shared.models.job import NETWORKS_FILE
from shared.propensity.errors import CheckpointError
from shared.propensity.features import Matrix
from shared.propensity.scorecards import FiniteNumber

TENSORS_FILE = "networks.safetensors"
MAX_TENSOR_BYTES = 100 * 2**20
# The format's own reader would take 100 MB of names.
MAX_HEADER_BYTES = 2**20
# Steps on the way from the reference to a row, at which an explanation asks for slopes.
PATH_STEPS = 24
# Numbers of one layer that are held at a time.
_NUMBERS_AT_ONCE = 300_000
_LAYER_PARTS = ("inward", "kernel", "outward", "bias")
Floats = npt.NDArray[np.float32]


class NetworkColumn(BaseModel):
    """A column of the matrix: rising points for numbers, or how many codes have a vector of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: int = Field(ge=0)
    points: list[FiniteNumber] = Field(default_factory=list, max_length=1_000)
    codes: int = Field(default=0, ge=0, le=1_000_000)

    @model_validator(mode="after")
    def _is_one_kind(self) -> "NetworkColumn":
        if self.points and (self.codes or any(after <= before for before, after in pairwise(self.points))):
            raise ValueError("a column of numbers has rising points, and no codes")
        return self

    @property
    def vectors(self) -> int:
        """Returns the length of its table. The last vector is of missing values, that of other codes before it."""
        return len(self.points) + 1 if self.points else self.codes + 2


class NetworkForm(BaseModel):
    """What ``networks.json`` says of one network."""

    model_config = ConfigDict(extra="forbid")

    weight: FiniteNumber
    layers: int = Field(ge=1, le=8)
    columns: list[NetworkColumn] = Field(min_length=1)


class NetworkForms(BaseModel):
    """``networks.json``."""

    model_config = ConfigDict(extra="forbid")

    networks: list[NetworkForm] = Field(min_length=1, max_length=100)


@dataclass(frozen=True, eq=False)
class NetworkLayer:
    """A common kernel; before and after it each member (first axis) has its own factors, and its own bias."""

    inward: Floats
    kernel: Floats
    outward: Floats
    bias: Floats

    def linear(self, inputs: Floats) -> Floats:
        """Returns (rows, members, outputs) before the rectifier.

        The kernel is multiplied with each row alone, so a row's numbers are the same to the last bit among any others.
        """
        product = (inputs * self.inward) @ self.kernel
        product *= self.outward
        product += self.bias
        return np.asarray(product, dtype=np.float32)

    def slopes(self, outputs: Floats) -> Floats:
        """Returns the slopes of the inputs, from those of ``linear``'s result."""
        scaled = outputs * self.outward
        rows, members, width = scaled.shape
        product = scaled.reshape(rows * members, width) @ self.kernel.T
        return np.asarray(product.reshape(rows, members, -1) * self.inward)


@dataclass(frozen=True, eq=False)
class Network:
    """One network. ``table`` has the vectors of all columns, ``reference`` the mean inputs of the fitted rows."""

    columns: Sequence[NetworkColumn]
    table: Floats
    layers: Sequence[NetworkLayer]
    heads: Floats
    head_bias: Floats
    reference: Floats
    weight: float = 1.0

    def scaled(self, weight: float) -> "Network":
        """Returns the network whose log-odds are ``weight`` times as large."""
        return replace(self, weight=self.weight * weight)

    def with_reference(self, matrix: Matrix) -> "Network":
        """Returns the network that explains rows by how they differ from the mean of these."""
        sums = [self.inputs(matrix[rows]).sum(axis=0, dtype=np.float64) for rows in self._batches(len(matrix))]
        return replace(self, reference=(np.sum(sums, axis=0) / len(matrix)).astype(np.float32))

    def log_odds(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Returns the log-odds of each row."""
        parts = [self._outputs(self.inputs(matrix[rows])) for rows in self._batches(len(matrix))]
        return self.weight * np.concatenate([np.empty(0), *parts])

    def contributions(self, matrix: Matrix, width: int) -> npt.NDArray[np.float64]:
        """Returns about what each of ``width`` columns adds, and in the last column the log-odds of the reference.

        By integrated gradients: slopes along the straight way from the reference's vectors to the row's. What the sum
        over some steps misses is spread in proportion to the columns' parts, so the sum of a row is exact.
        """
        found = np.zeros((len(matrix), width + 1))
        places = [column.column for column in self.columns]
        base = float(self._outputs(self.reference[None])[0])
        for rows in self._batches(len(matrix), PATH_STEPS):
            inputs = self.inputs(matrix[rows])
            parts = self._path_parts(inputs)
            missed = self._outputs(inputs) - base - parts.sum(axis=1)
            sizes = np.abs(parts)
            totals = sizes.sum(axis=1, keepdims=True)
            shares = np.divide(sizes, totals, out=np.full_like(sizes, 1 / len(places)), where=totals > 0)
            found[rows, places] = parts + missed[:, None] * shares
        found[:, -1] = base
        return self.weight * found

    def inputs(self, matrix: Matrix) -> Floats:
        """Returns the vectors of each row, one after the other."""
        places, shares = self._places_of_row(matrix) if len(matrix) == 1 else self._places(matrix)
        vectors = self.table[places]
        vectors += shares[..., None] * self._steps[places]
        return np.asarray(vectors.reshape(len(matrix), -1))

    def _places(self, matrix: Matrix) -> tuple[npt.NDArray[np.intp], Floats]:
        """Returns the place in the table of each row's columns, and the way from there to the next vector."""
        places = np.empty((len(matrix), len(self.columns)), dtype=np.intp)
        shares = np.zeros(places.shape, dtype=np.float32)
        for index, (column, start) in enumerate(zip(self.columns, self._starts, strict=False)):
            cells = matrix[:, column.column].astype(np.float64)
            gone = np.isnan(cells)
            known = np.where(gone, 0.0, cells)
            if column.points:
                points = np.array(column.points)
                place = np.clip(np.searchsorted(points, known, "right") - 1, 0, max(len(points) - 2, 0))
                if len(points) > 1:
                    way = (known - points[place]) / np.diff(points)[place]
                    shares[:, index] = np.where(gone, 0.0, np.clip(way, 0.0, 1.0))
            else:
                codes = known.astype(np.int64)
                place = np.where((codes < 0) | (codes >= column.codes), column.codes, codes)
            places[:, index] = start + np.where(gone, column.vectors - 1, place)
        return places, shares

    def _places_of_row(self, matrix: Matrix) -> tuple[npt.NDArray[np.intp], Floats]:
        """Returns the same for the only row of a matrix, without arrays for each column."""
        row, places, shares = matrix[0].tolist(), [], []
        for column, start in zip(self.columns, self._starts, strict=False):
            cell, points, share = row[column.column], column.points, 0.0
            if math.isnan(cell):
                place = column.vectors - 1
            elif points:
                place = min(max(bisect_right(points, cell) - 1, 0), max(len(points) - 2, 0))
                if len(points) > 1:
                    share = (cell - points[place]) / (points[place + 1] - points[place])
            else:
                code = int(cell)
                place = code if 0 <= code < column.codes else column.codes
            places.append(start + place)
            shares.append(min(max(share, 0.0), 1.0))
        return np.array([places]), np.array([shares], dtype=np.float32)

    def _outputs(self, inputs: Floats) -> npt.NDArray[np.float64]:
        """Returns the log-odds without the weight."""
        hidden = inputs[:, None, :]
        for layer in self.layers:
            hidden = layer.linear(hidden)
            np.maximum(hidden, 0, out=hidden)
        weighed = (hidden * self._head_shares).reshape(len(inputs), -1).astype(np.float64)
        return np.asarray(weighed.sum(axis=1) + float(self.head_bias.mean()))

    def _path_parts(self, inputs: Floats) -> npt.NDArray[np.float64]:
        """Returns the integral of the slopes, times the way, summed over the vector of each column."""
        way = inputs - self.reference
        steps = ((np.arange(PATH_STEPS) + 0.5) / PATH_STEPS).astype(np.float32)
        along = self.reference + steps[:, None, None] * way
        hidden, is_active = along.reshape(-1, 1, along.shape[-1]), []
        for layer in self.layers:
            hidden = layer.linear(hidden)
            is_active.append(hidden > 0)
            np.maximum(hidden, 0, out=hidden)
        slopes = np.broadcast_to(self._head_shares, hidden.shape)
        for layer, active in zip(reversed(self.layers), reversed(is_active), strict=True):
            slopes = layer.slopes(slopes * active)
        mean = slopes.sum(axis=1, dtype=np.float64).reshape(along.shape).mean(axis=0)
        return np.asarray((mean * way).reshape(len(inputs), len(self.columns), -1).sum(axis=2))

    def _batches(self, rows: int, copies: int = 1) -> Iterator[slice]:
        members = len(self.heads)
        widest = max(max(layer.kernel.shape) for layer in self.layers)
        size = max(1, _NUMBERS_AT_ONCE // (copies * members * widest))
        return (slice(start, min(start + size, rows)) for start in range(0, rows, size))

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(column.vectors for column in self.columns)]

    @cached_property
    def _steps(self) -> Floats:
        """Returns the way from each vector to the next one."""
        return np.diff(self.table, axis=0, append=self.table[-1:])

    @cached_property
    def _head_shares(self) -> Floats:
        return np.asarray(self.heads / np.float32(len(self.heads)))


def write_networks(networks: Sequence[Network]) -> dict[str, bytes]:
    """Returns the content of each file by its name."""
    forms = [NetworkForm(weight=each.weight, layers=len(each.layers), columns=list(each.columns)) for each in networks]
    tensors: dict[str, Floats] = {}
    for index, network in enumerate(networks):
        own = {name: getattr(network, name) for name in ("table", "heads", "head_bias", "reference")}
        for place, layer in enumerate(network.layers):
            own |= {f"{place}.{name}": getattr(layer, name) for name in _LAYER_PARTS}
        tensors |= {f"{index}.{name}": np.ascontiguousarray(tensor) for name, tensor in own.items()}
    return {NETWORKS_FILE: NetworkForms(networks=forms).model_dump_json().encode(), TENSORS_FILE: save(tensors)}


def read_networks(files: Mapping[str, bytes], width: int) -> list[Network]:
    """Returns what ``write_networks`` wrote, for a matrix of ``width`` columns; none if both files are absent.

    Raises:
        CheckpointError: a file is missing, damaged or too large, or the numbers do not fit together.
    """
    if NETWORKS_FILE not in files and TENSORS_FILE not in files:
        return []
    try:
        forms = NetworkForms.model_validate_json(files[NETWORKS_FILE])
        tensors = _read_tensors(files[TENSORS_FILE])
        networks = [_network(form, f"{index}.", tensors) for index, form in enumerate(forms.networks)]
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{NETWORKS_FILE} or {TENSORS_FILE} is missing or damaged: {error}") from error
    for network in networks:
        _require_fitting(network, width)
    return networks


def _read_tensors(content: bytes) -> dict[str, Floats]:
    if len(content) > MAX_TENSOR_BYTES:
        raise CheckpointError(f"{TENSORS_FILE} is larger than {MAX_TENSOR_BYTES >> 20} MB")
    if len(content) < 8 or struct.unpack("<Q", content[:8])[0] > MAX_HEADER_BYTES:
        raise CheckpointError(f"the header of {TENSORS_FILE} is missing or too large")
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{TENSORS_FILE} is damaged: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise CheckpointError(f"{TENSORS_FILE} holds '{name[:100]}', which is not of finite numbers")
    return tensors


def _network(form: NetworkForm, prefix: str, tensors: Mapping[str, Floats]) -> Network:
    layers = [
        NetworkLayer(*(tensors[f"{prefix}{place}.{name}"] for name in _LAYER_PARTS)) for place in range(form.layers)
    ]
    own = {name: tensors[prefix + name] for name in ("table", "heads", "head_bias", "reference")}
    return Network(columns=form.columns, layers=layers, weight=form.weight, **own)


def _require_fitting(network: Network, width: int) -> None:
    """Raises CheckpointError if a shape is another one than the rest of the network needs."""
    places = {column.column for column in network.columns}
    if max(places) >= width or len(places) < len(network.columns):
        raise CheckpointError(f"{NETWORKS_FILE} is of other columns than the rest of the model")
    members, size = len(network.heads), network.table.shape[-1] if network.table.ndim else 0
    inputs = size * len(network.columns)
    wanted = [
        (network.table, (sum(column.vectors for column in network.columns), size)),
        (network.reference, (inputs,)),
    ]
    for layer in network.layers:
        outputs = layer.kernel.shape[-1] if layer.kernel.ndim else 0
        wanted += [(layer.inward, (members, inputs)), (layer.kernel, (inputs, outputs))]
        wanted += [(layer.outward, (members, outputs)), (layer.bias, (members, outputs))]
        inputs = outputs
    wanted += [(network.heads, (members, inputs)), (network.head_bias, (members,))]
    if any(tensor.shape != shape or 0 in shape for tensor, shape in wanted):
        raise CheckpointError(f"{TENSORS_FILE} has numbers of other shapes than {NETWORKS_FILE} says")
