"""A customer's storage cannot make us read more than it announced."""

import io
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody

from shared.connectors.storage import ConnectorStorage, FileChangedError, FileVersion


class LongStorage:
    """An S3 client whose files are longer than they should be."""

    def get_object(self, **_: Any) -> dict[str, Any]:
        content = b"x" * 5_000_000
        return {"Body": StreamingBody(io.BytesIO(content), len(content))}


@pytest.fixture
def storage() -> ConnectorStorage:
    client: Any = LongStorage()
    return ConnectorStorage(client, "bucket", "", is_managed=False)


@pytest.mark.row("SE-5")
def test_a_file_that_is_longer_than_it_was_is_not_read(storage: ConnectorStorage, tmp_path: Path) -> None:
    with pytest.raises(FileChangedError):
        storage.download(FileVersion("a.csv", "tag", 1_000_000), tmp_path / "file")


@pytest.mark.row("SE-5")
def test_the_beginning_of_a_file_has_no_more_than_was_asked_for(storage: ConnectorStorage) -> None:
    assert len(storage.beginning(FileVersion("a.csv", "tag", 1_000_000), 100)) == 100
