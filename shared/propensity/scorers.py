"""Loaded checkpoints, kept while the process is warm."""

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from shared.errors import ConflictError, UnavailableError
from shared.models.checkpoint import UNSEEN_CATEGORIES, UNSEEN_CHARACTERS, UnseenCategory
from shared.models.job import JobFile
from shared.observability import logger
from shared.propensity.artifacts import MAX_PACKED_BYTES, MAX_SCORED_BYTES, extract_artifact
from shared.propensity.errors import CheckpointError
from shared.scratch import is_disk_full, scratch_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from shared.propensity.checkpoints import Scorer
    from shared.propensity.features import FeatureSchema, Matrix

# Of model files: read, they take up to three times as much memory, of which scoring functions have 3 GB.
KEPT_BYTES = 512 * 2**20
_CHUNK = 2**20
_DISK_FULL = "There is no space to load the checkpoint at the moment. Try again."
# S3 responds 403 for a missing object if the caller may not list the bucket, and 412 if it was replaced.
_GONE = {"NoSuchKey", "NoSuchVersion", "404", "AccessDenied", "403", "PreconditionFailed", "412", "MethodNotAllowed"}


def unseen_categories(
    schema: "FeatureSchema", rows: Sequence[Mapping[str, Any]], matrix: "Matrix", limit: int = UNSEEN_CATEGORIES
) -> list[UnseenCategory]:
    """Returns the first categories that a model was not trained on. ``matrix`` is the rows as it encodes them."""
    return [
        # JSON may hold halves of characters, which no response can.
        UnseenCategory(column=column, value=text[:UNSEEN_CHARACTERS].encode(errors="replace").decode())
        for column, text in islice(schema.unseen(rows, matrix), limit)
    ]


class Scorers:
    """The most recently used scorers; one is loaded at a time, for loading is what takes memory and disk."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._scorers: OrderedDict[tuple[str, str, str], Scorer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, s3: "S3Client", artifact: JobFile) -> "Scorer":
        """Returns the scorer of an artifact.

        Raises ConflictError if the artifact is gone, too large or damaged, and UnavailableError if the disk is full.
        """
        name = (artifact.bucket, artifact.key, artifact.version_id or artifact.etag)
        with self._lock:
            if name not in self._scorers:
                self._scorers[name] = _load(s3, artifact)
            self._scorers.move_to_end(name)
            while len(self._scorers) > 1 and sum(each.size_bytes for each in self._scorers.values()) > self._kept_bytes:
                self._scorers.popitem(last=False)
            return self._scorers[name]


def _load(s3: "S3Client", artifact: JobFile) -> "Scorer":
    from shared.propensity.checkpoints import Scorer

    try:
        with scratch_folder() as folder, tempfile.TemporaryFile() as archive:
            _download(s3, artifact, archive)
            extract_artifact(archive, folder, MAX_SCORED_BYTES)
            return Scorer(folder)
    except CheckpointError as error:
        raise ConflictError(f"The checkpoint can't be used: {error}. Train again.") from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise UnavailableError(_DISK_FULL, headers={"Retry-After": "1"}) from error


def _download(s3: "S3Client", artifact: JobFile, archive: IO[bytes]) -> None:
    pinned: dict[str, Any] = {"VersionId": artifact.version_id} if artifact.version_id else {"IfMatch": artifact.etag}
    try:
        found = s3.get_object(Bucket=artifact.bucket, Key=artifact.key, **pinned)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in _GONE:
            raise
        logger.warning("the model artifact can't be read", extra={"key": artifact.key, "reason": code})
        raise ConflictError("The checkpoint's model file is gone from storage. Train again.") from None
    if found["ContentLength"] > MAX_PACKED_BYTES:
        raise ConflictError(
            f"The checkpoint's model is larger than {MAX_PACKED_BYTES // 2**20} MB: too large to score with here."
        )
    for chunk in found["Body"].iter_chunks(_CHUNK):
        archive.write(chunk)
    archive.seek(0)
