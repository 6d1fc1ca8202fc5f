"""Fits a network by gradient descent, alone or together with other workers, each of which has its own rows."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional

from functions.jobs.fitting.base import Examples, Hardware, RoundWatcher, threads_for
from functions.jobs.fitting.neural.inputs import choose_inputs, sampled
from functions.jobs.fitting.neural.network import TabMNetwork
from functions.jobs.fitting.neural.together import NetworkGroup
from functions.jobs.sharded.group import Group, LostWorkerError
from shared.errors import JobFailedError
from shared.propensity.architectures.configuration import TabMConfiguration
from shared.propensity.networks import Floats, Network

# Batches of a round: between rounds, a fit can be saved and stopped.
BATCHES_A_ROUND = 500
# A thread is worth as many of them as a cell of a table, times so many.
MULTIPLICATIONS_AS_A_CELL = 16
_VALIDATED_AT_ONCE = 8_192
_LARGEST_GRADIENT = 1.0
_MOMENTS = ("exp_avg", "exp_avg_sq")


def fitted_network(
    configuration: TabMConfiguration,
    fitted: Examples,
    validation: Examples,
    categorical: Sequence[int],
    hardware: Hardware,
    seed: int,
    watcher: RoundWatcher,
    resume: tuple[Path, int] | None,
    group: Group,
) -> Network:
    """Returns the network with the least log loss on the validation rows of all workers.

    Raises:
        JobFailedError: there is no GPU, or too little of its memory.
        LostWorkerError: another worker ended.
    """
    try:
        workers = NetworkGroup.joined(group, hardware)
        network = Descent(configuration, fitted, validation, categorical, hardware, seed, workers).run(watcher, resume)
        workers.leave()
    except torch.OutOfMemoryError as error:
        raise JobFailedError(
            "The network does not fit into the GPU's memory. Use a smaller batch_size, width or number of members, or "
            "more GPUs."
        ) from error
    except RuntimeError as error:
        if group.size == 1:
            raise
        raise LostWorkerError(str(error)) from error
    return network


class Descent:
    """The state of one fit."""

    def __init__(
        self,
        configuration: TabMConfiguration,
        fitted: Examples,
        validation: Examples,
        categorical: Sequence[int],
        hardware: Hardware,
        seed: int,
        group: NetworkGroup,
    ) -> None:
        self._configuration, self._seed, self._group = configuration, seed, group
        self._device = torch.device(f"cuda:{hardware.gpu}" if hardware.gpu_count else "cpu")
        self._sample = sampled(fitted, seed, group.group)
        inputs = choose_inputs(self._sample, categorical, configuration.bins)
        rows, positives, validated = self._group.sums(len(fitted), float(fitted.labels.sum()), len(validation))
        self._rows, self._validated = int(rows), int(validated)
        torch.set_num_threads(self._threads(len(inputs.columns), hardware))
        torch.manual_seed(seed)
        rate = positives / rows
        self._network = TabMNetwork(inputs, configuration, math.log(rate / (1 - rate))).to(self._device)
        self._fitted = self._on_device(fitted)
        self._validation = self._on_device(validation)
        # The paper's settings: all weights decay alike.
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=configuration.learning_rate, weight_decay=configuration.weight_decay
        )
        self._module = self._group.wrapped(self._network)
        self._best, self._best_loss = self._weights(), math.inf

    def run(self, watcher: RoundWatcher, resume: tuple[Path, int] | None) -> Network:
        """Returns the network of the best round."""
        done = 0
        if resume:
            path, done = resume
            self._load(path)
        for number in range(done, self._configuration.rounds):
            self._round(number)
            loss = self._loss()
            if loss < self._best_loss:
                self._best, self._best_loss = self._weights(), loss
            if watcher.after_round(number + 1, loss, self._save):
                break
        self._network.load_state_dict({name: torch.from_numpy(each) for name, each in self._best.items()})
        network: Network = self._network.as_numbers(self._sample)
        return network

    def _round(self, number: int) -> None:
        # What dropout draws in a round does not depend on where the fit was interrupted.
        torch.manual_seed(int(np.random.SeedSequence([self._seed, number, self._group.rank]).generate_state(1)[0]))
        self._module.train()
        for rows in self._batches(number):
            numbers, codes, labels = (each[rows] for each in self._fitted)
            with self._precision():
                found = self._module(numbers, codes)
            # Workers' gradients are averaged, so each counts for its rows.
            loss = _losses(found.float(), labels).sum() * self._group.size / (found.shape[1] * self._rows_a_batch)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), _LARGEST_GRADIENT)
            self._optimizer.step()

    def _threads(self, columns: int, hardware: Hardware) -> int:
        """Returns as many threads as the multiplications of a step pay for."""
        chosen = self._configuration
        inputs = columns * chosen.vector_size + chosen.width * (chosen.layers - 1)
        work = (chosen.batch_size or 1) * chosen.members * chosen.width * inputs
        return threads_for(work // MULTIPLICATIONS_AS_A_CELL, hardware.processes)

    @property
    def _batches_an_epoch(self) -> int:
        return max(1, round(self._rows / (self._configuration.batch_size or 1)))

    @property
    def _rows_a_batch(self) -> float:
        return self._rows / self._batches_an_epoch

    def _batches(self, number: int) -> Iterator[Tensor]:
        """Yields the rows of each batch of a round. In an epoch each row is in one batch, also of several workers."""
        rounds = math.ceil(self._batches_an_epoch / BATCHES_A_ROUND)
        epoch, part = divmod(number, rounds)
        own = len(self._fitted[2])
        order = np.random.default_rng([self._seed, epoch, self._group.rank]).permutation(own)
        first = part * BATCHES_A_ROUND
        last = min(first + BATCHES_A_ROUND, self._batches_an_epoch)
        ends = (np.arange(first, last + 1) * own) // self._batches_an_epoch
        drawn = torch.from_numpy(order[ends[0] : ends[-1]]).to(self._device)
        sizes = np.diff(ends).tolist()
        yield from torch.split(drawn, sizes)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _loss(self) -> float:
        """Returns the mean log loss of the mean log-odds on the validation rows of all workers."""
        self._network.eval()
        total = 0.0
        numbers, codes, labels = self._validation
        for start in range(0, len(labels), _VALIDATED_AT_ONCE):
            rows = slice(start, start + _VALIDATED_AT_ONCE)
            with self._precision():
                found = self._network(numbers[rows], codes[rows])
            total += float(_losses(found.float().mean(dim=1, keepdim=True), labels[rows]).sum())
        [total] = self._group.sums(total)
        return total / self._validated

    def _precision(self) -> AbstractContextManager[object]:
        if self._device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)  # type: ignore[no-any-return]

    def _on_device(self, examples: Examples) -> tuple[Tensor, Tensor, Tensor]:
        numbers, codes = self._network.inputs.split(examples.matrix)
        parts: tuple[npt.NDArray[Any], ...] = (numbers, codes, examples.labels.astype(np.float32))
        first, second, third = (torch.from_numpy(np.ascontiguousarray(each)).to(self._device) for each in parts)
        return first, second, third

    def _weights(self) -> dict[str, Floats]:
        return {name: each.detach().cpu().numpy().copy() for name, each in self._network.state_dict().items()}

    def _save(self, path: Path) -> None:
        """Writes all that a fit needs to go on as if it had not been interrupted."""
        tensors = {f"now.{name}": each for name, each in self._weights().items()}
        tensors |= {f"best.{name}": each for name, each in self._best.items()}
        for name, parameter in self._network.named_parameters():
            state = self._optimizer.state[parameter]
            tensors |= {f"{moment}.{name}": state[moment].cpu().numpy() for moment in _MOMENTS}
            tensors["steps"] = np.array([float(state["step"])])
        tensors["best_loss"] = np.array([self._best_loss])
        save_file(tensors, path)

    def _load(self, path: Path) -> None:
        tensors = load_file(path)

        def part(prefix: str) -> dict[str, Floats]:
            return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}

        self._network.load_state_dict({name: torch.from_numpy(each) for name, each in part("now.").items()})
        self._best, self._best_loss = part("best."), float(tensors["best_loss"][0])
        for name, parameter in self._network.named_parameters():
            moments = {moment: torch.from_numpy(tensors[f"{moment}.{name}"]).to(parameter) for moment in _MOMENTS}
            self._optimizer.state[parameter] = {"step": torch.tensor(float(tensors["steps"][0])), **moments}


def _losses(log_odds: Tensor, labels: Tensor) -> Tensor:
    truth = labels[:, None].expand_as(log_odds)
    return functional.binary_cross_entropy_with_logits(log_odds, truth, reduction="none")
