"""A customer who is erased while runs have their rows is in no output afterwards, or the answer names the output."""

import json
from datetime import timedelta
from typing import Any

import pytest

from functions.events.reconcile_jobs import clean_up
from functions.workflows.decision_run.settling import Settling
from shared.insights.ledger import is_head
from shared.runs.publishing import Publisher
from tests.faults.stored_items import read_items
from tests.fixtures.aws import BUCKET, TABLE
from tests.fixtures.clocks import MovableClock
from tests.functional.decision_runs.conftest import Runs, runs, table
from tests.functional.predictions.conftest import Runs as Predictions

__all__ = ["runs"]
pytestmark = pytest.mark.row("LG-5")


@pytest.fixture
def run(runs: Runs) -> dict[str, Any]:
    """Returns a run that has decided about ten customers."""
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    started = runs.start()
    runs.decide(started)
    return started


@pytest.fixture
def predictions(runs: Runs) -> Predictions:
    runs.upload("a.parquet", table(10))
    return Predictions(runs.lab, runs.checkpoint, runs.source, runs.target)


def erase(runs: Runs | Predictions, key: str = "7") -> dict[str, Any]:
    answer = runs.lab.client.delete(f"/clients/{key}")
    assert answer.status_code == 200, answer.text
    erased: dict[str, Any] = answer.json()
    return erased


def ledger(runs: Runs, key: str = "7") -> int:
    return runs.client.get(f"/clients/{key}").status_code


def work_objects(runs: Runs | Predictions) -> list[str]:
    prefix = f"temporary/spaces/{runs.lab.space_id}/"
    return [each["Key"] for each in runs.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


OTHERS = [str(number) for number in range(1, 11) if number != 7]


def test_a_run_leaves_out_who_was_erased_since_it_began(runs: Runs, run: dict[str, Any]) -> None:
    assert erase(runs)["outputs"] == []

    runs.finish(run)

    assert runs.offers()["client_key"].to_list() == OTHERS
    summary = runs.summary(run)
    assert (summary["customers"], summary["reserved"], summary["duplicates"]) == (9, 9, 0)
    assert ledger(runs) == 404
    assert work_objects(runs) == []


@pytest.mark.parametrize("moment", ["during the reservations", "before the output"])
def test_an_erasure_during_the_last_step_is_heeded(
    runs: Runs, run: dict[str, Any], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "_reserve" if moment == "during the reservations" else "settle"
    usual, erased = getattr(Settling, name), list[Any]()

    def interrupted(self: Settling, *args: Any) -> Any:
        if moment == "during the reservations" and not erased:
            erased.append(erase(runs))
        found = usual(self, *args)
        if not erased:
            erased.append(erase(runs))
        return found

    monkeypatch.setattr(Settling, name, interrupted)
    runs.finish(run)

    assert erased[0]["outputs"] == []
    assert runs.offers()["client_key"].to_list() == OTHERS
    assert (runs.summary(run)["customers"], ledger(runs)) == (9, 404)


def test_an_erasure_names_outputs_until_they_are_deleted(
    runs: Runs, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"kind": "decision_run", "run_id": run["id"], "connector_id": runs.target, "folder": "offers"}
    publish, erased = Publisher.publish, list[Any]()

    def interrupted(self: Publisher, *args: Any) -> None:
        erased.append(erase(runs))
        publish(self, *args)

    with monkeypatch.context() as between:
        between.setattr(Publisher, "publish", interrupted)
        runs.finish(run)
    # The answer names the output while files appear in it, because nobody can take the row out any more.
    assert erased[0]["outputs"] == [place]
    assert (runs.offers().height, ledger(runs)) == (10, 404)

    later = erase(runs, "8")
    assert (later["outputs"], later["contacts"], later["has_more_outputs"]) == ([place], 1, False)
    prefix = f"spaces/{runs.lab.space_id}/connectors/{runs.target}/offers/"
    for each in runs.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
        runs.lab.s3.delete_object(Bucket=BUCKET, Key=each["Key"])
    again = runs.client.delete("/clients/8")
    assert again.status_code == 404, again.text
    assert erase(runs, "9")["outputs"] == []


def test_parts_of_a_run_that_has_failed_are_removed_and_it_cannot_go_on(
    runs: Runs, run: dict[str, Any], clock: MovableClock
) -> None:
    runs.post(run, "stop").raise_for_status()
    assert work_objects(runs)
    erase(runs)
    clock.now += timedelta(minutes=16)

    clean_up(runs.lab.resources)

    assert work_objects(runs) == []
    refused = runs.post(run, "restart")
    assert (refused.status_code, "because a customer was erased" in refused.text) == (409, True)
    # Nothing of the erasure is left when its time is over, and nothing else was ever about the customer.
    again = runs.client.delete("/clients/7")
    assert again.status_code == 404, again.text


def test_a_restart_that_came_first_leaves_the_customer_out_and_removes_the_parts(
    runs: Runs, run: dict[str, Any], clock: MovableClock
) -> None:
    runs.post(run, "stop").raise_for_status()
    erase(runs)
    restarted = runs.post(run, "restart").json()
    clock.now += timedelta(minutes=16)
    clean_up(runs.lab.resources)

    runs.work(restarted)

    assert runs.offers()["client_key"].to_list() == OTHERS
    assert work_objects(runs) == []


def test_who_was_erased_may_come_back(runs: Runs, run: dict[str, Any], clock: MovableClock) -> None:
    erase(runs)
    runs.client.post("/contacts", json={"client_key": "7", "channel": "email", "status": "sent"}).raise_for_status()
    items = read_items(runs.lab.resources.dynamodb, TABLE)
    heads = [each for each in items if each["PK"].startswith("insight_contact#") and is_head(each)]
    # A ledger with something in it does not expire. The other one is of the customer's former key.
    assert sorted("expires_at" in item for item in heads) == [False, True]
    assert ledger(runs) == 200


def test_a_prediction_run_leaves_out_who_was_erased_since_it_began(predictions: Predictions) -> None:
    run = predictions.start()
    for task in predictions.tasks(run):
        predictions.score(task)
    assert erase(predictions, " 7 ")["outputs"] == []

    assert predictions.finish(run)["status"] == "succeeded"

    assert predictions.scores()["client_key"].to_list() == OTHERS
    manifest = json.loads(predictions.output("_manifest.json"))
    assert (manifest["rows"], manifest["files"][0]["rows"]) == (9, 9)
    assert manifest["files"][0]["size_bytes"] == len(predictions.output("part-00000.parquet"))
    assert work_objects(predictions) == []
    place = {"kind": "prediction", "run_id": run["id"], "connector_id": predictions.target, "folder": "scores"}
    assert erase(predictions, "8")["outputs"] == [place]
