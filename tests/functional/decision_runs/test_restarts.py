"""What a restart of a decision run needs."""

from shared.dynamodb.table import delete, put
from shared.space_usage.jobs import limits_key
from tests.functional.decision_runs.conftest import Runs, table


def test_an_action_that_is_not_active_any_more_is_not_offered_by_a_restart(runs: Runs) -> None:
    action = runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    run = runs.start()
    what_if = runs.start(dry_run=True)
    for each in (run, what_if):
        runs.post(each, "stop").raise_for_status()
    runs.client.put(f"/actions/{action}", json={"status": "inactive"}).raise_for_status()

    refused = runs.post(run, "restart")

    assert (refused.status_code, "'Card' was deleted, or is not active" in refused.text) == (409, True)
    # A dry run makes no offers.
    assert runs.work(runs.post(what_if, "restart").json())["status"] == "succeeded"
    runs.client.put(f"/actions/{action}", json={"status": "active"}).raise_for_status()
    assert runs.work(runs.post(run, "restart").json())["status"] == "succeeded"


def test_a_run_without_room_reserves_no_contact(runs: Runs) -> None:
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    run = runs.start()
    runs.decide(run)
    stored, limits = runs.lab.resources.table, limits_key(runs.lab.space_id)
    stored.write(put(limits, {"limits": {"storage_gib": 0}}))

    ended = runs.finish(run)

    assert (ended["status"], "storage_gib" in ended["error"]) == ("failed", True)
    assert runs.request(dry_run=True).status_code == 429
    events = runs.client.get("/clients/1").json()["data"]
    assert [each["released_at"] is not None for each in events] == [True]
    stored.write(delete(limits))
    assert runs.work(runs.post(run, "restart").json())["status"] == "succeeded"
