"""Failures of S3 that pass decide nothing about files."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from functions.workflows.connector_scan import scan_file
from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.scan_file import scan_files
from shared.errors import OutageError, TransientError
from shared.files.confined import ConfinedDefectError
from shared.observability import workflow_step
from shared.scratch import PREFIX
from tests.fixtures.connectors import CSV, Lab
from tests.functional.connectors.helpers import KEYS

LONGER = CSV + b"3,7\n"


@contextmanager
def slowed_down(operation: str) -> Iterator[None]:
    """Lets S3 answer an operation with SlowDown."""
    call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def answer(client: Any, name: str, parameters: Any) -> Any:
        if name == operation:
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "Please reduce your request rate."}}, name)
        return call(client, name, parameters)

    with patch.object(BaseClient, "_make_api_call", answer):
        yield


@pytest.fixture
def connector_id(lab: Lab, customer_bucket: Any) -> str:
    """Returns a connector to a customer's bucket with two scanned files, of which one has changed since."""
    for name in ("a.csv", "b.csv"):
        customer_bucket.put_object(Bucket="customer", Key=f"in/{name}", Body=CSV)
    connector_id = lab.connector(s3=KEYS)
    lab.scan(connector_id)
    lab.work(connector_id)
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=LONGER)
    lab.scan(connector_id)
    return connector_id


@pytest.mark.row("EN-3")
@pytest.mark.parametrize("operation", ["HeadObject", "GetObject"])
def test_a_bucket_that_asks_to_slow_down_is_read_later_and_empties_no_entry(
    lab: Lab, connector_id: str, operation: str
) -> None:
    before = lab.catalog(connector_id)
    listed, items = lab.begin(connector_id)
    with slowed_down(operation), pytest.raises(TransientError, match="SlowDown"):
        scan_files(lab.resources, {**listed, "files": items})
    assert lab.catalog(connector_id) == before
    scan_files(lab.resources, {**listed, "files": items})
    assert finish_scan(lab.resources, listed)["failed"] == 0
    assert lab.catalog(connector_id)["a.csv"]["rows"] == 3


@pytest.mark.row("EN-3")
def test_a_listing_that_is_slowed_down_is_no_error_of_the_connector(lab: Lab, connector_id: str) -> None:
    with slowed_down("ListObjectsV2"):
        with pytest.raises(TransientError, match="SlowDown"):
            lab.begin(connector_id)
        with pytest.raises(TransientError, match="SlowDown"):
            lab.dataset(connector_id)
    assert lab.client.get(f"/connectors/{connector_id}").json()["status"] == "connected"


@pytest.mark.row("EN-3")
def test_a_failure_that_never_passes_is_named_and_not_called_too_large(lab: Lab, connector_id: str) -> None:
    lab.client.put(f"/connectors/{connector_id}", json={"read_options": {"delimiter": ","}})
    listed, items = lab.begin(connector_id)
    with slowed_down("GetObject"), pytest.raises(TransientError):
        scan_files(lab.resources, {**listed, "files": items})
    finish_scan(lab.resources, listed)
    error = lab.catalog(connector_id)["a.csv"]["error"]
    assert ("SlowDown" in error, "Split" in error) == (True, False)


@pytest.mark.row("EN-3")
def test_our_own_bucket_that_is_slowed_down_is_an_outage_and_the_other_files_of_the_group_get_results(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(*(lab.put(connector_id, name) for name in ("a.csv", "b.csv")))
    listed, items = lab.begin(connector_id)
    step = workflow_step(lambda event: scan_files(lab.resources, event))
    read_file, failing = scan_file.read_file, iter(["GetObject"])

    def read(*arguments: Any) -> Any:
        for operation in failing:
            with slowed_down(operation):
                return read_file(*arguments)
        return read_file(*arguments)

    with patch.object(scan_file, "read_file", read), pytest.raises(OutageError):
        step({**listed, "files": items}, None)
    assert {name: row["status"] for name, row in lab.catalog(connector_id).items()} == {
        "a.csv": "pending",
        "b.csv": "scanned",
    }


@pytest.mark.row("EN-3")
def test_a_defect_of_ours_is_not_called_too_large(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    listed, items = lab.begin(connector_id)
    defect = patch.object(scan_file, "run_confined", side_effect=ConfinedDefectError("a stack trace"))
    with defect, pytest.raises(ConfinedDefectError):
        scan_files(lab.resources, {**listed, "files": items})
    finish_scan(lab.resources, listed)
    assert lab.catalog(connector_id)["a.csv"]["error"].startswith("An error on our side")


@pytest.mark.row("EN-3")
def test_a_scan_after_a_killed_one_finds_the_disk_empty_and_does_not_ask_to_split_the_file(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{PREFIX}of a killed function"
    left.mkdir()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0 if left.exists() else usage.total))
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    lab.work(connector_id)
    assert lab.catalog(connector_id)["a.csv"]["status"] == "scanned"
