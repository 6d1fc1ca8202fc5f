"""Starts the endpoint: ``python -m infra.local.sagemaker``. These environment variables configure it.

- ``SAGEMAKER_PORT``: the port on 127.0.0.1
- ``SAGEMAKER_DIRECTORY``: the folder that keeps the jobs
- ``SAGEMAKER_SLOTS``: how many jobs run at the same time (default: half the processors)
- ``SAGEMAKER_STOP_GRACE_SECONDS``: time between SIGTERM and SIGKILL (default 120, as in AWS)
- ``SAGEMAKER_JOB_ENVIRONMENT``: a JSON object of environment variables for every job
- ``AWS_ENDPOINT_URL``: the emulator, for S3, EventBridge and CloudWatch Logs
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.sagemaker.processing_jobs import EmulatedProcessingJobs
from infra.local.sagemaker.server import SageMakerServer
from infra.local.sagemaker.training_jobs import EmulatedTrainingJobs

logger = logging.getLogger(__name__)


def main() -> None:
    """Serves until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    region = os.environ.get("AWS_REGION", "us-east-1")
    config = Config(retries={"max_attempts": 5, "mode": "standard"}, max_pool_connections=20)
    s3 = boto3.client("s3", region_name=region, config=config)
    logs = boto3.client("logs", region_name=region, config=config)
    events: Any = boto3.client("events", region_name=region, config=config)

    def publish(entry: dict[str, Any]) -> None:
        try:
            response = events.put_events(Entries=[entry])
            if response["FailedEntryCount"]:
                logger.error("EventBridge refused the event of a job: %s", response["Entries"])
        except (ClientError, BotoCoreError):
            # As in AWS, an event that is not delivered does not change the job.
            logger.exception("The event of a job was not delivered")

    jobs = EmulatedTrainingJobs(
        Path(os.environ["SAGEMAKER_DIRECTORY"]),
        s3=s3,
        logs=logs,
        publish=publish,
        region=region,
        slots=int(os.environ.get("SAGEMAKER_SLOTS") or max(1, (os.cpu_count() or 2) // 2)),
        stop_grace_seconds=float(os.environ.get("SAGEMAKER_STOP_GRACE_SECONDS", "120")),
        environment=json.loads(os.environ.get("SAGEMAKER_JOB_ENVIRONMENT", "{}")),
    )
    processing = EmulatedProcessingJobs(
        Path(os.environ["SAGEMAKER_DIRECTORY"]) / "processing",
        s3=s3,
        region=region,
        environment=json.loads(os.environ.get("SAGEMAKER_JOB_ENVIRONMENT", "{}")),
    )
    server = SageMakerServer(int(os.environ["SAGEMAKER_PORT"]), jobs, processing)
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for serve_forever, which runs in this thread, so shutdown() needs another thread.
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    try:
        server.serve_forever()
    finally:
        processing.close()
        jobs.close()
        server.server_close()


if __name__ == "__main__":
    main()
