"""A space runs only so many jobs at the same time, and uses only so many GPU-hours in a month."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import reconcile_jobs
from shared.clock import new_id
from shared.dynamodb.table import Key, Table, TransactionFailedError, put
from shared.errors import LimitReachedError
from shared.jobs.store import Jobs
from shared.models.job_limits import JobLimits
from shared.models.job_reference import JobKind
from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.space_usage.jobs import JobPlace, JobUsages, limits_key, usage_key
from shared.trainings.store import Trainings
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.sagemaker import FakeSageMaker
from tests.fixtures.trainings import add_benchmark, space_of, training_request
from tests.functional.conftest import same_caller
from tests.functional.events.helpers import FakeStepFunctions

pytestmark = pytest.mark.row("SE-9")


def start(client: TestClient, table: Table, **changes: Any) -> Any:
    return client.post("/trainings", json=training_request(client, table, **changes))


def usage(client: TestClient, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/spaces/{space_of(client)}/limits").json()["job_usage"][name]
    return found


def end(table: Table, client: TestClient, training_id: str, clock: MovableClock, **values: Any) -> None:
    Trainings(table, clock).end(space_of(client), training_id, JobStatus.FAILED, values)


def test_one_training_too_many_is_429_with_the_limit_until_one_ends(
    client: TestClient, other_client: TestClient, table: Table, movable_clock: MovableClock
) -> None:
    first = start(client, table).json()
    assert start(client, table).status_code == 201
    refused = start(client, table)
    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
    assert "running_trainings" in refused.json()["error"]
    assert "2 of 2 run" in refused.json()["error"]
    assert refused.headers["Retry-After"] == "60"
    assert client.get("/trainings").json()["count"] == 2
    assert usage(client, "running_trainings") == {"limit": 2, "used": 2, "reserved": 0, "resets_at": None}
    assert start(other_client, table).status_code == 201

    end(table, client, first["id"], movable_clock)
    assert usage(client, "running_trainings")["used"] == 1
    assert start(client, table).status_code == 201


def test_a_repeated_request_gets_its_training_although_the_space_is_full(client: TestClient, table: Table) -> None:
    body = training_request(client, table)
    first = client.post("/trainings", json=body, headers={"Idempotency-Key": "one"}).json()
    start(client, table)
    again = client.post("/trainings", json=body, headers={"Idempotency-Key": "one"})
    assert (again.status_code, again.json()["id"]) == (201, first["id"])


@pytest.mark.parametrize(("gpus", "limits"), [(0, {"running_trainings": 3}), (1, {"gpu_hours_per_month": 72})])
def test_ten_requests_at_the_same_time_do_not_pass_the_limit(table: Table, gpus: int, limits: dict[str, int]) -> None:
    usages, stage, space_id = JobUsages(table), JobLimits.model_validate(limits), new_id()
    places = [JobPlace(space_id, JobKind.TRAINING, new_id(), gpus) for _ in range(10)]
    jobs = Jobs(table)
    done = 0
    while places:
        # All that remain read the same state, and then write.
        try:
            reservations = [(place, usages.reserve(place, stage)) for place in places]
        except LimitReachedError:
            break
        for place, reservation in reservations:
            try:
                table.transact([*jobs.open(place.kind, space_id, place.job_id), reservation])
            except TransactionFailedError:
                continue
            places.remove(place)
            done += 1
    assert (done, len(places)) == (3, 7)
    assert len((table.get(usage_key(space_id)) or {})["training"]) == 3


def test_a_running_training_that_is_deleted_keeps_its_place_until_its_job_has_stopped(
    client: TestClient, resources: Resources, table: Table
) -> None:
    steps, sagemaker = FakeStepFunctions(), FakeSageMaker()
    resources = Resources(resources.settings, resources.clock, step_functions=steps, sagemaker=sagemaker)
    client = same_caller(client, resources)
    training_id = start(client, table).json()["id"]
    sagemaker.run(f"training-{training_id}-1", TrainingStartTime=resources.clock())
    assert client.delete(f"/trainings/{training_id}").status_code == 200
    assert usage(client, "running_trainings")["used"] == 1
    sagemaker.jobs[f"training-{training_id}-1"]["TrainingJobStatus"] = "Stopped"
    reconcile_jobs(resources, 30)
    assert usage(client, "running_trainings")["used"] == 0


def test_the_place_of_a_record_that_vanished_is_given_back(
    client: TestClient, table: Table, resources: Resources
) -> None:
    vanished = [start(client, table, gpu_count=1).json()["id"] for _ in range(2)]
    for training_id in vanished:
        table.delete_all([Key(f"training#{space_of(client)}", training_id)])
    assert start(client, table).status_code == 429
    # One loses its entry in the list of open jobs as well.
    table.write(Jobs(table).close(vanished[0]))
    assert start(client, table, gpu_count=1).status_code == 201
    sagemaker = FakeSageMaker()
    for training_id in vanished:
        sagemaker.run(f"training-{training_id}-1")
        sagemaker.jobs[f"training-{training_id}-1"]["TrainingJobStatus"] = "Stopped"
    steps = FakeStepFunctions()
    reconcile_jobs(Resources(resources.settings, resources.clock, step_functions=steps, sagemaker=sagemaker), 30)
    assert usage(client, "running_trainings")["used"] == 1
    assert usage(client, "gpu_hours_per_month") | {"resets_at": None} == {
        "limit": 72,
        "used": 0,
        "reserved": 24,
        "resets_at": None,
    }


def test_a_gpu_training_reserves_the_longest_time_and_uses_the_time_that_it_ran(
    client: TestClient, table: Table, movable_clock: MovableClock
) -> None:
    training_id = start(client, table, gpu_count=2, architecture="xgboost").json()["id"]
    assert usage(client, "gpu_hours_per_month")["reserved"] == 48
    refused = start(client, table, gpu_count=2, architecture="xgboost")
    assert refused.status_code == 429
    assert "of 72 GPU-hours, 0.0 are used, and 48.0 are reserved" in refused.json()["error"]
    assert refused.headers["Retry-After"] == "60"
    Trainings(table, movable_clock).advance(space_of(client), training_id, JobStatus.RUNNING)
    movable_clock.now += timedelta(hours=1, minutes=30)
    end(table, client, training_id, movable_clock)
    assert usage(client, "gpu_hours_per_month")["used"] == 3
    end(table, client, start(client, table, gpu_count=1).json()["id"], movable_clock, training_seconds=22 * 3600)
    assert usage(client, "gpu_hours_per_month")["used"] == 25

    full = start(client, table, gpu_count=2, architecture="xgboost")
    assert full.status_code == 429
    month_end = usage(client, "gpu_hours_per_month")["resets_at"]
    assert int(full.headers["Retry-After"]) > timedelta(days=10).total_seconds()
    assert month_end.endswith("-01T00:00:00.000Z") or "-01T00:00:00" in month_end
    assert start(client, table, gpu_count=0).status_code == 201


@pytest.mark.row("SE-9", "DT-1")
def test_the_gpus_of_all_instances_of_a_training_count(
    client: TestClient, table: Table, movable_clock: MovableClock
) -> None:
    wide = {"architecture": "xgboost", "gpu_count": 1, "instance_count": 3}
    training_id = start(client, table, **wide).json()["id"]
    assert usage(client, "gpu_hours_per_month")["reserved"] == 72
    assert start(client, table, gpu_count=1).status_code == 429
    end(table, client, training_id, movable_clock, training_seconds=3600)
    assert usage(client, "gpu_hours_per_month") | {"resets_at": None} == {
        "limit": 72,
        "used": 3,
        "reserved": 0,
        "resets_at": None,
    }


def test_a_new_month_starts_with_what_is_reserved(
    client: TestClient, table: Table, movable_clock: MovableClock
) -> None:
    running = start(client, table, gpu_count=1).json()["id"]
    Trainings(table, movable_clock).advance(space_of(client), running, JobStatus.RUNNING)
    wide = start(client, table, gpu_count=2, architecture="xgboost").json()["id"]
    end(table, client, wide, movable_clock, training_seconds=24 * 3600)
    assert usage(client, "gpu_hours_per_month")["used"] == 48
    movable_clock.now += timedelta(days=31)
    assert (usage(client, "gpu_hours_per_month")["used"], usage(client, "gpu_hours_per_month")["reserved"]) == (0, 24)
    assert start(client, table, gpu_count=2, architecture="xgboost").status_code == 201
    end(table, client, running, movable_clock, training_seconds=3600)
    assert (usage(client, "gpu_hours_per_month")["used"], usage(client, "gpu_hours_per_month")["reserved"]) == (1, 48)


def test_an_operator_raises_and_lowers_the_limits_of_one_space(
    client: TestClient, other_client: TestClient, table: Table
) -> None:
    table.write(put(limits_key(space_of(client)), {"limits": {"running_trainings": 0, "gpu_hours_per_month": 500}}))
    assert start(client, table).status_code == 429
    assert usage(client, "gpu_hours_per_month")["limit"] == 500
    assert usage(client, "running_evaluations")["limit"] == 1
    assert start(other_client, table).status_code == 201


def test_an_evaluation_too_many_is_429_and_the_running_one_is_returned_again(client: TestClient, table: Table) -> None:
    connector_id = training_request(client, table)["connectors"][0]["connector_id"]
    benchmarks = [add_benchmark(client, connector_id) for _ in range(2)]
    checkpoint_id = add_checkpoint(table, space_of(client)).id
    bodies = [{"benchmark_id": each, "checkpoint_id": checkpoint_id, "gpu_count": 0} for each in benchmarks]
    first = client.post("/evaluations", json=bodies[0])
    assert client.post("/evaluations", json=bodies[0]).json()["id"] == first.json()["id"]
    refused = client.post("/evaluations", json=bodies[1])
    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
    assert "running_evaluations" in refused.json()["error"]


def test_due_evaluations_wait_for_places_and_follow_one_after_the_other(
    client: TestClient, resources: Resources, table: Table
) -> None:
    body = training_request(client, table)
    connector_id = body["connectors"][0]["connector_id"]
    benchmarks = [add_benchmark(client, connector_id) for _ in range(2)]
    steps, sagemaker = FakeStepFunctions(), FakeSageMaker()
    resources = Resources(resources.settings, resources.clock, step_functions=steps, sagemaker=sagemaker)
    client = same_caller(client, resources)
    training = client.post("/trainings", json={**body, "benchmark_ids": benchmarks}).json()
    checkpoint = add_checkpoint(table, space_of(client))
    Trainings(table).end(space_of(client), training["id"], JobStatus.SUCCEEDED, {"checkpoint_ids": [checkpoint.id]})
    steps.end(training["id"], "SUCCEEDED")
    reconcile_jobs(resources, 30)
    [first] = client.get("/evaluations").json()["data"]
    reconcile_jobs(resources, 30)
    assert client.get("/evaluations").json()["count"] == 1
    resources.evaluations.end(space_of(client), first["id"], JobStatus.FAILED, "The file is empty.")
    reconcile_jobs(resources, 30)
    assert client.get("/evaluations").json()["count"] == 2
    assert {job.kind for job in Jobs(table).open_jobs()} == {JobKind.EVALUATION}
