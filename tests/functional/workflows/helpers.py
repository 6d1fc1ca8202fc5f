"""Creates trainings on files of a lab, and starts them as the workflow does."""

from typing import Any

import boto3

from functions.jobs.sources import read_datasets
from functions.workflows.training.check_training import check_training
from shared.models.job import EvaluationJob, TrainingJob
from tests.fixtures.aws import BUCKET
from tests.fixtures.connectors import Lab
from tests.fixtures.evaluations import add_checkpoint

FIRST = b"age,churned\n30,yes\n41,no\n"
SECOND = b"age,churned\n30,yes\n41,no\n52,no\n"
PLACE = {"bucket": "customer", "region": "us-east-1", "prefix": "in"}
KEYS = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "secret"}
ROLE = {"role_arn": "arn:aws:iam::210987654321:role/inference"}


def training_body(lab: Lab, *connectors: dict[str, Any]) -> dict[str, Any]:
    """Returns a request for a training. Its first part names the target."""
    data_model = lab.client.post("/data-models", json={"name": "Churn"}).json()
    return {
        "architecture": "lightgbm",
        "configuration": {},
        "connectors": [{"target": "churned", **connectors[0]}, *connectors[1:]],
        "data_model_id": data_model["id"],
        "gpu_count": 0,
        "name": "First",
    }


def request(lab: Lab, *connectors: dict[str, Any]) -> dict[str, Any]:
    """Creates a training."""
    response = lab.client.post("/trainings", json=training_body(lab, *connectors))
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def check(lab: Lab, training: dict[str, Any], output: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs the first step of the workflow, with its last output if it has one."""
    event = output or {"space_id": lab.space_id, "training_id": training["id"]}
    return check_training(lab.resources, event)


def job_of(lab: Lab, plan: dict[str, Any]) -> TrainingJob:
    """Returns the job specification that the first step has written."""
    key = f"{plan['job_uri'].removeprefix(f's3://{BUCKET}/')}job.json"
    return TrainingJob.model_validate_json(lab.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def start(lab: Lab, training: dict[str, Any]) -> TrainingJob:
    """Runs the first step of the workflow, which need not wait, and returns the job specification."""
    return job_of(lab, check(lab, training))


def evaluate(
    lab: Lab, benchmark_id: str, checkpoint_id: str | None = None, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """Requests an evaluation, and returns the input of its workflow."""
    checkpoint_id = checkpoint_id or add_checkpoint(lab.resources.table, lab.space_id).id
    body = {"benchmark_id": benchmark_id, "checkpoint_id": checkpoint_id, "gpu_count": 0}
    response = lab.client.post("/evaluations", json=body, headers=headers)
    assert response.status_code == 201, response.text
    return {"space_id": lab.space_id, "evaluation_id": response.json()["id"]}


def evaluation_job_of(lab: Lab, plan: dict[str, Any]) -> EvaluationJob:
    """Returns the job specification that the first step of the evaluation has written."""
    key = f"{plan['job_uri'].removeprefix(f's3://{BUCKET}/')}job.json"
    return EvaluationJob.model_validate_json(lab.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def names(job: TrainingJob | EvaluationJob) -> list[str | None]:
    return [file.name for dataset in job.datasets for file in dataset.files]


def rows(job: TrainingJob) -> int:
    """Returns the number of rows that the job's container reads."""
    return read_datasets(job.datasets, 0, "churned", boto3.client).frame.height


def upload(lab: Lab, connector_id: str, **files: bytes) -> None:
    """Uploads files, the names of which end with .csv, and scans them."""
    lab.deliver(*(lab.put(connector_id, f"{name}.csv", content) for name, content in files.items()))
    lab.work(connector_id)
