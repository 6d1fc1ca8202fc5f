"""Packages that do not fit beside a function's layers, of which AWS allows 250 MB. A cold start unpacks them."""

import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile, gettempdir

from shared.settings import Settings


def load_packages(environment: Mapping[str, str] = os.environ) -> None:
    """Unpacks the archive that ``PACKAGES_URI`` names, once for each process, and lets Python import from it.

    Deployments without layers have every package, and no archive.
    """
    uri = Settings.from_environment(environment).packages_uri or ""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    folder = Path(gettempdir()) / f"packages-{Path(key).stem}"
    # As Lambda has it in layers.
    packages = str(folder / "python")
    if not key or packages in sys.path:
        return
    import boto3

    with TemporaryFile() as archive:
        boto3.client("s3").download_fileobj(bucket, key, archive)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
    sys.path.append(packages)
