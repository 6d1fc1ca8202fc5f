"""The state machine of scans runs on the emulator's engine."""

import json
import threading
import time
from typing import Any

import pytest

from infra.constructs import definitions
from tests.infra.test_definitions import Engine, TaskFailed

SCAN = {"space_id": "space-1", "connector_id": "connector-1", "scan_id": "scan-1"}
SCANNER = definitions.connector_scan(concurrency=2)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


def test_groups_of_files_are_scanned_separately_and_a_crash_does_not_stop_other_groups(engine: Engine) -> None:
    folder = "spaces/space-1/scans/scan-1"
    listing: dict[str, Any] = {
        **SCAN,
        "list_key": f"{folder}/list.json",
        "groups_key": f"{folder}/groups.json",
        "is_database": False,
    }
    engine.files = {listing["groups_key"]: json.dumps([[{"key": "a.csv"}], [{"key": "b.csv"}, {"key": "c.csv"}]])}
    engine.results = {
        "ListScanFiles": listing,
        "ScanFile": lambda event: (
            TaskFailed("Runtime.ExitError", "out of memory") if event["files"] == [{"key": "a.csv"}] else {"rows": 3}
        ),
    }
    assert engine.run(SCANNER, SCAN)["status"] == "SUCCEEDED"
    assert {**SCAN, "files": [{"key": "b.csv"}, {"key": "c.csv"}]} in engine.payloads("ScanFile")
    assert engine.payloads("FinishScan") == [listing]


def test_a_scan_without_files_succeeds(engine: Engine) -> None:
    engine.files = {"groups.json": "[]"}
    engine.results = {"ListScanFiles": {**SCAN, "groups_key": "groups.json", "is_database": False}}
    assert engine.run(SCANNER, SCAN)["status"] == "SUCCEEDED"
    assert engine.payloads("ScanFile") == []


def test_a_scan_that_cannot_list_its_files_records_the_reason(engine: Engine) -> None:
    engine.results = {"ListScanFiles": TaskFailed("JobFailedError", '{"errorMessage": "AccessDenied"}')}
    execution = engine.run(SCANNER, SCAN)
    assert execution["status"] == "FAILED"
    assert engine.payloads("FailScan") == [
        {**SCAN, "error": "JobFailedError", "cause": '{"errorMessage": "AccessDenied"}'}
    ]


@pytest.mark.row("EN-3")
@pytest.mark.parametrize("error", ["TransientError", "OutageError", "Lambda.TooManyRequestsException"])
def test_a_step_that_meets_a_passing_failure_waits_and_is_repeated(engine: Engine, error: str) -> None:
    failures = iter([TaskFailed(error, "{}")] * 8)
    engine.files = {"groups.json": '[["a.csv"]]'}
    engine.results = {
        "ListScanFiles": {**SCAN, "groups_key": "groups.json", "is_database": False},
        "ScanFile": lambda _: next(failures, {}),
    }
    assert engine.run(SCANNER, SCAN)["status"] == "SUCCEEDED"
    assert (len(engine.payloads("ScanFile")), len(engine.slept)) == (9, 8)


@pytest.mark.row("EN-3")
def test_a_function_that_lambda_throttles_waits_for_hours_and_is_no_failure(engine: Engine) -> None:
    """The file must not get the error that it is too large."""
    throttled = iter([TaskFailed("Lambda.TooManyRequestsException", "Rate Exceeded.")] * 300)
    engine.files = {"groups.json": '[["a.csv"]]'}
    engine.results = {
        "ListScanFiles": {**SCAN, "groups_key": "groups.json", "is_database": False},
        "ScanFile": lambda _: next(throttled, {}),
    }
    assert engine.run(SCANNER, SCAN)["status"] == "SUCCEEDED"
    assert len(engine.payloads("ScanFile")) == 301
    retry = next(each for each in definitions.STEP_RETRY if "Lambda.TooManyRequestsException" in each["ErrorEquals"])
    hours = retry["MaxAttempts"] * retry["MaxDelaySeconds"] / 2 / 3600
    assert hours > SCANNER["TimeoutSeconds"] / 3600, "the scan ends first, and says that it took too long"


@pytest.mark.row("X-11", "EN-3")
def test_at_most_four_tables_of_a_database_are_copied_at_once(engine: Engine) -> None:
    engine.files = {"groups.json": json.dumps([[f"table {number}"] for number in range(9)])}
    running, most, lock = 0, 0, threading.Lock()

    def scan(_: Any) -> dict[str, Any]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return {}

    listing = {**SCAN, "groups_key": "groups.json", "is_database": True}
    engine.results = {"ListScanFiles": listing, "ScanFile": scan}
    assert engine.run(definitions.connector_scan(concurrency=40), SCAN)["status"] == "SUCCEEDED"
    assert len(engine.payloads("ScanFile")) == 9
    assert most <= 4
