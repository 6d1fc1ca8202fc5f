"""Copies the files of training jobs from and to S3."""

import contextlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

# A file's modification time and size.
Snapshot = dict[Path, tuple[int, int]]


def split_uri(uri: str) -> tuple[str, str]:
    """Returns the bucket and key of an S3 URI. Raises ValueError for other URIs.

    The CDK writes ``https://s3.region.host/bucket/key`` instead of ``s3://bucket/key``.
    """
    parts = urlsplit(uri)
    if parts.scheme == "s3" and parts.netloc:
        return parts.netloc, parts.path.lstrip("/")
    if parts.scheme == "https" and parts.netloc.startswith("s3"):
        bucket, _, key = parts.path.lstrip("/").partition("/")
        if bucket:
            return bucket, key
    raise ValueError(f"'{uri}' is not an S3 URI. Use s3://bucket/key")


def download(s3: Any, uri: str, target: Path) -> int:
    """Downloads all objects with the URI as their prefix, below the last folder of the URI. Returns their number."""
    bucket, prefix = split_uri(uri)
    root = prefix.rsplit("/", 1)[0] + "/" if "/" in prefix else ""
    count = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            key = entry["Key"]
            relative = PurePosixPath(key.removeprefix(prefix if prefix.endswith("/") else root))
            if key.endswith("/") or ".." in relative.parts:
                continue
            path = target.joinpath(*relative.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, key, str(path))
            count += 1
    return count


def upload_changed(s3: Any, folder: Path | None, uri: str, uploaded: Snapshot) -> bool:
    """Uploads new and changed files of a folder, and adds them to ``uploaded``. Returns whether there were any."""
    current = snapshot(folder)
    changed = [file for file, state in current.items() if uploaded.get(file) != state]
    if folder is None or not changed:
        return False
    bucket, prefix = split_uri(uri)
    for file in changed:
        # The next call uploads a file that is replaced during this one.
        with contextlib.suppress(FileNotFoundError):
            key = PurePosixPath(prefix) / file.relative_to(folder).as_posix()
            s3.upload_file(str(file), bucket, str(key))
            uploaded[file] = current[file]
    return True


def snapshot(folder: Path | None) -> Snapshot:
    """Returns the state of each file in a folder."""
    if folder is None or not folder.is_dir():
        return {}
    found: Snapshot = {}
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if file.is_file():
                status = file.stat()
                found[file] = (status.st_mtime_ns, status.st_size)
    return found
