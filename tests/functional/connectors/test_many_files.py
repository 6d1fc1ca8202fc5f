"""Steps that call AWS for each of thousands of files make several calls in parallel, because a step has minutes."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from functions.workflows.connector_scan.fail_scan import fail_scan
from functions.workflows.connector_scan.finish_scan import finish_scan
from shared.connectors.catalog import Catalog
from shared.connectors.storage import ConnectorStorage
from tests.fixtures.connectors import CSV, Lab
from tests.functional.connectors.helpers import KEYS

FILES = [f"{number}.csv" for number in range(12)]
AT_ONCE = 4
Meeting = Callable[[type, str], None]


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Meeting:
    """Returns a function that lets a method wait for three other calls of it."""
    barrier = threading.Barrier(AT_ONCE, timeout=20)

    def patch(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def meeting(*arguments: Any, **options: Any) -> Any:
            barrier.wait()
            return method(*arguments, **options)

        monkeypatch.setattr(owner, name, meeting)

    return patch


@pytest.mark.row("CN-4")
def test_thousands_of_vanished_files_are_dropped_within_the_time_of_a_step(
    lab: Lab, customer_bucket: Any, meet: Meeting
) -> None:
    for name in FILES:
        customer_bucket.put_object(Bucket="customer", Key=f"in/{name}", Body=CSV)
    connector_id = lab.connector(s3=KEYS)
    lab.scan(connector_id)
    lab.work(connector_id)
    for name in FILES:
        customer_bucket.delete_object(Bucket="customer", Key=f"in/{name}")
    lab.scan(connector_id)
    meet(Catalog, "record_missing")
    lab.work(connector_id)
    assert lab.catalog(connector_id) == {}


@pytest.mark.row("CN-4")
def test_thousands_of_files_get_their_errors_within_the_time_of_a_step(lab: Lab, meet: Meeting) -> None:
    connector_id = lab.connector()
    lab.deliver(*(lab.put(connector_id, name) for name in FILES))
    listed, _ = lab.begin(connector_id)
    meet(Catalog, "record_result")
    assert finish_scan(lab.resources, listed)["failed"] == len(FILES)
    lab.scan(connector_id, files=FILES)
    values = {"space_id": lab.space_id, "connector_id": connector_id, "scan_id": lab.running(connector_id)}
    fail_scan(lab.resources, {**values, "error": "States.Timeout", "cause": ""})
    assert {row.status for row in lab.resources.catalog.entries(lab.space_id, connector_id).values()} == {"error"}


@pytest.mark.row("FL-10")
def test_thousands_of_named_files_are_found_within_the_time_of_a_step(lab: Lab, meet: Meeting) -> None:
    connector_id = lab.connector()
    for name in FILES:
        lab.put(connector_id, name)
    meet(ConnectorStorage, "head")
    found = lab.dataset(connector_id, files=FILES)
    assert [file.name for file in found.files] == FILES


@pytest.mark.row("FL-10")
def test_long_columns_of_thousands_of_files_are_read_within_the_time_of_a_step(lab: Lab, meet: Meeting) -> None:
    connector_id = lab.connector()
    lab.deliver(*(lab.put(connector_id, name) for name in FILES))
    lab.work(connector_id)
    meet(Catalog, "load_columns")
    assert len(lab.resources.catalog.entries(lab.space_id, connector_id)) == len(FILES)
