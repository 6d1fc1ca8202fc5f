"""Columns that identify persons are no features of a training, also if the scans of its files fail."""

from typing import Any

import pytest

from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.job_files import JobFiles
from shared.errors import JobFailedError
from tests.fixtures.connectors import Lab
from tests.functional.workflows.helpers import FIRST, check, job_of, request, upload

PERSONAL = b"email,age,churned\nada@example.com,30,yes\ngrace@example.org,41,no\n"


def left_out(lab: Lab, training: dict[str, Any]) -> list[str]:
    """Returns the columns that identify persons, by the job of the training."""
    return job_of(lab, check(lab, training)).datasets[0].identifying_columns


def scan_that_dies(lab: Lab, connector_id: str) -> None:
    """Runs the running scan; the function that reads the files is killed."""
    listed, _ = lab.begin(connector_id)
    finish_scan(lab.resources, listed)


def lifecycle_removes(lab: Lab, connector_id: str, file: str) -> None:
    """Delivers S3's event about an old version that a lifecycle rule removed."""
    key = f"spaces/{lab.space_id}/connectors/{connector_id}/{file}"
    event = lab.event("Object Deleted", key, None, None, "an old version")
    event["detail"] |= {"deletion-type": "Permanently Deleted", "reason": "Lifecycle Expiration"}
    lab.deliver(event)


@pytest.mark.row("FL-10", "X-12")
def test_identifiers_in_the_last_of_many_files_are_no_features(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, **{f"a{number:03}": FIRST for number in range(100)}, z=PERSONAL)
    assert left_out(lab, request(lab, {"id": connector_id})) == ["email"]


@pytest.mark.row("FL-10", "EN-3")
def test_identifiers_are_no_features_after_the_rescan_of_an_unchanged_file_died(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=PERSONAL)
    lab.scan(connector_id, files=["a.csv"])
    scan_that_dies(lab, connector_id)
    assert lab.catalog(connector_id)["a.csv"]["status"] == "scanned"
    assert left_out(lab, request(lab, {"id": connector_id})) == ["email"]


@pytest.mark.row("FL-10", "EN-3")
def test_identifiers_are_no_features_after_lifecycle_removed_an_old_version_and_the_rescan_died(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=PERSONAL)
    before = lab.catalog(connector_id)["a.csv"]
    lifecycle_removes(lab, connector_id, "a.csv")
    assert lab.catalog(connector_id)["a.csv"] == before | {"status": "pending"}
    scan_that_dies(lab, connector_id)
    assert lab.catalog(connector_id)["a.csv"] == before
    assert left_out(lab, request(lab, {"id": connector_id})) == ["email"]


@pytest.mark.row("FL-10", "EN-3")
def test_a_profile_outlasts_a_dead_scan_that_the_same_read_options_caused(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=PERSONAL)
    before = lab.catalog(connector_id)["a.csv"]
    assert lab.client.patch(f"/connectors/{connector_id}/catalog/a.csv", json={"read_options": None}).is_success
    scan_that_dies(lab, connector_id)
    assert lab.catalog(connector_id)["a.csv"] == before


def test_a_file_that_was_removed_by_version_before_its_first_scan_waits_for_one(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv", PERSONAL))
    lifecycle_removes(lab, connector_id, "a.csv")
    scan_that_dies(lab, connector_id)
    assert lab.catalog(connector_id)["a.csv"]["status"] == "error", "there was no profile to keep"
    lab.deliver(lab.remove(connector_id, "a.csv"))
    lifecycle_removes(lab, connector_id, "a.csv")
    lab.work(connector_id)
    assert lab.catalog(connector_id) == {}


@pytest.mark.row("FL-10")
def test_columns_that_the_owner_states_are_no_features_before_the_first_successful_scan(lab: Lab) -> None:
    connector_id = lab.connector(personal_data={"member_no": True, "email": False})
    lab.put(connector_id, "a.csv", PERSONAL)
    training = request(lab, {"id": connector_id})
    check(lab, training)
    scan_that_dies(lab, connector_id)
    lab.scan(connector_id, files=["a.csv"])
    lab.work(connector_id)
    assert left_out(lab, training) == ["member_no"]


@pytest.mark.row("FL-10")
def test_identifiers_are_no_features_when_a_file_changes_while_the_job_is_prepared(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=PERSONAL)
    training = request(lab, {"id": connector_id})
    profiles = JobFiles.profiles

    def overtaken(*arguments: Any) -> Any:
        lab.deliver(lab.put(connector_id, "a.csv", FIRST))
        return profiles(*arguments)

    monkeypatch.setattr(JobFiles, "profiles", overtaken)
    assert left_out(lab, training) == ["email"]


@pytest.mark.row("FL-10")
def test_a_file_without_a_profile_fails_the_training_and_is_not_learnt_from(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, a=PERSONAL)
    training = request(lab, {"id": connector_id})
    monkeypatch.setattr(JobFiles, "profiles", lambda *_: iter(()))
    with pytest.raises(JobFailedError, match=r"'a\.csv' .* changed while the job was prepared"):
        check(lab, training)
