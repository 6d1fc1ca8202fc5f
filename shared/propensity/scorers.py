"""Loaded checkpoints, kept while the process is warm."""

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
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
from shared.space_binding import BoundThreads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from shared.propensity.checkpoints import Scorer
    from shared.propensity.features import FeatureSchema, Matrix

# Of model files: read, they take about twice as much memory, of which scoring functions have 3 GB.
KEPT_BYTES = 640 * 2**20
# Of packed files that are loaded at the same time: unpacked and read, they take up to 20 times as much for a moment.
LOADING_BYTES = 32 * 2**20
LOADERS = 8
_CHUNK = 2**20
_Name = tuple[str, str, str]
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
    """The most recently used scorers, as many as memory holds. Several are loaded at a time, if they are small."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._scorers: OrderedDict[_Name, Scorer] = OrderedDict()
        self._loading: dict[_Name, Future[Scorer]] = {}
        self._loading_bytes = 0
        self._lock = threading.Lock()
        self._loaded = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._scorers)

    def get(self, s3: "S3Client", artifact: JobFile) -> "Scorer":
        """Returns the scorer of an artifact.

        Raises ConflictError if the artifact is gone, too large or damaged, and UnavailableError if the disk is full.
        """
        name = _name(artifact)
        with self._lock:
            if name in self._scorers:
                self._scorers.move_to_end(name)
                return self._scorers[name]
            other = self._loading.get(name)
            loading = self._loading[name] = other or Future()
        if other is None:
            self._load(s3, artifact, loading)
        return loading.result()

    def each(self, s3: "S3Client", artifacts: Mapping[str, JobFile]) -> "Iterator[tuple[str, Scorer | ConflictError]]":
        """Yields the scorer of each artifact, or the error why it has none, with the artifact's key in the mapping.

        Scorers in memory come first, so that loading the others cannot remove them before they are used. Raises
        UnavailableError if the disk is full.
        """
        with self._lock:
            missing = {key: each for key, each in artifacts.items() if _name(each) not in self._scorers}
        for key in artifacts.keys() - missing.keys():
            yield key, self._found(s3, artifacts[key])
        if not missing:
            return
        with BoundThreads(min(LOADERS, len(missing))) as threads:
            loading = {threads.submit(self._found, s3, each): key for key, each in missing.items()}
            for loaded in as_completed(loading):
                yield loading[loaded], loaded.result()

    def _found(self, s3: "S3Client", artifact: JobFile) -> "Scorer | ConflictError":
        try:
            return self.get(s3, artifact)
        except ConflictError as error:
            return error

    def _load(self, s3: "S3Client", artifact: JobFile, loading: "Future[Scorer]") -> None:
        """Loads a scorer for all who wait for it."""
        try:
            with self._room(artifact.size_bytes):
                scorer = _load(s3, artifact)
        except BaseException as error:
            loading.set_exception(error)
            raise
        else:
            self._keep(_name(artifact), scorer)
            loading.set_result(scorer)
        finally:
            with self._lock:
                del self._loading[_name(artifact)]

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Waits until there is memory and disk for one more artifact. One alone may be of any size."""
        with self._loaded:
            self._loaded.wait_for(lambda: not self._loading_bytes or self._loading_bytes + size <= LOADING_BYTES)
            self._loading_bytes += size
        try:
            yield
        finally:
            with self._loaded:
                self._loading_bytes -= size
                self._loaded.notify_all()

    def _keep(self, name: _Name, scorer: "Scorer") -> None:
        with self._lock:
            self._scorers[name] = scorer
            while len(self._scorers) > 1 and sum(each.size_bytes for each in self._scorers.values()) > self._kept_bytes:
                self._scorers.popitem(last=False)


def _name(artifact: JobFile) -> _Name:
    return artifact.bucket, artifact.key, artifact.version_id or artifact.etag


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
