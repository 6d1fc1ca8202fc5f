"""Values that may be too large for an item: they go to S3 beyond 100 KB, and an item never meets its 400 KB limit."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

INLINE_BYTES = 100 * 1024


class LargeValues:
    """Stores large values in ``bucket``."""

    def __init__(self, s3: "S3Client", bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def keep(self, value: Any, key: str) -> dict[str, Any]:
        """Returns the item's part for ``value``: the value as JSON, or the key of the object that it was written
        to.
        """
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        content = text.encode()
        if len(content) <= INLINE_BYTES:
            return {"json": text}
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType="application/json")
        return {"object_key": key}

    def load(self, kept: dict[str, Any]) -> Any:
        if "json" in kept:
            return json.loads(kept["json"])
        return json.loads(self._s3.get_object(Bucket=self._bucket, Key=kept["object_key"])["Body"].read())

    def remove(self, kept: dict[str, Any]) -> None:
        if "object_key" in kept:
            self._s3.delete_object(Bucket=self._bucket, Key=kept["object_key"])
