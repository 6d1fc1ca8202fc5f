"""Both engines of runs carry one out by the deployed functions, and other programs read the output."""

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


@pytest.fixture(scope="module")
def checkpoint(space: TrainingSpace) -> dict[str, Any]:
    training = space.wait_for(space.train()["id"])
    assert training["status"] == "succeeded", training
    found: dict[str, Any] = training["checkpoints"][0]
    return found


def scored(space: TrainingSpace, checkpoint: dict[str, Any], rows: int, folder: Path) -> tuple[dict[str, Any], Any]:
    """Scores a file of so many rows, and returns the run with its output as DuckDB reads it."""
    api, customers = space.api, space.rows(300)
    written = io.StringIO()
    writer = csv.DictWriter(written, ["customer_id", *customers[0]])
    writer.writeheader()
    for number in range(rows):
        writer.writerow({"customer_id": number, **customers[number % len(customers)]})
    connectors = [api.post("/connectors", {"name": f"{name} {rows}", "type": "aws-s3"})["id"] for name in ("In", "Out")]
    source, target = connectors
    api.upload(source, {"customers.csv": written.getvalue().encode()})
    catalog = f"/connectors/{source}/catalog"
    api.wait(catalog, lambda page: [each["status"] for each in page["data"]] == ["scanned"], seconds=JOB_SECONDS)
    body = {"checkpoint_id": checkpoint["id"], "connector_id": source, "output": {"connector_id": target}}
    run = api.post("/predictions", body)

    ended = api.wait(f"/predictions/{run['id']}", lambda found: found["status"] in TERMINAL, seconds=JOB_SECONDS)

    assert ended["status"] == "succeeded", ended
    for file in api.get(f"/predictions/{run['id']}/files")["data"]:
        path = folder / file["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(httpx.get(file["url"], trust_env=False).raise_for_status().content)
    return ended, duckdb.sql(f"from '{folder}/predictions/*/*.parquet' order by client_key::int")


@pytest.mark.row("BD-1", "BD-5", "BD-6", "X-1")
@pytest.mark.parametrize(("engine", "rows"), [("lambda", 300), ("processing", MANY)])
def test_an_engine_scores_a_file_as_requests_do(
    stack: Stack, space: TrainingSpace, checkpoint: dict[str, Any], engine: str, rows: int, tmp_path: Path
) -> None:
    run, table = scored(space, checkpoint, rows, tmp_path)

    assert run["engine"] == engine
    assert (run["progress"]["rows_written"], run["progress"]["rows_refused"]) == (rows, 0)
    online = space.api.post(f"/checkpoints/{checkpoint['id']}/predictions", {"rows": space.rows(300)})["predictions"]
    found = table.select("client_key", "probability", "label", "run").fetchall()
    assert len(found) == rows
    assert {each[3] for each in found} == {run["id"]}
    for number, (key, probability, label, _) in enumerate(found):
        expected = online[number % 300]
        assert (key, probability, label) == (str(number), expected["probability"], expected["label"])
