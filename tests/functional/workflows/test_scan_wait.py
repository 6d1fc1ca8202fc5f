"""A training waits until scans have read its files, because only a scan finds personal data."""

from datetime import timedelta
from typing import Any

import pytest

from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.training.fail_training import fail_training
from shared.errors import JobFailedError
from shared.models.job_status import JobStatus
from tests.fixtures.clocks import MovableClock
from tests.fixtures.connectors import Lab
from tests.functional.workflows.helpers import FIRST, SECOND, check, job_of, names, request, rows, upload

PERSONAL = b"email,age,churned\nada@example.com,30,yes\ngrace@example.org,41,no\n"


def notes(lab: Lab, training: dict[str, Any]) -> list[str]:
    shown = lab.client.get(f"/trainings/{training['id']}").json()
    assert shown["status"] == "queued"
    return list(shown["notes"])


@pytest.mark.row("FL-10")
def test_a_training_waits_for_the_scan_of_an_upload_and_leaves_its_personal_columns_out(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", PERSONAL)
    lab.put(connector_id, "b.csv", FIRST)
    training = request(lab, {"id": connector_id})

    waiting = check(lab, training)
    assert (waiting["wait_seconds"], "job_uri" in waiting) == (2, False)
    assert notes(lab, training) == ["Waiting for the scan of 2 files."]
    scan_id = lab.running(connector_id)
    assert scan_id is not None

    waiting = check(lab, training, waiting)
    assert (waiting["wait_seconds"], lab.running(connector_id)) == (3, scan_id)
    lab.work(connector_id)
    job = job_of(lab, check(lab, training, waiting))
    assert job.datasets[0].identifying_columns == ["email"]
    assert all(file.version_id for file in job.datasets[0].files)
    assert (notes(lab, training), lab.running(connector_id)) == ([], None)


@pytest.mark.row("FL-10")
def test_a_training_waits_for_a_scan_under_way_and_requests_no_other(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv", PERSONAL))
    training = request(lab, {"id": connector_id, "files": ["a.csv"]})
    waiting = check(lab, training)
    assert (notes(lab, training), waiting["scan_requests"]) == (["Waiting for the scan of 1 file."], {})
    lab.work(connector_id)
    assert lab.running(connector_id) is None
    assert job_of(lab, check(lab, training, waiting)).datasets[0].identifying_columns == ["email"]


@pytest.mark.row("FL-10")
def test_a_training_waits_for_a_scan_with_the_present_read_options(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=FIRST)
    training = request(lab, {"id": connector_id})
    lab.client.patch(f"/connectors/{connector_id}", json={"read_options": {"delimiter": ","}})
    waiting = check(lab, training)
    lab.work(connector_id)
    assert names(job_of(lab, check(lab, training, waiting))) == ["a.csv"]


@pytest.mark.row("FL-10")
def test_a_file_that_no_scan_can_read_fails_the_training_with_the_scans_error(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", b'{"a": 1}\n{"a": \n')
    training = request(lab, {"id": connector_id})
    waiting = check(lab, training)
    lab.work(connector_id)
    error = lab.catalog(connector_id)["a.csv"]["error"]
    assert error
    with pytest.raises(JobFailedError, match=r"'a\.csv' of the connector 'Customers' can't be read") as failed:
        check(lab, training, waiting)
    assert error in str(failed.value)


@pytest.mark.row("FL-10")
def test_a_scan_without_a_result_fails_the_training_with_the_scans_error(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", FIRST)
    training = request(lab, {"id": connector_id})
    waiting = check(lab, training)
    listed, _ = lab.begin(connector_id)
    assert finish_scan(lab.resources, listed)["failed"] == 1
    with pytest.raises(JobFailedError, match="time and memory of a scan"):
        check(lab, training, waiting)
    assert check(lab, training)["scan_requests"] == {connector_id: 1}, "another training tries the scan again"


@pytest.mark.row("FL-10")
def test_a_file_that_was_overwritten_before_its_scan_fails_the_training(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", PERSONAL)
    training = request(lab, {"id": connector_id})
    upload(lab, connector_id, a=FIRST)
    waiting = check(lab, training)
    lab.work(connector_id)
    with pytest.raises(JobFailedError, match=r"'a\.csv' .* has changed since the request.* Start the training again"):
        check(lab, training, waiting)


@pytest.mark.row("FL-10")
def test_a_file_that_is_overwritten_while_another_one_is_scanned_is_read_in_its_pinned_version(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=PERSONAL)
    lab.put(connector_id, "b.csv", FIRST)
    training = request(lab, {"id": connector_id})
    waiting = check(lab, training)
    lab.deliver(lab.put(connector_id, "a.csv", SECOND))
    lab.work(connector_id)
    job = job_of(lab, check(lab, training, waiting))
    assert (job.datasets[0].identifying_columns, rows(job)) == (["email"], 4)


@pytest.mark.row("FL-10")
def test_a_training_waits_for_at_most_half_an_hour(lab: Lab, clock: MovableClock) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", FIRST)
    training = request(lab, {"id": connector_id})
    output, waits = check(lab, training), []
    for _ in range(60):
        waits.append(output["wait_seconds"])
        clock.now += timedelta(seconds=output["wait_seconds"])
        output = check(lab, training, output)
    assert (waits[:4], max(waits)) == ([2, 3, 5, 8], 30)
    clock.now += timedelta(minutes=30) - timedelta(seconds=sum(waits) - 1)
    with pytest.raises(JobFailedError, match=r"1 file.* were not scanned within 30 minutes, such as 'a\.csv'"):
        check(lab, training, output)


@pytest.mark.row("FL-10")
def test_scans_without_a_result_are_requested_three_times(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", FIRST)
    training = request(lab, {"id": connector_id})
    output = check(lab, training)
    for number in (1, 2, 3):
        assert output["scan_requests"] == {connector_id: number}
        scan_id = str(lab.running(connector_id))
        lab.resources.connector_scans.scans.end(lab.space_id, connector_id, scan_id, JobStatus.FAILED, {})
        if number < 3:
            output = check(lab, training, output)
    with pytest.raises(JobFailedError, match=r"3 scans .* had no result for 1 file"):
        check(lab, training, output)


@pytest.mark.row("FL-10", "TR-5")
def test_the_deletion_of_a_training_ends_the_waiting(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", FIRST)
    training = request(lab, {"id": connector_id})
    waiting = check(lab, training)
    lab.client.delete(f"/trainings/{training['id']}")
    with pytest.raises(JobFailedError, match="was deleted"):
        check(lab, training, waiting)


@pytest.mark.row("FL-10")
def test_a_training_that_fails_while_it_waits_keeps_no_note_about_the_waiting(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", FIRST)
    training = request(lab, {"id": connector_id})
    check(lab, training)
    event = {"space_id": lab.space_id, "training_id": training["id"]}
    fail_training(lab.resources, {**event, "error": "States.Timeout", "cause": ""})
    shown = lab.client.get(f"/trainings/{training['id']}").json()
    assert (shown["status"], shown["notes"]) == ("failed", [])
