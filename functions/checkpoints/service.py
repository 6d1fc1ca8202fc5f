"""Rules of checkpoints: listing them, and scoring rows with one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from functions.checkpoints.comparisons import PairedTests
from functions.checkpoints.promotions import Promotions
from shared.checkpoints.aliases import CheckpointAliases
from shared.clock import Clock
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import Detail, ValidationFailedError
from shared.models.base import Deleted, Page
from shared.models.checkpoint import Checkpoint, Prediction, PredictionRequest, Predictions
from shared.models.checkpoint_alias import CheckpointAlias, CheckpointAliasPut, PromotionGate, PromotionGatePut
from shared.propensity.scorers import Scorers, unseen_categories
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

if TYPE_CHECKING:
    from shared.propensity.features import FeatureSchema, Matrix

REPORTED_CELLS = 100


class CheckpointService:
    def __init__(self, table: Table, s3: "S3Client", scorers: Scorers, clock: Clock) -> None:
        self._checkpoints = Repository(table, Checkpoint, kind="checkpoint", clock=clock)
        self._aliases = CheckpointAliases(table, clock)
        self._promotions = Promotions(table, self._aliases, PairedTests(s3), clock)
        self._s3 = s3
        self._scorers = scorers

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[Checkpoint]:
        return self._checkpoints.list_after(context.space_id, after, limit)

    def aliases(self, context: SpaceContext) -> Page[CheckpointAlias]:
        return self._aliases.all(context.space_id)

    def alias(self, context: SpaceContext, alias: str) -> CheckpointAlias:
        return self._aliases.get(context.space_id, alias)

    def promote(
        self, context: SpaceContext, alias: str, request: CheckpointAliasPut, expected_version: int | None
    ) -> CheckpointAlias:
        return self._promotions.promote(context, alias, request, expected_version)

    def gate(self, context: SpaceContext, alias: str) -> PromotionGate:
        return self._promotions.gate(context.space_id, alias)

    def set_gate(
        self, context: SpaceContext, alias: str, request: PromotionGatePut, expected_version: int | None
    ) -> PromotionGate:
        return self._promotions.set_gate(context, alias, request, expected_version)

    def delete_alias(self, context: SpaceContext, alias: str, expected_version: int | None) -> Deleted:
        return self._promotions.delete(context, alias, expected_version)

    def predict(self, context: SpaceContext, checkpoint_id: str, request: PredictionRequest) -> Predictions:
        """Score rows with a checkpoint, named by its id or an alias; columns that it does not know are ignored.

        Raises ValidationFailedError naming all missing columns, or the row and column of values of the wrong type, and
        ConflictError when the checkpoint's model is gone or can't be used.
        """
        rows = request.rows
        found = self._aliases.checkpoint(context.space_id, checkpoint_id)
        if found is None:
            raise self._checkpoints.not_found()
        scorer = self._scorers.get(self._s3, found.artifact)
        checkpoint = scorer.checkpoint
        matrix = checkpoint.features.encode_rows(rows)
        _require_types(checkpoint.features, rows, matrix)
        probabilities = scorer.probabilities(matrix).tolist()
        labels = (checkpoint.negative_label, checkpoint.positive_label)
        threshold = checkpoint.threshold if request.threshold is None else request.threshold
        return Predictions(
            predictions=[
                Prediction(probability=probability, label=labels[probability >= threshold])
                for probability in probabilities
            ],
            threshold=threshold,
            unseen_categories=unseen_categories(checkpoint.features, rows, matrix),
        )


def _require_types(features: "FeatureSchema", rows: Sequence[Mapping[str, Any]], matrix: "Matrix") -> None:
    """A value that was given but could not be read is a mistake, not a missing value."""
    unread = features.unread(rows, matrix)
    details = [Detail(f"rows[{index}].{each.name}", f"must be {each.expected}, or null") for index, each in unread]
    if details:
        more = f" (and {len(details) - 1} more columns)" if len(details) > 1 else ""
        raise ValidationFailedError(f"{details[0].field}: {details[0].message}{more}", details[:REPORTED_CELLS])
