"""``python -m functions.jobs.evaluate``, and SageMaker's entry point in script mode."""

import sys
import threading
from pathlib import Path

if __package__ in (None, ""):
    # The container runs this as a file. The root of the source archive is two folders above.
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import boto3

from functions.jobs.container import Container, run
from functions.jobs.evaluate.job import evaluate
from shared.models.job import EvaluationJob


def work(container: Container, stop: threading.Event) -> None:
    """Reads ``job.json`` and evaluates."""
    job = EvaluationJob.model_validate_json(container.job_file.read_bytes())
    evaluate(job, container, stop, boto3.client)


if __name__ == "__main__":
    sys.exit(run(work))
