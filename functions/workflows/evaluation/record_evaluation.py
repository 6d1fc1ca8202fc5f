"""After the job: what it measured becomes the evaluation's result and the checkpoint's score, exactly once."""

import io
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from shared.errors import JobFailedError, NotFoundError
from shared.models.job import EvaluationResult, JobFile
from shared.observability import workflow_step
from shared.propensity.artifacts import MAX_EVALUATION_BYTES, read_evaluation_result
from shared.propensity.errors import CheckpointError
from shared.resources import Resources

_resources = Resources()


def record_evaluation(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Reads the result out of the job's ``model.tar.gz`` and ends the evaluation ``succeeded``.

    Takes ``{space_id, evaluation_id, model_uri}``, answers ``{space_id, evaluation_id, status}``. An evaluation that
    has ended stays as it is. Raises JobFailedError when there is no whole result.
    """
    space_id, evaluation_id = event["space_id"], event["evaluation_id"]
    evaluations = resources.evaluations
    if not evaluations.repository.get(space_id, evaluation_id).result.status.is_final:
        result, artifact = _read_result(resources, event["model_uri"])
        try:
            evaluations.succeed(space_id, evaluation_id, result, artifact)
        except NotFoundError:
            raise JobFailedError("The checkpoint was deleted while it was being evaluated.") from None
    evaluation = evaluations.repository.get(space_id, evaluation_id)
    resources.boards.pack(space_id, evaluation.benchmark_id)
    return {"space_id": space_id, "evaluation_id": evaluation_id, "status": evaluation.result.status}


def _read_result(resources: Resources, uri: str) -> tuple[EvaluationResult, JobFile]:
    address = urlsplit(uri)
    bucket, key = address.netloc, address.path.lstrip("/")
    try:
        found = resources.s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "AccessDenied"):
            raise
        raise JobFailedError("The evaluation left no result behind. Start it again.") from None
    artifact = JobFile.of_object(bucket, key, found)
    if found["ContentLength"] > MAX_EVALUATION_BYTES:
        raise JobFailedError("The evaluation left more than a result behind. Start it again.")
    try:
        result = read_evaluation_result(io.BytesIO(found["Body"].read()))
    except CheckpointError as error:
        raise JobFailedError(f"The evaluation's result can't be read: {error}. Start it again.") from None
    return result, artifact


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return record_evaluation(_resources, event)
