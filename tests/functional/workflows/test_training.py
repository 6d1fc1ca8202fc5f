"""The steps of a training's workflow, each against the tables and buckets it would find."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.workflows.training import check_training as check_module
from functions.workflows.training import register_checkpoints as register_module
from functions.workflows.training.check_training import check_training
from functions.workflows.training.create_evaluation import create_evaluation
from functions.workflows.training.fail_training import fail_training
from functions.workflows.training.register_checkpoints import register_checkpoints
from shared.dynamodb.table import Key, Table
from shared.errors import JobFailedError
from shared.jobs.store import Jobs
from shared.models.job import TrainingJob
from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.settings import Settings
from shared.trainings.store import Trainings
from tests.fixtures.aws import BUCKET
from tests.fixtures.training_workflow import SCAN, World, archive, checkpoint
from tests.fixtures.trainings import active_uses, add_benchmark, space_of, training_request


@pytest.fixture
def world(client: TestClient, resources: Resources, table: Table) -> World:
    return World(client, resources, table, training_request(client, table))


Maker = Callable[..., World]


@pytest.fixture
def world_with(client: TestClient, resources: Resources, table: Table) -> Maker:
    def make(**changes: Any) -> World:
        body = training_request(client, table)
        body["connectors"][0] |= changes.pop("connector", {})
        return World(client, resources, table, {**body, **changes})

    return make


@pytest.mark.row("TR-2")
def test_a_checked_training_is_queued_and_its_job_knows_every_file_by_content(world: World) -> None:
    world.upload("2025.csv")
    world.upload("folder/2026.csv", b"age,churned\n31,no\n")
    world.upload("folder/empty.csv", b"", columns=None)
    plan = check_training(world.resources, world.event)

    assert world.shown()["status"] == "queued"
    folder = f"s3://{BUCKET}/spaces/{space_of(world.client)}/trainings/{world.training['id']}"
    assert plan == {
        **world.event,
        "job_name_prefix": f"training-{world.training['id']}",
        "job_uri": f"{folder}/input/",
        "output_uri": f"{folder}/output/",
        "checkpoint_uri": f"{folder}/checkpoints/",
        "image_uri": "images.test/cpu:1",
        "instance_types": ["ml.m5.2xlarge", "ml.m5.4xlarge"],
        "instance_count": 1,
        "volume_gb": 30,
        "max_runtime_seconds": 86_400,
        "max_wait_seconds": 172_800,
        "spot": False,
    }
    key = f"{folder.removeprefix(f's3://{BUCKET}/')}/input/job.json"
    job = TrainingJob.model_validate_json(boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert (job.training_id, job.target, job.architecture) == (world.training["id"], "churned", "lightgbm")
    files = {file.key.rpartition("/connectors/")[2].partition("/")[2]: file for file in job.datasets[0].files}
    assert {name: file.format for name, file in files.items()} == {"2025.csv": "csv", "folder/2026.csv": "csv"}
    head = boto3.client("s3").head_object(Bucket=BUCKET, Key=files["2025.csv"].key)
    assert {name: file.label for name, file in files.items()} == {name: name for name in files}
    assert files["2025.csv"].etag == head["ETag"].strip('"')
    assert job.data_model_id == world.training["data_model_id"]
    assert {name: file.scan_id for name, file in files.items()} == {"2025.csv": SCAN, "folder/2026.csv": SCAN}
    assert job.progress is not None
    assert job.progress.webhook_url == "https://api.test/webhooks"
    assert check_training(world.resources, world.event) == plan, "the step may be repeated"


def test_named_files_are_pinned_to_the_version_they_have_now(world_with: Maker) -> None:
    parts = {"files": ["a.csv", "a.csv"], "positive_label": 1, "split": {"kind": "time", "column": "age"}}
    world = world_with(connector=parts)
    world.upload("a.csv")
    world.upload("b.csv")
    check_training(world.resources, world.event)
    key = f"spaces/{space_of(world.client)}/trainings/{world.training['id']}/input/job.json"
    job = TrainingJob.model_validate_json(boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())
    [dataset] = job.datasets
    assert [file.key.rpartition("/")[2] for file in dataset.files] == ["a.csv"]
    assert dataset.files[0].version_id
    assert (dataset.positive_label, dataset.split and dataset.split.column) == ("1", "age")


@pytest.mark.row("TR-2")
def test_what_the_scan_knows_to_be_wrong_fails_the_training_before_any_machine_starts(world_with: Maker) -> None:
    without_files = world_with()
    with pytest.raises(JobFailedError, match="'Customers' has no files with data"):
        check_training(without_files.resources, without_files.event)

    world = world_with()
    world.upload("a.csv", columns="age,left,name")
    wanted = r"The target column 'churned' is not in file\(s\) a.csv; columns are age, left, name\."
    with pytest.raises(JobFailedError, match=wanted):
        check_training(world.resources, world.event)

    missing = world_with(connector={"files": ["none.csv"]})
    with pytest.raises(JobFailedError, match=r"has no file 'none\.csv'"):
        check_training(missing.resources, missing.event)

    empty = world_with(connector={"files": ["empty.csv"]})
    empty.upload("empty.csv", b"", columns=None)
    with pytest.raises(JobFailedError, match=r"'empty\.csv' of the connector 'Customers' is empty"):
        check_training(empty.resources, empty.event)

    head_only = world_with()
    head_only.upload("head.csv", b"age,churned\n", columns=None)
    etag = boto3.client("s3").head_object(
        Bucket=BUCKET, Key=f"spaces/{space_of(world.client)}/connectors/{head_only.connector_id}/head.csv"
    )["ETag"]
    head_only.catalogue("head.csv", etag.strip('"'), error="Row 3 has 5 fields instead of 2.")
    with pytest.raises(JobFailedError, match=r"'head.csv' .* can't be read: Row 3 has 5 fields"):
        check_training(head_only.resources, head_only.event)
    head_only.catalogue("head.csv", etag.strip('"'), columns="age,churned", rows=0)
    with pytest.raises(JobFailedError, match="have no rows"):
        check_training(head_only.resources, head_only.event)


@pytest.mark.row("Y-1", "FL-10")
def test_what_a_scan_found_in_other_content_of_a_file_does_not_count(world: World) -> None:
    world.upload("a.csv", columns=None)
    world.catalogue("a.csv", "of-an-older-content", columns="something,else")
    assert check_training(world.resources, world.event)["wait_seconds"] == 2


@pytest.mark.parametrize(
    ("gpu_count", "wanted"),
    [(1, ["ml.g5.2xlarge", "ml.g4dn.2xlarge"]), (4, ["ml.g5.12xlarge", "ml.g4dn.12xlarge"]), (8, ["ml.g5.48xlarge"])],
)
def test_gpus_come_from_the_next_larger_machine_of_the_preferred_families(
    world_with: Maker, gpu_count: int, wanted: list[str]
) -> None:
    world = world_with(gpu_count=gpu_count, architecture="xgboost")
    world.upload("a.csv")
    plan = check_training(world.resources, world.event)
    assert (plan["instance_types"], plan["image_uri"]) == (wanted, "images.test/gpu:1")


def test_a_deployment_without_large_machines_reports_it(world_with: Maker, settings: Settings) -> None:
    world = world_with(gpu_count=8, architecture="xgboost")
    world.upload("a.csv")
    small = Resources(settings.model_copy(update={"gpu_instance_types": "ml.g4dn.xlarge"}))
    with pytest.raises(JobFailedError, match="has 8 GPUs"):
        check_training(small, world.event)


@pytest.mark.row("DT-1")
def test_a_training_on_several_instances_needs_a_file_for_each(world_with: Maker) -> None:
    world = world_with(architecture="xgboost", instance_count=2)
    world.upload("a.csv")
    with pytest.raises(JobFailedError, match=r"there are only 1\. Set instance_count to at most 1"):
        check_training(world.resources, world.event)

    world = world_with(architecture="xgboost", instance_count=2)
    world.upload("a.csv")
    world.upload("b.csv", b"age,churned\n31,no\n")
    assert check_training(world.resources, world.event)["instance_count"] == 2
    key = f"spaces/{space_of(world.client)}/trainings/{world.training['id']}/input/job.json"
    body = boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert TrainingJob.model_validate_json(body).instance_count == 2


@pytest.mark.row("TR-4")
def test_once_the_data_is_checked_the_definition_is_fixed(world: World) -> None:
    world.upload("a.csv")
    check_training(world.resources, world.event)
    assert world.client.put(world.address, json={"architecture": "xgboost"}).status_code == 409


@pytest.mark.row("TR-2", "TR-3")
def test_a_finished_job_becomes_a_checkpoint_and_the_training_succeeds_once(world: World) -> None:
    benchmark_id = add_benchmark(world.client, world.connector_id)
    world.client.put(world.address, json={"benchmark_ids": [benchmark_id]})
    event = world.put_model()
    answers = [register_checkpoints(world.resources, event) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0] == {**world.event, "checkpoint_id": answers[0]["checkpoint_id"], "benchmark_ids": [benchmark_id]}

    shown = world.shown()
    assert (shown["status"], shown["error"], shown["training_seconds"]) == ("succeeded", None, 12)
    assert shown["notes"] == ["The column 'constant' has one value only."]
    assert [(point["name"], point["value"], point["step"]) for point in shown["metrics"]] == [
        ("log_loss", 0.4, 7),
        ("roc_auc", 0.81, 7),
    ]
    [stored] = shown["checkpoints"]
    assert stored["metrics"] == {"roc_auc": 0.81, "ks": None}
    assert (stored["training_id"], stored["name"], stored["architecture"]) == (shown["id"], "First", "lightgbm")
    assert "artifact" not in stored
    page = world.client.get("/checkpoints").json()
    assert (page["count"], page["data"]) == (1, [stored])
    assert world.client.put(world.address, json={}).json() == shown
    listed = world.client.get("/trainings").json()["data"][0]
    assert (listed["checkpoints"], [point["name"] for point in listed["metrics"]]) == ([stored], ["roc_auc"])

    item = world.table.get(Key(f"checkpoint#{space_of(world.client)}", stored["id"]))
    assert item is not None
    found = boto3.client("s3").get_object(Bucket=BUCKET, Key=item["artifact"]["key"])
    assert (found["ETag"].strip('"'), found["ContentLength"]) == (item["artifact"]["etag"], stored["size_bytes"])
    assert active_uses(world.table, "connector", space_of(world.client), world.connector_id) == 0
    assert [due.benchmark_id for due in Jobs(world.table).due(world.training["id"])] == [benchmark_id]


@pytest.mark.row("TR-3")
@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (archive({"checkpoint.json": checkpoint()})[:-20], "damaged"),
        (b"no archive at all", "damaged"),
        (archive({"model.txt": "tree"}), "holds no checkpoint.json"),
        (archive({"checkpoint.json": {"format_version": 1}}), "is damaged"),
        (archive({"checkpoint.json": checkpoint(architecture="xgboost")}), "architecture xgboost"),
    ],
)
def test_without_a_whole_model_of_its_own_a_training_does_not_succeed(
    world: World, content: bytes, wanted: str
) -> None:
    with pytest.raises(JobFailedError, match=wanted):
        register_checkpoints(world.resources, world.put_model(content=content))
    assert world.shown()["status"] == "pending"
    assert world.client.get("/checkpoints").json()["count"] == 0


@pytest.mark.row("TR-3")
@pytest.mark.parametrize("limit", ["MAX_PACKED_BYTES", "MAX_SCORED_BYTES"])
def test_a_model_that_predictions_would_not_load_is_no_checkpoint(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    noise = "".join(map(chr, range(32, 127))) * 30_000
    event = world.put_model(content=archive({"checkpoint.json": checkpoint(), "model.txt": noise}))
    monkeypatch.setattr(register_module, limit, 1000)
    with pytest.raises(JobFailedError, match=r"larger than|unpacks to more than"):
        register_checkpoints(world.resources, event)
    assert world.client.get("/checkpoints").json()["count"] == 0


def test_a_model_that_is_missing_or_elsewhere_is_refused(world: World) -> None:
    event = world.put_model()
    for uri, wanted in (
        (event["model_uri"].replace("/job/", "/other/"), "without leaving a model"),
        (event["model_uri"].replace(world.training["id"], space_of(world.client)), "outside of the training's own"),
        ("s3://elsewhere/model.tar.gz", "outside of the training's own"),
    ):
        with pytest.raises(JobFailedError, match=wanted):
            register_checkpoints(world.resources, {**event, "model_uri": uri})


@pytest.mark.row("TR-5")
def test_no_late_step_revives_a_deleted_training(world: World) -> None:
    world.upload("a.csv")
    event = world.put_model()
    world.client.delete(world.address)
    for step in (check_training, register_checkpoints):
        with pytest.raises(JobFailedError, match="was deleted"):
            step(world.resources, event)
    fail_training(world.resources, {**world.event, "error": "JobFailedError", "cause": ""})
    assert world.client.get(world.address).status_code == 404
    assert world.client.get("/checkpoints").json()["count"] == 0
    record = world.client.get(world.address, params={"include_deleted": True}).json()
    assert record["status"] != "succeeded"


@pytest.mark.row("TR-3")
def test_no_late_step_changes_how_a_training_ended(world: World) -> None:
    event = world.put_model()
    Trainings(world.table).end(space_of(world.client), world.training["id"], JobStatus.STOPPED, {})
    for step in (check_training, register_checkpoints):
        with pytest.raises(JobFailedError, match="has ended stopped already"):
            step(world.resources, event)
    fail_training(world.resources, {**world.event, "error": "States.Timeout", "cause": ""})
    assert (world.shown()["status"], world.shown()["error"]) == ("stopped", None)


@pytest.mark.row("TR-5")
def test_a_deleted_training_leaves_its_checkpoint(world: World) -> None:
    register_checkpoints(world.resources, world.put_model())
    [stored] = world.shown()["checkpoints"]
    assert world.client.delete(world.address).status_code == 200
    assert world.client.get("/checkpoints").json()["data"] == [stored]


@pytest.mark.row("TR-2")
def test_a_failed_training_has_a_reason_and_removes_its_references_once(world: World) -> None:
    reason = "AlgorithmError: The target column 'churned' has one value only, exit code: 1"
    cause = json.dumps({"TrainingJobStatus": "Failed", "FailureReason": reason})
    for _ in range(2):
        fail_training(world.resources, {**world.event, "error": "States.TaskFailed", "cause": cause})
    shown = world.shown()
    assert (shown["status"], shown["error"]) == ("failed", "The target column 'churned' has one value only")
    assert active_uses(world.table, "data_model", space_of(world.client), world.training["data_model_id"]) == 0
    assert world.client.delete(f"/data-models/{world.training['data_model_id']}").status_code == 200


@pytest.mark.row("TR-2")
def test_each_benchmark_gets_one_evaluation_however_often_the_step_is_tried(world: World) -> None:
    benchmark_ids = [add_benchmark(world.client, world.connector_id) for _ in range(2)]
    world.client.put(world.address, json={"benchmark_ids": benchmark_ids})
    registered = register_checkpoints(world.resources, world.put_model())
    made = [
        create_evaluation(world.resources, {**registered, "benchmark_id": benchmark_id})
        for benchmark_id in [*registered["benchmark_ids"], *registered["benchmark_ids"]]
    ]
    assert made[:2] == made[2:]
    page = world.client.get("/evaluations").json()
    assert page["count"] == 2
    assert {row["benchmark_id"] for row in page["data"]} == set(benchmark_ids)
    assert {row["checkpoint_id"] for row in page["data"]} == {registered["checkpoint_id"]}


def test_a_benchmark_deleted_before_the_end_is_left_out_with_the_reason(world: World) -> None:
    benchmark_id = add_benchmark(world.client, world.connector_id)
    world.client.put(world.address, json={"benchmark_ids": [benchmark_id]})
    registered = register_checkpoints(world.resources, world.put_model())
    world.client.delete(f"/benchmarks/{benchmark_id}")
    with pytest.raises(JobFailedError, match="benchmark was deleted"):
        create_evaluation(world.resources, {**registered, "benchmark_id": benchmark_id})
    assert world.shown()["status"] == "succeeded"


@pytest.mark.row("TR-4")
def test_a_benchmark_that_joins_after_the_end_is_evaluated_at_once(world: World) -> None:
    register_checkpoints(world.resources, world.put_model())
    benchmark_id = add_benchmark(world.client, world.connector_id)
    for _ in range(2):
        answer = world.client.put(world.address, json={"benchmark_ids": [benchmark_id]})
        assert answer.status_code == 200, answer.text
    page = world.client.get("/evaluations").json()
    assert [row["benchmark_id"] for row in page["data"]] == [benchmark_id]


def test_the_handler_distinguishes_a_users_failure_from_a_defect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "_resources", world.resources)
    world.upload("a.csv", columns="age")
    with pytest.raises(JobFailedError):
        check_module.handler(world.event, None)
    world.upload("a.csv")
    assert check_module.handler(world.event, None)["training_id"] == world.training["id"]
