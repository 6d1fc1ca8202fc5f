"""Follows a decision back to what it rested on: the leaderboard, the training, and the objects that it read."""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from shared.evaluations.scores import Scores
from shared.models.checkpoint import Checkpoint
from shared.models.job import TrainingJob
from shared.models.lineage import DecisionLineage, Lineage, LineageFile, LineageScore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Lineages:
    def __init__(self, scores: Scores, s3: "S3Client", bucket: str) -> None:
        self._scores = scores
        self._s3 = s3
        self._bucket = bucket

    def of_decision(self, space_id: str, action_id: str | None, checkpoint: Checkpoint | None) -> DecisionLineage:
        """Returns the lineage to store with a decision for the action, with the present scores of the checkpoint."""
        if checkpoint is None:
            return DecisionLineage(action_id=action_id)
        scores = [
            LineageScore(
                evaluation_id=score.evaluation_id,
                benchmark_id=score.benchmark_id,
                benchmark_revision=score.revision,
                metrics=dict(score.metrics),
            )
            for score in self._scores.of_checkpoint(space_id, checkpoint.id)
        ]
        return DecisionLineage(
            action_id=action_id, checkpoint_id=checkpoint.id, training_id=checkpoint.training_id, scores=scores
        )

    def trace(self, space_id: str, decision: DecisionLineage, **links: Any) -> Lineage:
        """Returns the chain from the files to ``links`` at its end.

        The files are those of the training's job specification, which outlives the training, the connector and the
        files themselves.
        """
        lineage = Lineage(**dict(decision), **links)
        job = self._job(space_id, decision.training_id) if decision.training_id else None
        if job is not None:
            lineage.data_model_id = job.data_model_id
            lineage.files = [
                LineageFile(
                    connector_id=dataset.connector_id,
                    file=file.label,
                    bucket=file.bucket,
                    key=file.key,
                    etag=file.etag,
                    version_id=file.version_id,
                    scan_id=file.scan_id,
                )
                for dataset in job.datasets
                for file in dataset.files
            ]
        return lineage

    def _job(self, space_id: str, training_id: str) -> TrainingJob | None:
        key = f"spaces/{space_id}/trainings/{training_id}/input/job.json"
        try:
            found = self._s3.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
                raise
            return None
        return TrainingJob.model_validate_json(found["Body"].read())
