"""Decision runs beside other runs, restarts and stops."""

from datetime import timedelta

import pytest

from functions.workflows.decision_run.finish_decision_run import finish_decision_run
from functions.workflows.decision_run.settling import Settling
from shared.clock import new_id
from shared.dynamodb.table import Key, delete
from shared.insights.store import InsightPolicies
from shared.models.decision_run import DecisionRun
from shared.models.job_limits import UNLIMITED
from shared.models.job_reference import JobKind
from shared.runs.publishing import Publisher
from shared.runs.store import Runs as Store
from tests.faults import insight_checks, run_checks
from tests.faults.stored_items import StoredItems, read_items
from tests.fixtures.aws import TABLE
from tests.fixtures.clocks import MovableClock
from tests.functional.decision_runs.conftest import Runs, table


@pytest.mark.row("BD-2")
def test_of_two_runs_that_decide_at_the_same_time_one_reserves(runs: Runs, clock: MovableClock) -> None:
    runs.client.put("/insights/policy", json={"contact_limits": [{"contacts": 1, "days": 7}]}).raise_for_status()
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    first = runs.start()
    clock.now += timedelta(minutes=1)
    second = runs.start(output={"connector_id": runs.target, "folder": "later"})
    runs.decide(first)
    runs.decide(second)
    clock.now += timedelta(minutes=1)

    runs.finish(first)
    runs.finish(second)

    assert (runs.summary(first)["reserved"], runs.summary(second)["reserved"]) == (10, 0)
    assert runs.summary(second)["without_offer"] == {"contacted_since": 10}


@pytest.mark.row("BD-2")
def test_a_reservation_lasts_from_when_it_is_made_and_a_repeated_step_keeps_its_end(
    runs: Runs, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    run = runs.start()
    runs.decide(run)
    clock.now += timedelta(days=3)
    until = clock.now + InsightPolicies(runs.lab.resources.table, clock).get(runs.lab.space_id).reservation

    def die(*_: object, **__: object) -> None:
        raise OSError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(Publisher, "publish", die)
        with pytest.raises(OSError, match="gone"):
            runs.finish(run)
    clock.now += timedelta(minutes=5)
    runs.finish(run)

    assert set(runs.offers()["reserved_until"]) == {until.isoformat()}
    assert runs.summary(run)["reserved"] == 10


@pytest.mark.row("BD-2")
def test_a_stopped_run_that_still_settles_changes_nothing_of_its_restart(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    run = runs.start()
    runs.decide(run)
    runs.post(run, "stop").raise_for_status()
    restarted = runs.post(run, "restart").json()
    settle = Settling.settle
    ended: list[str] = []

    def late(self: Settling, *args: object) -> object:
        found = settle(self, *args)  # type: ignore[arg-type]
        if not ended:
            ended.append(self._run.id)
            # The step of the stopped run began before the stop.
            stale = Settling(
                self._space_id,
                self._run.model_copy(update={"id": run["id"]}),
                self._offers,
                self._table,
                self._plans,
                self._erasures,
                self._s3,
                self._clock,
            )
            stale.settle(*args)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(Settling, "settle", late)
    runs.decide(restarted)
    finish_decision_run(runs.lab.resources, runs.event(restarted))

    offers = runs.offers()
    assert (offers["action_id"].count(), runs.summary(restarted)["reserved"]) == (10, 10)


@pytest.mark.row("BD-2")
def test_runs_of_two_kinds_cannot_write_to_one_folder(runs: Runs) -> None:
    runs.action("Card")
    runs.upload("a.parquet", table(5))
    runs.start()
    prediction = {
        "checkpoint_id": runs.checkpoint.id,
        "connector_id": runs.source,
        "output": {"connector_id": runs.target, "folder": "offers"},
    }
    answer = runs.client.post("/predictions", json=prediction)
    assert (answer.status_code, "Another run writes to the folder" in answer.text) == (409, True)


def test_a_run_that_begins_to_publish_during_a_stop_is_not_stopped(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.action("Card")
    runs.upload("a.parquet", table(5))
    run = runs.start()
    runs.decide(run)
    progress = Store.progress
    began: list[str] = []

    def slow(self: Store, space_id: str, shown: object) -> object:  # type: ignore[type-arg]
        if not began:
            began.append(run["id"])
            self.begin_publishing(space_id, run["id"])
        return progress(self, space_id, shown)  # type: ignore[arg-type]

    with monkeypatch.context() as between:
        between.setattr(Store, "progress", slow)
        answer = runs.post(run, "stop")
    assert (answer.status_code, "publishes its output" in answer.text) == (409, True)
    assert runs.finish(run)["status"] == "succeeded"


def test_of_two_restarts_at_the_same_time_both_return_the_first(runs: Runs) -> None:
    runs.action("Card")
    runs.upload("a.parquet", table(5))
    run = runs.start()
    runs.post(run, "stop").raise_for_status()
    store = Store(runs.lab.resources.table, DecisionRun, JobKind.DECISION_RUN, runs.lab.resources.clock)
    stopped = store.repository.get(runs.lab.space_id, run["id"])
    first, second = (
        store.restart(runs.lab.space_id, stopped, stopped.created_by, new_id(), UNLIMITED) for _ in range(2)
    )
    assert first.restarted_as == second.restarted_as is not None


def test_the_recount_knows_what_runs_store(runs: Runs) -> None:
    runs.action("Card")
    runs.upload("a.parquet", table(5))
    runs.done()
    row = runs.offers().row(0, named=True)
    reaction = {"client_key": row["client_key"], "reaction": "accepted"}
    runs.client.post(f"/insights/{row['insight_id']}/reactions", json=reaction).raise_for_status()
    runs.post(runs.start(output={"connector_id": runs.target, "folder": "stopped"}), "stop").raise_for_status()
    open_run = runs.start(output={"connector_id": runs.target, "folder": "open"})
    runs.decide(open_run)
    resources = runs.lab.resources

    def problems() -> list[str]:
        items = StoredItems(read_items(resources.dynamodb, TABLE))
        return [*run_checks.folders(items), *run_checks.parts(items), *insight_checks.reactions(items)]

    assert problems() == []
    resources.table.write(delete(Key(f"run_output#{runs.lab.space_id}", runs.target)))
    resources.table.write(delete(Key(f"decision_run_part#{runs.lab.space_id}#{open_run['id']}", "totals")))
    assert [("parts are counted" in each, "without its folder" in each) for each in problems()] == [
        (False, True),
        (True, False),
    ]
