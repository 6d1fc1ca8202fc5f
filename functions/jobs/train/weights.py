"""Fetches the weights that the operator has put into the deployment's bucket for an architecture."""

import hashlib
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from shared.connectors.downloads import ClientFactory
from shared.errors import JobFailedError
from shared.models.job import JobWeights


def fetch_weights(weights: JobWeights, client: ClientFactory, folder: Path) -> Path:
    """Returns the file of the weights. Nothing has opened it before its checksum was compared.

    Raises:
        JobFailedError: it is not there, or has another content than the operator has stated.
    """
    path, place = folder / "weights", f"s3://{weights.bucket}/{weights.key}"
    try:
        client("s3").download_file(weights.bucket, weights.key, str(path))
    except (ClientError, BotoCoreError) as error:
        raise JobFailedError(
            f"The architecture's weights cannot be read from {place}: {error}. The operator of this deployment has to "
            "put them there."
        ) from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != weights.sha256:
        raise JobFailedError(
            f"The architecture's weights at {place} have the SHA-256 {found}, not {weights.sha256}, which the operator "
            "of this deployment has stated. Either may be wrong, so they were not opened."
        )
    return path
