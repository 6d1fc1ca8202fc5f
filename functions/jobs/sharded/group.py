"""The workers of one training. What they tell each other goes through XGBoost's own collective.

Only numbers and bytes are sent: its ``broadcast`` would unpickle what it receives.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from functions.jobs.container import NO_MEMORY
from functions.jobs.fitting.base import TrainingStoppedError
from shared.errors import ApiError, JobFailedError
from shared.propensity.errors import CheckpointError

T = TypeVar("T")
Bytes = npt.NDArray[np.uint8]

TRACKER_PORT = 9099
# An instance may start some minutes after another one. The pauses between attempts grow by two seconds.
ATTEMPTS_TO_MEET = 30
# Of one exchange: one worker may read its files for longer than another one. A worker that dies ends it immediately.
EXCHANGE_SECONDS = 3600
_STOPPED = "\0stopped"


class LostWorkerError(JobFailedError):
    """Error raised when an exchange with another worker fails. Nearly always, that one has ended."""


@dataclass(frozen=True)
class Group:
    """All workers of a training, and which of them this process is. A group of one sends nothing."""

    rank: int = 0
    size: int = 1
    # Of the first worker.
    address: str = "127.0.0.1"

    @property
    def is_first(self) -> bool:
        """Returns whether this worker speaks for the others."""
        return self.rank == 0

    def gather(self, content: bytes) -> list[bytes]:
        """Returns what each worker gives, in the order of their ranks."""
        if self.size == 1:
            return [content]
        lengths = np.zeros(self.size, dtype=np.int64)
        lengths[self.rank] = len(content)
        ends = np.cumsum(self._added(lengths))
        together = np.zeros(int(ends[-1]), dtype=np.uint8)
        together[ends[self.rank] - len(content) : ends[self.rank]] = np.frombuffer(content, dtype=np.uint8)
        if len(together):
            together = self._added(together)
        return [together[start:end].tobytes() for start, end in zip((0, *ends[:-1]), ends, strict=True)]

    def gather_rows(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the rows of all workers' arrays, which have the same type."""
        parts = [np.frombuffer(part, dtype=rows.dtype) for part in self.gather(rows.tobytes())]
        return np.concatenate(parts).reshape(-1, *rows.shape[1:])

    def from_first(self, content: bytes) -> bytes:
        """Returns what the first worker gives."""
        return self.gather(content if self.is_first else b"")[0]

    def total(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Returns the sums over all workers."""
        return numbers if self.size == 1 else self._added(numbers)

    def least(self, number: float) -> float:
        """Returns the least number that a worker gives."""
        return float(self.gather_rows(np.array([number])).min())

    def any(self, *, flag: bool) -> bool:
        """Returns whether a worker says so."""
        return bool(self.total(np.array([int(flag)]))[0])

    def together(self, work: Callable[[], T]) -> T:
        """Returns what this worker has done, once all have. If one fails, all fail with its reason."""
        found, reason = None, ""
        try:
            found = work()
        except TrainingStoppedError:
            reason = _STOPPED
        except (JobFailedError, CheckpointError, ApiError) as error:
            reason = str(error)
        except MemoryError:
            reason = NO_MEMORY
        reasons = sorted(filter(None, (each.decode() for each in self.gather(reason.encode()))))
        if _STOPPED in reasons:
            raise TrainingStoppedError
        if reasons:
            raise JobFailedError(reasons[0])
        return found  # type: ignore[return-value]

    def _added(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        from xgboost import collective

        return collective.allreduce(numbers, collective.Op.SUM)


@contextmanager
def joined(rank: int, size: int, address: str, port: int = TRACKER_PORT) -> Iterator[Group]:
    """Yields the group of this worker. After an error the process must end, which ends the group."""
    from xgboost import collective

    nccl = _nccl()
    collective.init(
        dmlc_communicator="rabit",
        dmlc_tracker_uri=address,
        dmlc_tracker_port=port,
        # Ranks follow the order of these texts.
        dmlc_task_id=f"{rank:06}",
        dmlc_retry=ATTEMPTS_TO_MEET,
        dmlc_timeout=EXCHANGE_SECONDS,
        **({"dmlc_nccl_path": nccl} if nccl else {}),
    )
    if (collective.get_rank(), collective.get_world_size()) != (rank, size):
        raise JobFailedError("The workers of the training did not find each other. Start it again.")
    yield Group(rank, size, address)
    collective.finalize()


def _nccl() -> str | None:
    """Returns the NCCL beside the container's PyTorch. XGBoost finds one of the system without help."""
    for prefix in (sys.prefix, sys.base_prefix, "/opt/conda"):
        for path in Path(prefix).glob("lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2"):
            return str(path)
    return None
