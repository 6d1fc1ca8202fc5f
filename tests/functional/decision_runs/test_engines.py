"""The machines of a SageMaker job decide as functions do, and runs that end early leave nothing."""

import os
from pathlib import Path
from threading import Event
from unittest.mock import Mock

import pytest

from functions.jobs.decide.job import decide
from functions.workflows.decision_run.fail_decision_run import fail_decision_run
from functions.workflows.decision_run.prepare_decision_run import prepare_decision_run
from shared.connectors.storage import ConnectorStorage
from shared.settings import Settings
from tests.fixtures.aws import BUCKET, TABLE
from tests.fixtures.trained_models import aws_client
from tests.functional.decision_runs.conftest import Runs, table
from tests.functional.decision_runs.test_decision_runs import expected


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Returns the settings of a stage whose functions work on few rows."""
    return settings.model_copy(update={"function_run_rows": 30})


@pytest.mark.row("BD-2", "BD-5")
def test_a_machine_of_a_job_decides_as_requests_do(runs: Runs, tmp_path: Path) -> None:
    runs.client.put("/checkpoints/aliases/best", json={"checkpoint_id": runs.checkpoint.id}).raise_for_status()
    group = {"name": "Loans", "description": "", "conditions": ["client.age > 40"]}
    loans = runs.client.post("/action-groups", json=group).json()["id"]
    runs.action("Card", model_id="best", channel="email")
    runs.action("Loan", group=loans, channel="phone", priority="very_high")
    rows = table(40)
    runs.upload("all.parquet", rows)
    online = [expected(runs.online(row)) for row in rows.to_dicts()]
    run = runs.start(files=["all.parquet"])
    assert (run["engine"], run["instance_count"]) == ("processing", 1)

    job = prepare_decision_run(runs.lab.resources, runs.event(run))["job"]
    assert job["name"] == f"decision-run-{run['id']}"
    prefix = job["tasks_uri"].removeprefix(f"s3://{BUCKET}/")
    for each in runs.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
        runs.lab.s3.download_file(BUCKET, each["Key"], str(tmp_path / Path(each["Key"]).name))
    identity = {"SPACE_ID": runs.lab.space_id, "RUN_ID": run["id"], "WORK_ID": run["id"]}
    decide(tmp_path, {**os.environ, "TABLE_NAME": TABLE, "BUCKET_NAME": BUCKET, **identity}, Event(), aws_client)
    ended = runs.finish(run)

    assert ended["status"] == "succeeded", ended["error"]
    assert runs.offers().select(*online[0]).to_dicts() == online
    assert {each["action_id"] for each in online} == set(ended["actions"])


@pytest.mark.row("BD-2")
def test_a_run_that_is_stopped_or_fails_while_it_publishes_leaves_nothing(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.action("Card", channel="email")
    runs.upload("all.parquet", table(10))
    stopped = runs.post(runs.start(), "stop")
    assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")

    run = runs.start()
    runs.decide(run)
    with monkeypatch.context() as broken:
        broken.setattr(ConnectorStorage, "write", Mock(side_effect=OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            runs.finish(run)
    fail_decision_run(runs.lab.resources, {**runs.event(run), "error": "Lambda.Unknown", "cause": ""})

    assert runs.get(run)["status"] == "failed"
    prefix = f"spaces/{runs.lab.space_id}/connectors/{runs.target}/"
    assert runs.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", []) == []
    events = runs.client.get("/clients/1").json()["data"]
    assert [each["released_at"] is not None for each in events] == [True]
