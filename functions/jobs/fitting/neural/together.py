"""The workers of one network: PyTorch's own collective beside that of the training, by gloo or NCCL."""

import ipaddress
import os
import sys
from datetime import timedelta

import torch
import torch.distributed as distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from functions.jobs.fitting.base import Hardware
from functions.jobs.sharded.group import Group
from shared.errors import JobFailedError

# Of one exchange. With NCCL, the loss of a worker of another instance is only noticed then.
_EXCHANGE = timedelta(minutes=10)


class NetworkGroup:
    """All workers that fit one network. A group of one exchanges nothing."""

    def __init__(self, group: Group, device: torch.device) -> None:
        self.group, self._device = group, device
        self.rank, self.size = group.rank, group.size

    @classmethod
    def joined(cls, group: Group, hardware: Hardware) -> "NetworkGroup":
        """Returns the group once all workers have joined it. They meet at a port of the first one's choice.

        Raises:
            JobFailedError: a worker has no GPU, but should have one.
        """

        def find_gpu() -> None:
            if hardware.gpu_count and torch.cuda.device_count() <= hardware.gpu:
                raise JobFailedError("PyTorch found no GPU that it can train on. Set gpu_count to 0 and start again.")

        group.together(find_gpu)
        device = torch.device(f"cuda:{hardware.gpu}" if hardware.gpu_count else "cpu")
        if group.size == 1:
            return cls(group, device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if ipaddress.ip_address(group.address).is_loopback:
            # Otherwise gloo would look for this machine's address by its name, which need not have one.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        store = None
        if group.is_first:
            store = distributed.TCPStore(group.address, 0, group.size, is_master=True, wait_for_workers=False)
        port = int(group.from_first(str(store.port).encode() if store else b""))
        store = store or distributed.TCPStore(group.address, port, group.size, is_master=False)
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, store=store, rank=group.rank, world_size=group.size, timeout=_EXCHANGE)
        return cls(group, device)

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Returns the network whose gradients are the means of all workers'."""
        if self.size == 1:
            return network
        gpus = [self._device.index] if self._device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=gpus)

    def sums(self, *numbers: float) -> list[float]:
        """Returns the sums over all workers."""
        if self.size == 1:
            return list(numbers)
        together = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        distributed.all_reduce(together)
        return [float(each) for each in together]

    def leave(self) -> None:
        """Ends the exchange."""
        if self.size > 1:
            distributed.destroy_process_group()
