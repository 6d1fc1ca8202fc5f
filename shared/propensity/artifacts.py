"""Model artifacts as SageMaker packs them (``model.tar.gz``): bounded, safe reading with the standard library."""

import io
import tarfile
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from shared.models.job import CheckpointSummary, EvaluationResult
from shared.propensity.errors import CheckpointError
from shared.scratch import is_disk_full

CHECKPOINT_FILE = "checkpoint.json"
RESULT_FILE = "result.json"
# A curve of 200 points, a few numbers, and the scores of rows; the job of an evaluation writes nothing else.
MAX_EVALUATION_BYTES = 10 * 2**20
MAX_FILES = 100
MAX_PAPER_BYTES = 50 * 2**20
# Of a model that predictions load, packed and unpacked: a function has 512 MB for both.
MAX_PACKED_BYTES = 150 * 2**20
MAX_SCORED_BYTES = 300 * 2**20
# The same of what jobs unpack: a model that can't be scored is of no use elsewhere.
MAX_EXTRACTED_BYTES = MAX_SCORED_BYTES


class _Counter(io.RawIOBase):
    """Counts what is written to it."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def require_scorable(folder: Path) -> None:
    """Checks that predictions will load the model of a folder.

    Raises:
        CheckpointError: it is too large for them.
    """
    size, paper = sum(path.stat().st_size for path in folder.iterdir()), (folder / CHECKPOINT_FILE).stat().st_size
    packed = _Counter()
    if MAX_PACKED_BYTES < size <= MAX_SCORED_BYTES:
        with tarfile.open(fileobj=packed, mode="w|gz") as archive:
            archive.add(folder)
    if size > MAX_SCORED_BYTES or packed.size > MAX_PACKED_BYTES or paper > MAX_PAPER_BYTES:
        raise CheckpointError(
            f"the model has {size / 2**20:,.0f} MB, of which {paper / 2**20:,.0f} MB describe its columns. Predictions "
            f"take {MAX_SCORED_BYTES >> 20} MB ({MAX_PACKED_BYTES >> 20} MB when packed) and {MAX_PAPER_BYTES >> 20} MB"
        )


def extract_artifact(artifact: IO[bytes], folder: Path, max_bytes: int = MAX_EXTRACTED_BYTES) -> None:
    """Unpacks a ``model.tar.gz`` into an existing folder.

    Raises:
        CheckpointError: it is damaged, has too many or too large files, or holds anything but plain files and folders
            that stay inside the folder.
        OSError: the disk is full.
    """
    try:
        with tarfile.open(fileobj=artifact, mode="r:gz") as archive:
            total = 0
            for count, member in enumerate(archive, start=1):
                if not (member.isreg() or member.isdir()):
                    raise CheckpointError(f"the model artifact holds '{member.name}', which is no plain file")
                total += member.size
                if count > MAX_FILES or total > max_bytes:
                    raise CheckpointError(
                        f"the model artifact is larger than {MAX_FILES} files or {max_bytes // 2**20} MB"
                    )
                archive.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        raise CheckpointError(f"the model artifact can't be unpacked: {error}") from error


def read_checkpoint_metadata(artifact: IO[bytes]) -> CheckpointSummary:
    """Returns the content of ``checkpoint.json`` in a training's ``model.tar.gz``.

    Raises:
        CheckpointError: the archive is missing or invalid.
    """
    try:
        return CheckpointSummary.model_validate_json(read_paper(artifact, CHECKPOINT_FILE))
    except ValidationError as error:
        raise CheckpointError(f"{CHECKPOINT_FILE} of the model artifact is damaged: {error}") from error


def read_evaluation_result(artifact: IO[bytes]) -> EvaluationResult:
    """Returns the content of ``result.json`` in an evaluation's ``model.tar.gz``.

    Raises:
        CheckpointError: the archive is missing or invalid.
    """
    try:
        return EvaluationResult.model_validate_json(read_paper(artifact, RESULT_FILE))
    except ValidationError as error:
        raise CheckpointError(f"{RESULT_FILE} of the evaluation's artifact is damaged: {error}") from error


def read_paper(artifact: IO[bytes], name: str) -> bytes:
    """Returns a file of a ``model.tar.gz``.

    Raises:
        CheckpointError: the archive is invalid, or has no such file, or the file is too large.
    """
    try:
        with tarfile.open(fileobj=artifact, mode="r|gz") as archive:
            for count, member in enumerate(archive, start=1):
                if count > MAX_FILES:
                    break
                if member.isreg() and member.name.removeprefix("./") == name:
                    if member.size > MAX_PAPER_BYTES:
                        raise CheckpointError(f"{name} is larger than {MAX_PAPER_BYTES // 2**20} MB")
                    content = archive.extractfile(member)
                    if content is not None:
                        return content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CheckpointError(f"the model artifact can't be unpacked: {error}") from error
    raise CheckpointError(f"the model artifact holds no {name}")
