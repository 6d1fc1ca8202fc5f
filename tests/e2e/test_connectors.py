"""Tests of scans by the deployed state machine."""

import pytest

from tests.e2e.conftest import Stack

CSV = b"id,income\n1,10\n2,1.5\n"


@pytest.mark.e2e
@pytest.mark.row("CN-4")
def test_a_scan_succeeds_and_reports_the_result_of_each_file(stack: Stack) -> None:
    api = stack.member()
    connector_id = api.post("/connectors", {"name": "Customers", "type": "aws-s3"})["id"]
    api.upload(connector_id, {"good.csv": CSV, "folder/broken.parquet": b"PAR1 is not enough"})
    path = f"/connectors/{connector_id}/catalog"
    api.wait(path, lambda page: {row["status"] for row in page["data"]} == {"scanned", "error"}, seconds=120)

    machine = stack.outputs.get("ScanStateMachineArn") or next(
        found["stateMachineArn"]
        for found in stack.aws("stepfunctions").list_state_machines()["stateMachines"]
        if found["name"].endswith("connector-scan")
    )

    def execution_statuses() -> list[str]:
        executions = stack.aws("stepfunctions").list_executions(stateMachineArn=machine)["executions"]
        return [each["status"] for each in executions if each["name"] == scan_id]

    scan_id = api.post(f"/connectors/{connector_id}/scan", {"files": ["good.csv", "missing.csv"]})["scan_id"]
    page = api.wait(path, lambda page: page["count"] == 3, seconds=120)
    errors = {row["file"]: row["error"] for row in page["data"] if row["status"] == "error"}
    assert errors.keys() == {"folder/broken.parquet", "missing.csv"}
    assert "Parquet" in errors["folder/broken.parquet"]
    api.wait(path, lambda _: execution_statuses() == ["SUCCEEDED"], seconds=60)
    assert api.get(f"/connectors/{connector_id}/files") == [["folder/broken.parquet"], ["good.csv"]]
