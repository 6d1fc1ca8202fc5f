"""Implements SageMaker's contract for training containers: folders, channels, failure text, exit codes, signals.

``start.py`` runs before, and holds SIGTERM back until ``run`` can handle it.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from functions.jobs.fitting.base import TrainingStoppedError
from shared.errors import UNEXPECTED_JOB_ERROR, ApiError, JobFailedError
from shared.propensity.errors import CheckpointError

# AWS keeps 1,024 characters of a failure's reason, including the words that it puts around ours.
MAX_FAILURE_CHARACTERS = 900
NO_MEMORY = "The data does not fit into the instance's memory. Use a larger instance or less data."
EXIT_FAILED = 1
EXIT_STOPPED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Container:
    """The folders of a job's input and output, and its hardware."""

    base: Path
    gpu_count: int
    # Where SageMaker reads the reason of a failure.
    failure_file: Path

    @classmethod
    def of(cls, environment: Mapping[str, str], devices: Path = Path("/dev")) -> "Container":
        """Returns the folders below ``SAGEMAKER_BASE_DIR`` (``/opt/ml``), and how many GPUs the container sees.

        ``FAILURE_FILE`` names another file for the reason of a failure, as processing jobs have one.
        """
        gpus = [device for device in devices.glob("nvidia*") if device.name.removeprefix("nvidia").isdigit()]
        base = Path(environment.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
        return cls(base, len(gpus), Path(environment.get("FAILURE_FILE") or base / "output" / "failure"))

    @property
    def job_file(self) -> Path:
        return self.base / "input" / "data" / "job" / "job.json"

    @property
    def tasks_channel(self) -> Path:
        return self.base / "input" / "data" / "tasks"

    @property
    def model_channel(self) -> Path:
        return self.base / "input" / "data" / "model"

    @property
    def model_folder(self) -> Path:
        return self.base / "model"

    @property
    def checkpoints(self) -> Path:
        """Returns the folder that SageMaker copies to S3, and restores after a spot interruption."""
        return self.base / "checkpoints"

    def report_failure(self, reason: str) -> None:
        """Writes the reason to SageMaker's failure file and to stderr, because SageMaker may report either."""
        text = reason[:MAX_FAILURE_CHARACTERS]
        failure = self.failure_file
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(text, encoding="utf-8")
        print(f"JobFailedError: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the container's log


@contextmanager
def _other_texts_on_stdout() -> Iterator[None]:
    """Sends to stdout what libraries, also native ones, write to stderr within the block.

    SageMaker's toolkit reports stderr as the reason of a failure. AWS keeps only its beginning, so warnings before our
    text would push it out.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    os.dup2(1, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)


def run(work: Callable[[Container, threading.Event], None]) -> int:
    """Runs a job and returns its exit code. The event of ``work`` is set when SageMaker stops the job."""
    container = Container.of(os.environ)
    with _other_texts_on_stdout():
        code, reason = outcome(container, work)
    if reason:
        container.report_failure(reason)
    return code


def outcome(container: Container, work: Callable[[Container, threading.Event], None]) -> tuple[int, str]:
    """Runs a job, and returns the exit code and the reason of a failure."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        container.model_folder.mkdir(parents=True, exist_ok=True)
        work(container, stop)
    except TrainingStoppedError:
        return EXIT_STOPPED, "The job was stopped before its end."
    except (JobFailedError, CheckpointError, ApiError) as error:
        return EXIT_FAILED, str(error)
    except MemoryError:
        return EXIT_FAILED, NO_MEMORY
    except Exception as error:  # noqa: BLE001 - the process ends here and must report the reason
        traceback.print_exc()
        return EXIT_FAILED, f"{UNEXPECTED_JOB_ERROR} ({type(error).__name__}: {error})."
    return 0, ""
