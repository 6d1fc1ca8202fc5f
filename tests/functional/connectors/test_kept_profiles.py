"""A failed scan does not replace what an earlier scan found in the same content."""

from typing import Any

import pytest

from functions.workflows.connector_scan.fail_scan import fail_scan
from functions.workflows.connector_scan.finish_scan import finish_scan
from tests.fixtures.connectors import Lab
from tests.functional.connectors.helpers import KEYS

PERSONAL = b"email,age,churned\nada@example.com,30,yes\ngrace@example.org,41,no\n"


@pytest.mark.row("FL-10")
@pytest.mark.parametrize("options", [None, {"delimiter": ","}])
def test_a_failed_scan_of_the_same_content_does_not_replace_its_profile(
    lab: Lab, options: dict[str, str] | None
) -> None:
    connector_id = lab.connector(read_options=options)
    lab.deliver(lab.put(connector_id, "a.csv", PERSONAL))
    lab.work(connector_id)
    before = lab.catalog(connector_id)["a.csv"]
    lab.scan(connector_id, files=["a.csv"])
    listed, _ = lab.begin(connector_id)
    assert finish_scan(lab.resources, listed)["failed"] == 1
    lab.scan(connector_id, files=["a.csv"])
    values = {"space_id": lab.space_id, "connector_id": connector_id, "scan_id": lab.running(connector_id)}
    fail_scan(lab.resources, {**values, "error": "States.Timeout", "cause": ""})
    assert lab.catalog(connector_id)["a.csv"] == before
    assert lab.resources.catalog.pending(lab.space_id, connector_id) == {}


@pytest.mark.row("FL-10")
def test_a_failed_scan_of_another_content_or_with_other_options_is_shown(lab: Lab, customer_bucket: Any) -> None:
    connector_id = lab.connector(s3=KEYS)
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=PERSONAL)
    lab.scan(connector_id)
    lab.work(connector_id)
    lab.client.patch(f"/connectors/{connector_id}", json={"read_options": {"delimiter": ";"}})
    listed, _ = lab.begin(connector_id)
    finish_scan(lab.resources, listed)
    assert lab.catalog(connector_id)["a.csv"]["status"] == "error"
    lab.scan(connector_id)
    lab.work(connector_id)
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=b'{"a": 1}\n{"a": \n')
    lab.scan(connector_id)
    lab.work(connector_id)
    assert lab.catalog(connector_id)["a.csv"]["status"] == "error"
