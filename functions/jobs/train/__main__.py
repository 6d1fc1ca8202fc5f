"""Runs a training job: ``python -m functions.jobs.train``."""

import sys
import threading

import boto3

from functions.jobs.container import Container, run
from functions.jobs.train.job import train
from shared.models.job import TrainingJob


def work(container: Container, stop: threading.Event) -> None:
    """Reads ``job.json`` and runs the training."""
    job = TrainingJob.model_validate_json(container.job_file.read_bytes())
    train(job, container, stop, boto3.client)


if __name__ == "__main__":
    sys.exit(run(work))
