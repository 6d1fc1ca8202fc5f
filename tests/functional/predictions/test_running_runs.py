"""A space has only so many unfinished runs of both kinds, because each may start ten machines."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.settings import Settings
from tests.fixtures.trained_models import customers
from tests.functional.predictions.conftest import Runs, parquet

pytestmark = pytest.mark.row("SE-9")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_running_runs": 1})


@pytest.fixture
def runs(runs: Runs) -> Runs:
    runs.upload("a.parquet", parquet(customers(30, 8).drop("bought").with_row_index("customer_id", 1)))
    return runs


def used(runs: Runs) -> int:
    usage = runs.lab.client.get(f"/spaces/{runs.lab.space_id}/limits").json()["job_usage"]["running_runs"]
    assert usage["limit"] == 1
    return int(usage["used"])


def output(runs: Runs, folder: str) -> dict[str, Any]:
    return {"connector_id": runs.target, "folder": folder}


def test_a_run_too_many_is_429_until_another_one_has_ended(runs: Runs) -> None:
    run = runs.start()
    refused = runs.request(output=output(runs, "more"))
    assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (429, "limit_reached", "60")
    assert "running_runs" in refused.json()["error"]
    action = {"name": "Card", "description": "", "priority": "low", "type": "offer", "status": "active"}
    runs.lab.client.post("/actions", json=action).raise_for_status()
    decisions = {"connector_id": runs.source, "dry_run": True}
    assert runs.lab.client.post("/decision-runs", json=decisions).status_code == 429
    assert used(runs) == 1

    assert runs.work(run)["status"] == "succeeded"
    assert used(runs) == 0
    assert runs.lab.client.post("/decision-runs", json=decisions).status_code == 201
    assert runs.request(output=output(runs, "more")).status_code == 429


def test_a_restart_needs_a_place_too(runs: Runs) -> None:
    run = runs.start()
    path = f"/predictions/{run['id']}"
    runs.lab.client.post(f"{path}/stop").raise_for_status()
    other = runs.start(output=output(runs, "more"))
    assert runs.lab.client.post(f"{path}/restart").status_code == 429
    assert runs.get(run)["restarted_as"] is None

    runs.fail(other, "States.Timeout")
    restarted = runs.lab.client.post(f"{path}/restart")
    assert (restarted.status_code, used(runs)) == (201, 1)
    assert runs.lab.client.post(f"{path}/restart").json()["id"] == restarted.json()["id"]


def test_requests_at_the_same_time_do_not_pass_the_limit_together(runs: Runs) -> None:
    with ThreadPoolExecutor(5) as pool:
        responses = list(pool.map(lambda number: runs.request(output=output(runs, f"folder {number}")), range(5)))
    assert sorted(response.status_code for response in responses) == [201, 429, 429, 429, 429]
    assert used(runs) == 1
