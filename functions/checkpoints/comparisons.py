"""Compares two checkpoints by their scores of the same rows of a benchmark."""

import io
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.models.checkpoint_alias import ComparisonTest
from shared.models.evaluation import Evaluation
from shared.models.job import LOWER_IS_BETTER, MetricName
from shared.propensity.artifacts import MAX_EVALUATION_BYTES, read_paper
from shared.propensity.errors import CheckpointError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from shared.propensity.influences import ScoredRows
    from shared.propensity.scored_rows import ScoreKeys


_GONE = {"NoSuchKey", "404", "PreconditionFailed", "412"}


@dataclass(frozen=True)
class Paired:
    """The difference of a metric on common rows, positive if the first checkpoint is better, and its error."""

    test: ComparisonTest
    rows: int
    difference: float
    error: float

    @property
    def p_value(self) -> float:
        """Returns the probability of such a difference, or a worse one, between equal checkpoints."""
        if not self.error:
            return 0.0 if self.difference < 0 else 1.0
        return NormalDist().cdf(self.difference / self.error)

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Returns bounds of the difference, each of which holds with this confidence."""
        width = NormalDist().inv_cdf(confidence) * self.error
        return self.difference - width, self.difference + width


class PairedTests:
    """Reads the scores that evaluations have kept, and compares them."""

    def __init__(self, s3: "S3Client") -> None:
        self._s3 = s3

    def compare(self, metric: MetricName, mine: Evaluation | None, theirs: Evaluation | None) -> Paired | None:
        """Returns the comparison on the rows that both have scored.

        ``None`` if an evaluation has kept no scores (those of earlier versions), or there are too few common rows.
        """
        # numpy is for promotions through such a gate only.
        from shared.propensity.influences import influence
        from shared.propensity.scored_rows import common_rows

        scores = [self._scores(each) for each in (mine, theirs)]
        if scores[0] is None or scores[1] is None:
            return None
        rows, others = common_rows(scores[0], scores[1])
        own, other = influence(metric, rows), influence(metric, others)
        if own is None or other is None:
            return None
        found = own.minus(other)
        difference = gain(metric, found.value, 0.0)
        return Paired(_TESTS.get(metric, ComparisonTest.PAIRED_DIFFERENCE), len(rows), difference, found.error)

    def _scores(self, evaluation: Evaluation | None) -> "tuple[ScoreKeys, ScoredRows] | None":
        from shared.propensity.scored_rows import SCORES_FILE, read_scores

        artifact = evaluation.artifact if evaluation else None
        if artifact is None or artifact.size_bytes > MAX_EVALUATION_BYTES:
            return None
        try:
            found = self._s3.get_object(Bucket=artifact.bucket, Key=artifact.key, IfMatch=artifact.etag)
            return read_scores(read_paper(io.BytesIO(found["Body"].read()), SCORES_FILE))
        except CheckpointError:
            return None
        except ClientError as error:
            if error.response["Error"]["Code"] not in _GONE:
                raise
            return None


def gain(metric: MetricName, value: float, against: float) -> float:
    """Returns by how much the first value is better; negative when it is worse."""
    return against - value if metric in LOWER_IS_BETTER else value - against


_TESTS = {MetricName.ROC_AUC: ComparisonTest.PAIRED_DELONG, MetricName.GINI: ComparisonTest.PAIRED_DELONG}
