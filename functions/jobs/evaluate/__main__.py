"""Runs an evaluation job: ``python -m functions.jobs.evaluate``."""

import sys
import threading

import boto3

from functions.jobs.container import Container, run
from functions.jobs.evaluate.job import evaluate
from shared.models.job import EvaluationJob


def work(container: Container, stop: threading.Event) -> None:
    """Reads ``job.json`` and runs the evaluation."""
    job = EvaluationJob.model_validate_json(container.job_file.read_bytes())
    evaluate(job, container, stop, boto3.client)


if __name__ == "__main__":
    sys.exit(run(work))
