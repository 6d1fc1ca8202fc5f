"""``python -m functions.jobs.train``, and SageMaker's entry point in script mode."""

import sys
import threading
from pathlib import Path

if __package__ in (None, ""):
    # The container runs this as a file. The root of the source archive is two folders above.
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import boto3

from functions.jobs.container import Container, run
from functions.jobs.train.job import train
from shared.models.job import TrainingJob


def work(container: Container, stop: threading.Event) -> None:
    """Reads ``job.json`` and trains."""
    job = TrainingJob.model_validate_json(container.job_file.read_bytes())
    train(job, container, stop, boto3.client)


if __name__ == "__main__":
    sys.exit(run(work))
