"""Both engines decide for the customers of a file by the deployed functions, as requests do."""

import csv
import io
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from tests.e2e.conftest import JOB_SECONDS, TERMINAL, Stack, TrainingSpace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# The local stage has functions work on fewer rows than this.
MANY = 120_000
ROWS = 300


@pytest.fixture(scope="module")
def actions(space: TrainingSpace) -> list[str]:
    training = space.wait_for(space.train()["id"])
    assert training["status"] == "succeeded", training
    model = training["checkpoints"][0]["id"]
    offer = {"description": "", "priority": "medium", "type": "offer", "status": "active"}
    given: list[dict[str, Any]] = [
        {"name": "Card", "channel": "email", "model_id": model},
        {"name": "Call", "channel": "phone", "priority": "very_high", "conditions": ["client.customer_id < 200"]},
    ]
    return [space.api.post("/actions", {**offer, **each})["id"] for each in given]


def decided(space: TrainingSpace, rows: int, **fields: Any) -> dict[str, Any]:
    """Runs over a file of so many rows, and returns the run."""
    api, customers = space.api, space.rows(ROWS)
    written = io.StringIO()
    writer = csv.DictWriter(written, ["customer_id", *customers[0]])
    writer.writeheader()
    for number in range(rows):
        writer.writerow({"customer_id": number, **customers[number % ROWS]})
    source = api.post("/connectors", {"name": f"In {rows}", "type": "aws-s3"})["id"]
    api.upload(source, {"customers.csv": written.getvalue().encode()})
    catalog = f"/connectors/{source}/catalog"
    api.wait(catalog, lambda page: [each["status"] for each in page["data"]] == ["scanned"], seconds=JOB_SECONDS)
    run = api.post("/decision-runs", {"connector_id": source, **fields})
    ended: dict[str, Any] = api.wait(
        f"/decision-runs/{run['id']}", lambda found: found["status"] in TERMINAL, seconds=JOB_SECONDS
    )
    assert ended["status"] == "succeeded", ended
    return ended


@pytest.mark.row("BD-2", "BD-4")
def test_functions_decide_for_a_file_within_limits_as_requests_do(
    stack: Stack, space: TrainingSpace, actions: list[str], tmp_path: Path
) -> None:
    api, (_, call) = space.api, actions
    target = api.post("/connectors", {"name": "Offers", "type": "aws-s3"})["id"]
    online = api.post("/insights", {"client": {"customer_id": 7, **space.rows(8)[7]}, "wording": "none"})

    limit = {"action_id": call, "capacity": 150, "minimum": 150}
    run = decided(space, ROWS, output={"connector_id": target}, limits=[limit])

    assert run["engine"] == "lambda"
    for file in api.get(f"/decision-runs/{run['id']}/files")["data"]:
        path = tmp_path / file["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(httpx.get(file["url"], trust_env=False).raise_for_status().content)
    table: Any = duckdb.sql(f"from '{tmp_path}/decisions/*/*.parquet' order by client_key::int")
    found = table.select("action_id", "score", "contact_id").fetchall()
    assert (len(found), sum(each[0] == call for each in found)) == (ROWS, 150)
    scores = {each["action_id"]: each["score"] for each in online["candidates"]}
    assert found[7][1] == scores[found[7][0]]
    summary = api.get(f"/decision-runs/{run['id']}/summary")
    assert (summary["reserved"], summary["allocation"]["gap"] < 0.005) == (ROWS, True)
    events = api.get("/clients/7")["data"]
    assert found[7][2] in {each["id"] for each in events}
    assert api.post(f"/decision-runs/{run['id']}/cancel", {})["cancelled_at"]


@pytest.mark.row("BD-3", "BD-5")
def test_machines_of_a_job_decide_for_a_large_file(stack: Stack, space: TrainingSpace, actions: list[str]) -> None:
    run = decided(space, MANY, dry_run=True)
    summary = space.api.get(f"/decision-runs/{run['id']}/summary")
    assert (run["engine"], summary["customers"], summary["offers"]) == ("processing", MANY, MANY)
