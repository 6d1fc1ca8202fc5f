"""Every hour: spaces whose time to be restored is over are removed for good, with everything that belongs to them.

Items of the table go first, and with them the access keys and tokens that they name; then inference logs, then files
with all their versions; the space itself is the last. Each part is safe to repeat: what is cut off is gone on with.
"""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from functions.events.space_contents import SPACES_AT_ONCE, Pass, SpaceContents
from shared.dynamodb.table import Item
from shared.observability import logger
from shared.resources import Resources
from shared.spaces.store import DeletedSpace, Spaces

# Kept free at the end for what is under way.
MARGIN_SECONDS = 60
_resources = Resources()


class PurgeError(Exception):
    """Some spaces could not be removed. The next run takes them up again."""


class SpacePurge:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._spaces = Spaces(resources.table, resources.clock)
        self._storages = resources.connector_storages
        self._tokens = resources.cluster_tokens
        self._contents = SpaceContents(resources.table, self._forget_secrets)
        self._failed: set[str] = set()

    def run(self, seconds: float) -> int:
        """Purges spaces for at most ``seconds``, and returns how many it has finished.

        Raises PurgeError if a space could not be removed, after all others have been.
        """
        ends_at = time.monotonic() + seconds
        done = 0
        while current := self._contents.current() or self._begin():
            while not current.is_over:
                if time.monotonic() > ends_at:
                    return done
                current = self._contents.remove_some(current)
            self._failed |= current.left_out
            for space in current.spaces:
                if time.monotonic() > ends_at:
                    return done
                try:
                    self._remove_rest(space)
                    done += 1
                except Exception:  # noqa: BLE001 - a space that fails must not stop the others
                    logger.exception("a space could not be removed", extra={"space_id": space.id})
                    self._failed.add(space.id)
            self._contents.end()
        if self._failed:
            raise PurgeError(f"{len(self._failed)} spaces could not be removed")
        return done

    def _remove_rest(self, space: DeletedSpace) -> None:
        self._resources.inference_logs.remove_all(space.id)
        self._remove_files(space.id)
        self._spaces.forget(space)

    def _begin(self) -> Pass | None:
        due = (space for space in self._spaces.due() if space.id not in self._failed)
        closed = (space for space in due if self._spaces.close(space))
        spaces = list(islice(closed, SPACES_AT_ONCE))
        return self._contents.save(Pass(spaces)) if spaces else None

    def _forget_secrets(self, item: Item) -> None:
        """The parameters behind a connector or a cluster: its item is the last to know of them."""
        kind, _, rest = item["PK"].partition("#")
        if kind == "connector" and "#" not in rest:
            self._storages.drop_credentials(item["SK"])
        noted = item["SK"] if item["PK"] == "cluster#purges" else None
        self._tokens.forget(item.get("token_parameter"), item.get("manager_token_parameter"), noted)

    def _remove_files(self, space_id: str) -> None:
        s3, bucket = self._resources.s3, self._resources.settings.bucket_name
        for prefix in (f"spaces/{space_id}/", f"temporary/spaces/{space_id}/"):
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
                for batch in _batches([*page.get("Versions", []), *page.get("DeleteMarkers", [])]):
                    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
                    if answer.get("Errors"):
                        raise RuntimeError(f"files of the space {space_id} could not be deleted: {answer['Errors'][0]}")


def _batches(versions: list[Any]) -> Iterator[list[Any]]:
    """Yields batches of the size that S3 accepts."""
    for start in range(0, len(versions), 1000):
        yield [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in versions[start : start + 1000]]


@logger.inject_lambda_context
def handler(_event: dict[str, Any], context: Any) -> None:
    done = SpacePurge(_resources).run(context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS)
    logger.info("purged", extra={"spaces": done})
