"""The network while it is fitted, in PyTorch."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from functions.jobs.fitting.neural.inputs import NetworkInputs
from shared.propensity.architectures.configuration import TabMConfiguration
from shared.propensity.features import Matrix
from shared.propensity.networks import Floats, Network, NetworkColumn, NetworkLayer

_UNIFORM_DEVIATION = 1 / math.sqrt(12)


def _uniform(*shape: int, width: int) -> nn.Parameter:
    limit = 1 / math.sqrt(width)
    return nn.Parameter(torch.empty(*shape).uniform_(-limit, limit))


class NumberVectors(nn.Module):  # type: ignore[misc] # PyTorch is not installed where types are checked
    """Piecewise linear vectors of numbers: a line by rank and a step for each bin, which begins at zero."""

    def __init__(self, columns: Sequence[NetworkColumn], size: int) -> None:
        super().__init__()
        bins = max(1, *(len(column.points) - 1 for column in columns))
        left, per_width = torch.zeros(len(columns), bins), torch.zeros(len(columns), bins)
        for index, column in enumerate(columns):
            points = torch.tensor(column.points, dtype=torch.float64)
            if len(points) > 1:
                left[index, : len(points) - 1] = points[:-1].float()
                per_width[index, : len(points) - 1] = (1 / torch.diff(points)).clamp(max=1e30).float()
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("per_width", per_width, persistent=False)
        counts = [max(len(column.points) - 1, 1) for column in columns]
        self.register_buffer("counts", torch.tensor(counts, dtype=torch.float32), persistent=False)
        self.slope, self.start = (_uniform(len(columns), size, width=size) for _ in range(2))
        self.missing = _uniform(len(columns), size, width=size)
        self.steps = nn.Parameter(torch.zeros(len(columns), bins, size))

    def forward(self, numbers: Tensor) -> Tensor:
        known = torch.nan_to_num(numbers)[:, :, None]
        filled = ((known - self.left) * self.per_width).clamp(0, 1)
        vectors = self._along(filled)
        return torch.where(torch.isnan(numbers)[:, :, None], self.missing, vectors)

    def table(self, columns: Sequence[NetworkColumn]) -> list[Floats]:
        """Returns the vectors at the points of each column, and that of a missing number."""
        bins = self.left.shape[1]
        # After so many bins are filled, in each column.
        filled = torch.tril(torch.ones(bins + 1, bins), -1).to(self.left)
        vectors = self._along(filled[:, None, :].expand(-1, len(columns), -1))
        found = []
        for index, column in enumerate(columns):
            own = torch.cat([vectors[: len(column.points) or 1, index], self.missing[None, index]])
            found.append(own.cpu().numpy())
        return found

    def _along(self, filled: Tensor) -> Tensor:
        rank = (filled.sum(dim=2) / self.counts - 0.5) / _UNIFORM_DEVIATION
        return self.slope * rank[:, :, None] + self.start + torch.einsum("rcb,cbs->rcs", filled, self.steps)


class MemberLayer(nn.Module):  # type: ignore[misc]
    """A kernel that all members share, with factors and biases of their own."""

    def __init__(self, members: int, inputs: int, outputs: int, chunks: int | None) -> None:
        super().__init__()
        factors = torch.ones(members, inputs)
        if chunks is not None:
            # Members differ by how they weigh the columns at the beginning.
            factors = torch.randn(members, chunks).repeat_interleave(inputs // chunks, dim=1)
        self.inward = nn.Parameter(factors)
        self.kernel = _uniform(inputs, outputs, width=inputs)
        self.outward = nn.Parameter(torch.ones(members, outputs))
        self.bias = nn.Parameter(_uniform(1, outputs, width=inputs).detach().repeat(members, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs * self.inward) @ self.kernel * self.outward + self.bias


class TabMNetwork(nn.Module):  # type: ignore[misc]
    """Gives the log-odds of each member for each row."""

    def __init__(self, inputs: NetworkInputs, configuration: TabMConfiguration, base: float) -> None:
        super().__init__()
        size, members, width = configuration.vector_size, configuration.members, configuration.width
        self.inputs, self.dropout = inputs, configuration.dropout
        if inputs.numbers:
            self.number_vectors = NumberVectors(inputs.numbers, size)
        if inputs.codes:
            rows = sum(column.vectors for column in inputs.codes)
            self.code_vectors = _uniform(rows, size, width=size)
        chunks = len(inputs.columns)
        widths = [chunks * size, *[width] * configuration.layers]
        self.layers = nn.ModuleList(
            MemberLayer(members, widths[place], width, None if place else chunks)
            for place in range(configuration.layers)
        )
        self.heads = _uniform(members, width, width=width)
        self.head_bias = nn.Parameter(torch.full((members,), base))

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        parts = []
        if self.inputs.numbers:
            parts.append(self.number_vectors(numbers))
        if self.inputs.codes:
            parts.append(functional.embedding(codes, self.code_vectors))
        hidden = torch.cat(parts, dim=1).flatten(1)[:, None, :]
        for layer in self.layers:
            hidden = functional.dropout(torch.relu(layer(hidden)), self.dropout, self.training)
        return (hidden * self.heads).sum(dim=2) + self.head_bias

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def as_numbers(self, sample: Matrix) -> Network:
        """Returns the network for numpy. The reference is the mean of the sample's rows."""
        table = self.number_vectors.table(self.inputs.numbers) if self.inputs.numbers else []
        if self.inputs.codes:
            table.append(_numbers(self.code_vectors))
        layers = [
            NetworkLayer(*(_numbers(part) for part in (layer.inward, layer.kernel, layer.outward, layer.bias)))
            for layer in self.layers
        ]
        network = Network(
            columns=self.inputs.columns,
            table=np.concatenate(table),
            layers=layers,
            heads=_numbers(self.heads),
            head_bias=_numbers(self.head_bias),
            reference=np.zeros(0, dtype=np.float32),
        )
        return network.with_reference(sample)


def _numbers(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
