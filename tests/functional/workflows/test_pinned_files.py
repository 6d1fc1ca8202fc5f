"""A training reads the files that were there when it was requested, in the versions of that moment."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from functions.workflows.evaluation.prepare_evaluation import prepare_evaluation
from shared.connectors.storage import ConnectorStorage
from shared.errors import JobFailedError
from shared.models.connector import PostgresLocation
from tests.fixtures.aws import BUCKET
from tests.fixtures.connectors import Lab
from tests.fixtures.evaluations import add_checkpoint, add_connector
from tests.fixtures.moto import create_customer_role
from tests.fixtures.trainings import add_benchmark
from tests.functional.workflows.helpers import (
    FIRST,
    KEYS,
    PLACE,
    ROLE,
    SECOND,
    check,
    evaluate,
    evaluation_job_of,
    names,
    request,
    rows,
    start,
    training_body,
    upload,
)

DATABASE = PostgresLocation(host="db.example.com", database="shop", user="reader")


@pytest.mark.row("FL-10")
def test_a_file_that_arrives_after_the_request_is_not_learnt_from(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=FIRST)
    training = request(lab, {"id": connector_id})
    upload(lab, connector_id, b=FIRST)
    assert names(start(lab, training)) == ["a.csv"]


@pytest.mark.row("FL-10")
def test_a_named_file_that_arrives_after_the_request_is_missing(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, ab=FIRST)
    training = request(lab, {"id": connector_id, "files": ["a.csv"]})
    upload(lab, connector_id, a=FIRST)
    with pytest.raises(JobFailedError, match=r"has no file 'a\.csv'"):
        start(lab, training)


@pytest.mark.row("FL-10")
@pytest.mark.parametrize("files", [None, ["a.csv"], ["a.csv", *(f"{number}.csv" for number in range(10))]])
def test_a_file_that_was_overwritten_since_is_read_in_its_pinned_version(lab: Lab, files: list[str] | None) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=FIRST, **{str(number): FIRST for number in range(10)})
    training = request(lab, {"id": connector_id, "files": files})
    for content in (SECOND, SECOND + b"53,no\n"):
        upload(lab, connector_id, a=content)
    job = start(lab, training)
    (file,) = (file for file in job.datasets[0].files if file.name == "a.csv")
    assert (file.size_bytes, bool(file.version_id), bool(file.scan_id)) == (len(FIRST), True, True)
    assert rows(job) == 2 * len(names(job))


@pytest.mark.row("FL-10")
def test_a_file_that_was_deleted_since_is_read_in_its_pinned_version(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=FIRST)
    training = request(lab, {"id": connector_id})
    lab.deliver(lab.remove(connector_id, "a.csv"))
    assert rows(start(lab, training)) == 2


@pytest.mark.row("FL-10")
def test_the_files_of_a_customers_bucket_are_pinned_and_a_changed_one_fails_the_job(
    lab: Lab, customer_bucket: Any
) -> None:
    connector_id = lab.connector(s3={**PLACE, **KEYS})
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=FIRST)
    lab.scan(connector_id)
    lab.work(connector_id)
    training = request(lab, {"id": connector_id})
    customer_bucket.put_object(Bucket="customer", Key="in/b.csv", Body=FIRST)
    job = start(lab, training)
    assert (names(job), training["notes"]) == (["a.csv"], [])
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=SECOND)
    with pytest.raises(JobFailedError, match=r"'a\.csv' has changed .* Start it again"):
        rows(job)


@pytest.fixture
def slow_bucket(customer_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yields a customer's bucket that answers only after the test."""
    released = threading.Event()
    files = ConnectorStorage.files

    def late(storage: ConnectorStorage, prefix: str = "") -> Any:
        if storage.bucket == "customer":
            released.wait(60)
        return files(storage, prefix)

    with monkeypatch.context() as patched:
        patched.setattr(ConnectorStorage, "files", late)
        yield customer_bucket
        released.set()


@pytest.mark.row("FL-10")
def test_a_bucket_that_answers_too_late_does_not_hold_up_the_request_and_is_noted(
    lab: Lab, slow_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed, slow = lab.connector(), lab.connector(s3={**PLACE, **KEYS})
    upload(lab, managed, a=FIRST)
    monkeypatch.setattr(lab.resources.file_pins, "_seconds", 0.5)
    training = request(lab, {"id": managed}, {"id": slow})
    (note,) = training["notes"]
    assert f"could not list the files of the connector {slow} in time" in note


@pytest.mark.row("FL-10")
def test_a_bucket_that_refuses_the_request_is_pinned_when_the_training_starts(lab: Lab, customer_bucket: Any) -> None:
    connector_id = lab.connector(s3={**PLACE, **KEYS})
    customer_bucket.delete_bucket(Bucket="customer")
    training = request(lab, {"id": connector_id})
    with pytest.raises(JobFailedError, match="NoSuchBucket"):
        start(lab, training)
    customer_bucket.create_bucket(Bucket="customer")
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=FIRST)
    lab.scan(connector_id)
    lab.work(connector_id)
    assert names(start(lab, training)) == ["a.csv"]
    customer_bucket.put_object(Bucket="customer", Key="in/b.csv", Body=FIRST)
    assert names(start(lab, training)) == ["a.csv"], "a repeated step keeps the files"
    assert lab.client.get(f"/trainings/{training['id']}").json()["notes"] == training["notes"]


@pytest.mark.row("FL-10", "C-12")
def test_a_repeated_request_keeps_the_files_of_the_first_one(lab: Lab) -> None:
    connector_id, key = lab.connector(), {"Idempotency-Key": "once"}
    upload(lab, connector_id, a=FIRST)
    body = training_body(lab, {"id": connector_id})
    first = lab.client.post("/trainings", json=body, headers=key).json()
    upload(lab, connector_id, b=FIRST)
    again = lab.client.post("/trainings", json=body, headers=key).json()
    assert again == first
    assert names(start(lab, again)) == ["a.csv"]
    assert lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"spaces/{lab.space_id}/pins/")["KeyCount"] == 1


@pytest.mark.row("FL-10", "C-6")
def test_a_refused_request_leaves_no_pins(lab: Lab) -> None:
    connector_id = lab.connector()
    body = training_body(lab, {"id": connector_id})
    assert lab.client.post("/trainings", json={**body, "benchmark_ids": [connector_id]}).status_code == 400
    evaluation = {"benchmark_id": add_benchmark(lab.client, connector_id), "checkpoint_id": connector_id}
    assert lab.client.post("/evaluations", json={**evaluation, "gpu_count": 0}).status_code == 400
    assert lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"spaces/{lab.space_id}/pins/")["KeyCount"] == 0


@pytest.mark.row("FL-10", "TR-4")
def test_a_part_that_changes_before_the_start_is_pinned_at_its_change(lab: Lab) -> None:
    first, second = lab.connector(), lab.connector()
    for connector_id in (first, second):
        upload(lab, connector_id, a=FIRST)
    training = request(lab, {"id": first}, {"id": second})
    for connector_id in (first, second):
        upload(lab, connector_id, b=FIRST)
    changed = lab.client.put(f"/trainings/{training['id']}", json={"connector": {"id": second, "split": None}})
    assert changed.status_code == 200, changed.text
    assert names(start(lab, training)) == ["a.csv", "a.csv", "b.csv"]


KINDS = ("managed", "access keys", "role", "database")


def connector_of(lab: Lab, kind: str) -> tuple[str, str, str]:
    """Creates a connector, and returns its id with the bucket and the folder of its files."""
    if kind == "managed":
        connector_id = lab.connector()
        return connector_id, BUCKET, f"spaces/{lab.space_id}/connectors/{connector_id}"
    if kind == "database":
        connector_id = add_connector(lab.resources.table, lab.space_id, postgres=DATABASE)
        return connector_id, BUCKET, f"spaces/{lab.space_id}/snapshots/{connector_id}"
    access = KEYS if kind == "access keys" else ROLE
    if access is ROLE:
        create_customer_role(ROLE["role_arn"], lab.resources.connector_storages.external_id(lab.space_id))
    return lab.connector(s3={**PLACE, **access}), "customer", "in"


@pytest.mark.row("FL-10")
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_for_a_training_pins_the_files_of_every_kind_of_connector(
    lab: Lab, customer_bucket: Any, kind: str
) -> None:
    connector_id, bucket, folder = connector_of(lab, kind)
    customer_bucket.put_object(Bucket=bucket, Key=f"{folder}/a.csv", Body=FIRST)
    training = request(lab, {"id": connector_id})
    customer_bucket.put_object(Bucket=bucket, Key=f"{folder}/b.csv", Body=FIRST)
    assert training["notes"] == []
    waiting = check(lab, training)
    assert waiting["scan_requests"] == {connector_id: 1}
    assert lab.resources.catalog.pending(lab.space_id, connector_id).keys() == {"a.csv"}


@pytest.mark.row("FL-10", "EV-1")
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_for_an_evaluation_pins_the_files_of_every_kind_of_connector(
    lab: Lab, customer_bucket: Any, kind: str
) -> None:
    connector_id, bucket, folder = connector_of(lab, kind)
    customer_bucket.put_object(Bucket=bucket, Key=f"{folder}/a.csv", Body=FIRST)
    event = evaluate(lab, add_benchmark(lab.client, connector_id))
    customer_bucket.put_object(Bucket=bucket, Key=f"{folder}/b.csv", Body=FIRST)
    assert names(evaluation_job_of(lab, prepare_evaluation(lab.resources, event))) == ["a.csv"]


@pytest.mark.row("FL-10", "BM-4")
def test_a_benchmark_that_changes_before_the_evaluation_starts_is_pinned_then(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", FIRST)
    benchmark_id = add_benchmark(lab.client, connector_id)
    event = evaluate(lab, benchmark_id)
    lab.put(connector_id, "b.csv", FIRST)
    lab.client.put(f"/benchmarks/{benchmark_id}", json={"connectors": [{"id": connector_id, "files": ["b.csv"]}]})
    assert names(evaluation_job_of(lab, prepare_evaluation(lab.resources, event))) == ["b.csv"]


@pytest.mark.row("FL-10", "C-12")
def test_a_repeated_request_for_an_evaluation_keeps_the_files_of_the_first_one(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", FIRST)
    benchmark_id = add_benchmark(lab.client, connector_id)
    checkpoint_id = add_checkpoint(lab.resources.table, lab.space_id).id
    headers = {"Idempotency-Key": "once"}
    event = evaluate(lab, benchmark_id, checkpoint_id, headers)
    lab.put(connector_id, "b.csv", FIRST)
    assert evaluate(lab, benchmark_id, checkpoint_id, headers) == event
    assert evaluate(lab, benchmark_id, checkpoint_id) == event
    assert names(evaluation_job_of(lab, prepare_evaluation(lab.resources, event))) == ["a.csv"]
