"""Values that may be too large for an item: they go to S3 beyond 100 KB, and an item never meets its 400 KB limit.

An object is written before its item, so it is noted on the cleanup list ``object#purges`` until the item's transaction
takes it off. An object that is noted for long is removed, unless its item names it.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shared.clock import Clock, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.table import Key, Table, Write

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

INLINE_BYTES = 100 * 1024

Kept = dict[str, Any]


class LargeValues:
    """Stores large values in ``bucket``."""

    def __init__(self, s3: "S3Client", bucket: str, table: Table, clock: Clock = utc_now) -> None:
        self.purges = CleanupList(table, "object", clock)
        self._table = table
        self._s3 = s3
        self._bucket = bucket

    def keep(self, space_id: str, value: Any, key: str, item: Key) -> tuple[Kept, Sequence[Write]]:
        """Returns the item's part for ``value``: the value as JSON, or the key of the object that it was written to.

        The transaction that writes ``item`` must carry out the writes, too.
        """
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        content = text.encode()
        if len(content) <= INLINE_BYTES:
            return {"json": text}, ()
        self.purges.write(self.purges.note(space_id, key, item=[item.pk, item.sk]))
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType="application/json")
        return {"object_key": key}, (self.purges.done(key),)

    def load(self, kept: Kept) -> Any:
        if "json" in kept:
            return json.loads(kept["json"])
        return json.loads(self._s3.get_object(Bucket=self._bucket, Key=kept["object_key"])["Body"].read())

    def keys(self, prefix: str) -> list[str]:
        """Returns the keys of the objects that begin with ``prefix``."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def remove(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def clean(self, _space_id: str, key: str) -> None:
        """Removes an object that its item does not name. Safe to repeat."""
        with self.purges.settling(key) as noted:
            if noted is not None and key not in str(self._table.get(Key(*noted["item"]))):
                self.remove(key)
