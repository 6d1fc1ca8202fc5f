"""Runs an evaluation job: ``python -m functions.jobs.evaluate``."""

import sys
import threading

from functions.jobs.container import Container, run


def work(container: Container, stop: threading.Event) -> None:
    """Reads ``job.json`` and runs the evaluation."""
    # Imported here, because libraries may write to stderr when they are imported, and ``run`` keeps that out of the
    # reason of a failure.
    import boto3

    from functions.jobs.evaluate.job import evaluate
    from shared.models.job import EvaluationJob

    job = EvaluationJob.model_validate_json(container.job_file.read_bytes())
    evaluate(job, container, stop, boto3.client)


if __name__ == "__main__":
    sys.exit(run(work))
