"""Pins the files of a training or an evaluation when it is requested.

The names, ETags and sizes of the files of each connector are in an object of the data bucket that never changes. The
training or evaluation names the object, so a file that arrives later is not read. A listing has no version ids; the
workflow takes them from the scans that read these contents.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import TypeAdapter

from shared.clock import new_id
from shared.connectors.storage import ConnectorStorage, ConnectorStorages, FileVersion
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import ApiError
from shared.models.connector import Connector
from shared.models.connector_training import ConnectorTraining
from shared.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_FILES = 10_000
# A request does not wait longer for its connectors, which are listed at the same time.
PIN_SECONDS = 5.0
# More named files than this are found faster in a listing of all files.
SEPARATE_REQUESTS = 10
Pin = Callable[[Sequence[ConnectorTraining]], dict[str, str]]
_VERSIONS = TypeAdapter(list[FileVersion])


class FilePins:
    """Stores which contents of files a training or evaluation reads."""

    def __init__(
        self,
        table: Table,
        storages: ConnectorStorages,
        s3: "S3Client",
        bucket: str,
        seconds: float = PIN_SECONDS,
    ) -> None:
        self._connectors = Repository(table, Connector, kind="connector")
        self._storages = storages
        self._s3 = s3
        self._bucket = bucket
        self._seconds = seconds

    @contextmanager
    def of_request(self, space_id: str) -> Iterator[Pin]:
        """Yields a function that pins the files of parts as they are now, and returns the key of the pins by connector.

        A connector is left out if its files can't be listed in time, or are too many. The pins are removed if the
        request is refused.
        """
        made: list[str] = []

        def pin(parts: Sequence[ConnectorTraining]) -> dict[str, str]:
            keys = self._pin_all(space_id, parts)
            made.extend(keys.values())
            return keys

        try:
            yield pin
        except ApiError as error:
            if error.status < 500:
                self._remove(made)
            raise

    def replace(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Removes the pins that nothing names any more, after those of an entity were replaced."""
        self._remove({*before.values()} - {*after.values()})

    def _pin_all(self, space_id: str, parts: Sequence[ConnectorTraining]) -> dict[str, str]:
        pool = ThreadPoolExecutor(max_workers=len(parts))
        pinning = {part.connector_id: pool.submit(copy_context().run, self._pin_part, space_id, part) for part in parts}
        done, _ = wait(pinning.values(), timeout=self._seconds)
        pool.shutdown(wait=False)
        keys = {connector_id: each.result() for connector_id, each in pinning.items() if each in done}
        return {connector_id: key for connector_id, key in keys.items() if key is not None}

    def save(self, space_id: str, connector_id: str, versions: Sequence[FileVersion]) -> str:
        """Stores the pins of a connector's files, and returns their key."""
        key = f"spaces/{space_id}/pins/{connector_id}-{new_id()}.json"
        content = _VERSIONS.dump_json(list(versions))
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType="application/json")
        return key

    def load(self, key: str) -> list[FileVersion]:
        """Returns the pinned files."""
        return _VERSIONS.validate_json(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def _remove(self, keys: Collection[str]) -> None:
        try:
            for key in keys:
                self._s3.delete_object(Bucket=self._bucket, Key=key)
        except (ClientError, BotoCoreError):
            logger.exception("pins that nothing names remain")

    def _pin_part(self, space_id: str, part: ConnectorTraining) -> str | None:
        try:
            connector = self._connectors.get(space_id, part.connector_id)
            storage = self._storages.open(space_id, connector)
            found = _named(storage, part.files) if part.files else storage.files()
            versions = list(islice(found, MAX_FILES + 1))
            return self.save(space_id, connector.id, versions) if len(versions) <= MAX_FILES else None
        except (ApiError, ClientError, BotoCoreError) as error:
            extra = {"space_id": space_id, "connector_id": part.connector_id, "why": str(error)}
            logger.warning("the workflow will pin the files of a connector", extra=extra)
            return None


def _named(storage: ConnectorStorage, names: Sequence[str]) -> Iterator[FileVersion]:
    """Yields the named files that exist. Listing them needs no permission to read them."""
    wanted = dict.fromkeys(names)
    if len(wanted) > SEPARATE_REQUESTS:
        yield from (version for version in storage.files() if version.file in wanted)
        return
    for name in wanted:
        # The name itself sorts before all names that begin with it.
        first = next(storage.files(name), None)
        if first is not None and first.file == name:
            yield first
