"""Runs one worker: ``python -m functions.jobs.sharded ORDER``. The supervisor starts it."""

import os
import sys
import threading
from pathlib import Path

from functions.jobs.container import Container, outcome
from functions.jobs.sharded.supervisor import EXIT_ALONE, WorkerOrder
from shared.errors import JobFailedError


class AloneError(JobFailedError):
    """Error raised when an exchange fails. Nearly always, another worker was lost."""


def work(order: WorkerOrder, container: Container, stop: threading.Event) -> None:
    """Joins the other workers, and trains with them."""
    import boto3
    from xgboost.core import XGBoostError

    from functions.jobs.sharded.group import LostWorkerError, joined
    from functions.jobs.sharded.work import Worker, train_together
    from shared.models.job import TrainingJob

    job = TrainingJob.model_validate_json(container.job_file.read_bytes())
    try:
        with joined(order.rank, order.size, order.address, order.port) as group:
            worker = Worker(group, order.share, order.shares)
            train_together(job, worker, container, order.folder, stop, boto3.client)
    except (XGBoostError, LostWorkerError) as error:
        said = str(error).partition("Stack trace")[0].strip().splitlines()
        raise AloneError(
            f"Worker {order.rank + 1} of {order.size} stopped, because another one ended or cannot be reached. The log "
            f"of its instance says why. Start the training again. The library says: {said[-1] if said else ''}"
        ) from error


def main() -> None:
    """Works, and leaves the reason of a failure for the supervisor."""
    order = WorkerOrder.model_validate_json(Path(sys.argv[1]).read_bytes())
    is_alone = False

    def noted(container: Container, stop: threading.Event) -> None:
        nonlocal is_alone
        try:
            work(order, container, stop)
        except AloneError:
            is_alone = True
            raise

    code, reason = outcome(Container.of(os.environ), noted)
    order.failure.write_text(reason, encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    # A usual end would wait for workers that are no more.
    os._exit(EXIT_ALONE if is_alone else code)


if __name__ == "__main__":
    main()
