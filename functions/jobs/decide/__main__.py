"""Runs the tasks of a decision run that this machine got: ``python -m functions.jobs.decide``."""

import os
import sys
import threading

from functions.jobs.container import Container, run


def work(container: Container, stop: threading.Event) -> None:
    """Works on each task in the channel ``tasks``."""
    # Imported here, because libraries may write to stderr when they are imported, and ``run`` keeps that out of the
    # reason of a failure.
    import boto3

    from functions.jobs.decide.job import decide

    decide(container.tasks_channel, os.environ, stop, boto3.client)


if __name__ == "__main__":
    sys.exit(run(work))
