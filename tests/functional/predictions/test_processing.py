"""The machines of a SageMaker job carry a run out as functions do."""

import os
from pathlib import Path
from threading import Event
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.jobs.predict.job import predict
from functions.workflows.prediction.prepare_prediction import prepare_prediction
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import BUCKET, TABLE
from tests.fixtures.trained_models import aws_client
from tests.functional.predictions.conftest import PartSize, Runs, csv, parquet, table


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Returns the settings of a stage whose functions work on few rows."""
    return settings.model_copy(update={"function_run_rows": 1000})


def machines(runs: Runs, run: dict[str, Any], folder: Path, count: int) -> list[Path]:
    """Prepares a run, and returns the folders of tasks that SageMaker gives to its machines."""
    job = prepare_prediction(runs.lab.resources, runs.event(run))["job"]
    assert (job["instance_count"], job["name"]) == (count, f"prediction-{run['id']}")
    prefix = job["tasks_uri"].removeprefix(f"s3://{BUCKET}/")
    keys = [each["Key"] for each in runs.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
    folders = [folder / f"algo-{number}" for number in range(count)]
    for number, one in enumerate(folders):
        one.mkdir()
        for key in keys[number::count]:
            runs.lab.s3.download_file(BUCKET, key, str(one / Path(key).name))
    return folders


def environment(runs: Runs, run: dict[str, Any]) -> dict[str, str]:
    identity = {"SPACE_ID": runs.lab.space_id, "RUN_ID": run["id"], "WORK_ID": run["id"]}
    return {**os.environ, "TABLE_NAME": TABLE, "BUCKET_NAME": BUCKET, **identity}


@pytest.mark.row("BD-5")
def test_machines_share_the_tasks_and_give_the_same_scores(
    runs: Runs, part_size: PartSize, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    part_size(500, 200)
    # So that a run needs two machines.
    monkeypatch.setattr("shared.runs.engines.MACHINE_SECONDS", 0.04)
    rows = table(1500)
    runs.upload("a.csv", csv(rows.head(700)))
    runs.upload("b.parquet", parquet(rows.tail(800)))
    run = runs.start()
    assert (run["engine"], run["instance_count"]) == ("processing", 2)
    assert "A SageMaker job with 2 machines works on the parts" in run["engine_reason"]
    assert "1,500 rows, and functions take at most 1,000" in run["engine_reason"]

    for folder in machines(runs, run, tmp_path, 2):
        assert len(list(folder.iterdir())) == 1
        predict(folder, environment(runs, run), Event(), aws_client)
    ended = runs.finish(run)

    assert ended["status"] == "succeeded", ended["error"]
    found = runs.scores()
    expected = runs.online(rows.drop("customer_id").to_dicts())
    assert found["client_key"].to_list() == [str(number) for number in range(1, 1501)]
    assert found["probability"].to_list() == [each["probability"] for each in expected]


def test_a_machine_that_is_stopped_keeps_its_finished_parts(
    runs: Runs, part_size: PartSize, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    part_size(500, 250)
    runs.upload("a.csv", csv(table(1500)))
    run = runs.start()
    [folder] = machines(runs, run, tmp_path, 1)
    stop = Event()
    put = boto3.client("s3").put_object

    class Stopping:
        """A client of S3 that asks the job to stop after its first part."""

        def __getattr__(self, name: str) -> Any:
            return getattr(runs.lab.s3, name)

        def put_object(self, **fields: Any) -> Any:
            stop.set()
            return put(**fields)

    def client(service: str, **options: Any) -> Any:
        return Stopping() if service == "s3" else aws_client(service, **options)

    predict(folder, environment(runs, run), stop, client)

    assert runs.get(run)["progress"]["parts"] == 1
    assert "2 of 3 parts failed" in runs.finish(run)["error"]


@pytest.mark.row("BD-5")
def test_a_task_that_fails_three_times_on_a_machine_leaves_the_others_their_turn(
    runs: Runs, part_size: PartSize, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    part_size(1000, 500)
    runs.upload("a.csv", csv(table(700)))
    runs.upload("b.csv", csv(table(700)))
    run = runs.start()
    [folder] = machines(runs, run, tmp_path, 1)
    key = f"spaces/{runs.lab.space_id}/connectors/{runs.source}/a.csv"
    for version in runs.lab.s3.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"]:
        runs.lab.s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version["VersionId"])

    predict(folder, environment(runs, run), Event(), aws_client)

    ended = runs.finish(run)
    assert ended["progress"]["rows_written"] == 700
    assert (
        "1 of 2 parts failed: part 0 (the file 'a.csv' from row 1): The file 'a.csv' cannot be read" in ended["error"]
    )
    assert runs.names() == []


def test_a_deployment_without_a_container_says_so(
    client: TestClient, resources: Resources, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.upload("a.csv", csv(table(1500)))
    run = runs.start()
    monkeypatch.setattr(resources, "_settings", resources.settings.model_copy(update={"training_image_cpu": None}))
    monkeypatch.setitem(resources.__dict__, "settings", resources._settings)
    with pytest.raises(Exception, match="TRAINING_IMAGE_CPU"):
        prepare_prediction(resources, runs.event(run))
