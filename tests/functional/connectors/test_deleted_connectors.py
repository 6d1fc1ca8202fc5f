"""Tests that nothing stays of a deleted connector, although events and scans come late and calls to AWS fail."""

from typing import Any

import pytest

from functions.events.reconcile_jobs import clean_up
from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.scan_file import scan_file
from shared.connectors.catalog import Catalog
from shared.connectors.storage import ConnectorStorage, FileVersion
from shared.dynamodb.cleanup_list import GRACE
from tests.faults.boundary import Boundary, Fault
from tests.fixtures.clocks import MovableClock
from tests.fixtures.connectors import Lab
from tests.fixtures.spaces import held_by_aws


def delete(lab: Lab, connector_id: str) -> None:
    assert lab.client.delete(f"/connectors/{connector_id}").status_code == 200


def remains(lab: Lab, connector_id: str, clock: MovableClock) -> list[str]:
    """Returns the keys of what the next round of the reconciler leaves of a connector."""
    clock.now += GRACE
    clean_up(lab.resources)
    kept = (" removal#", " scan#", " job#", "audit#")
    return [key for key in held_by_aws() if connector_id in key and not any(each in key for each in kept)]


@pytest.mark.row("EN-5")
def test_a_file_of_a_deleted_connector_is_removed_when_its_event_is_redelivered(
    lab: Lab, boundary: Boundary, clock: MovableClock
) -> None:
    connector_id = lab.connector()
    delete(lab, connector_id)
    late = lab.put(connector_id, "late.csv")
    with boundary.failing(Fault.BROKEN, about='"connector#'):
        assert lab.deliver(late) == ["0"], "the look for the connector failed"
    assert lab.deliver(late) == []
    assert remains(lab, connector_id, clock) == []


@pytest.mark.row("EN-5")
def test_a_file_that_arrives_while_its_connector_is_cleaned_is_removed_by_the_next_round(
    lab: Lab, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector_id = lab.connector()
    forget = Catalog.forget

    def forget_and_receive(catalog: Catalog, *where: str) -> None:
        forget(catalog, *where)
        assert lab.deliver(lab.put(connector_id, "late.csv")) == []

    with monkeypatch.context() as patches:
        patches.setattr(Catalog, "forget", forget_and_receive)
        delete(lab, connector_id)
    assert remains(lab, connector_id, clock) == []


@pytest.mark.row("EN-5")
@pytest.mark.parametrize("is_overtaken", [False, True])
def test_what_a_scan_stores_after_its_connector_was_deleted_is_removed(
    lab: Lab, clock: MovableClock, monkeypatch: pytest.MonkeyPatch, is_overtaken: bool
) -> None:
    """The columns of the file are long, so that the scan writes them to S3 before their item."""
    connector_id = lab.connector()
    names = "|".join(f"{number} is the number of a column with a rather long name" for number in range(1_000))
    content = f"{names}\n{'|'.join('1' * 1_000)}\n".encode()
    lab.deliver(lab.put(connector_id, "wide.csv", content))
    listed, items = lab.begin(connector_id)
    download = ConnectorStorage.download

    def download_and_delete(storage: ConnectorStorage, version: FileVersion, target: Any) -> None:
        download(storage, version, target)
        delete(lab, connector_id)
        if is_overtaken:
            lab.deliver(lab.put(connector_id, "wide.csv", content))

    with monkeypatch.context() as patches:
        patches.setattr(ConnectorStorage, "download", download_and_delete)
        for item in items:
            scan_file(lab.resources, {**listed, "file": item})
    finish_scan(lab.resources, listed)
    assert remains(lab, connector_id, clock) == []


@pytest.mark.row("EN-5")
def test_a_scan_that_ends_after_its_connector_was_deleted_has_it_cleaned_again(lab: Lab, clock: MovableClock) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv"))
    listed, _ = lab.begin(connector_id)
    delete(lab, connector_id)
    # A copy of a table comes before all items, and a killed function writes no item.
    lab.s3.put_object(Bucket="data", Key=f"spaces/{lab.space_id}/snapshots/{connector_id}/customers", Body=b"rows")
    finish_scan(lab.resources, listed)
    assert remains(lab, connector_id, clock) == []


@pytest.mark.row("EN-5")
def test_a_problem_that_is_noted_after_its_connector_was_deleted_is_removed(lab: Lab, clock: MovableClock) -> None:
    connector_id = lab.connector()
    delete(lab, connector_id)
    lab.resources.catalog.note_problem(lab.space_id, connector_id, "a.csv", "scan", "It broke.")
    assert remains(lab, connector_id, clock) == []
