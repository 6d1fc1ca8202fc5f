"""Tests of the reconciler's rounds when AWS is slow, and of jobs whose space is deleted and restored."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from functions.events import reconcile_jobs as reconciler
from functions.events.convergence import Convergence
from functions.events.job_state_changed import job_state_changed
from functions.events.reconcile_jobs import ReconciliationError, reconcile_jobs
from shared.jobs.store import Jobs
from shared.models.job_reference import JobKind, JobReference
from shared.models.job_status import JobStatus
from shared.trainings.store import Trainings
from tests.fixtures.cloudwatch import embedded_points
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.trainings import add_benchmark, space_of
from tests.functional.events.helpers import World, execution_event

OPEN_JOBS = 21


class SlowAws:
    """Lets only so many jobs of a round be compared, as slow calls to AWS do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
        self.seen: list[str] = []
        self._jobs, self._left, self._next_round = jobs, 0, threading.Event()
        monkeypatch.setattr(reconciler, "CONCURRENCY", 1)
        monkeypatch.setattr(Convergence, "converge", lambda _self, job: self._converge(job))

    def round(self, world: World) -> list[str]:
        """Returns the jobs that a round has reached."""
        self.seen, self._left = [], self._jobs
        self._next_round.clear()
        timer = threading.Timer(0.3, self._next_round.set)
        timer.start()
        try:
            reconcile_jobs(world.resources, 0.1)
        except ReconciliationError:
            pass
        finally:
            timer.join()
        return self.seen

    def _converge(self, job: JobReference) -> None:
        if not self._left:
            self._next_round.wait()
            return
        self._left -= 1
        self.seen.append(job.id)


@pytest.fixture
def open_jobs(world: World) -> list[str]:
    jobs = Jobs(world.table)
    ids = [world.id]
    for number in range(OPEN_JOBS - 1):
        ids.append(f"01a2081a-1610-752b-8cc0-d52dcf52{number:04d}")
        world.table.transact(jobs.open(JobKind.TRAINING, space_of(world.client), ids[-1]))
    return sorted(ids)


@pytest.mark.row("Y-9", "EN-2")
def test_rounds_that_end_early_reach_all_jobs_in_turn(
    world: World, open_jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowAws(monkeypatch, 8)
    rounds = [slow.round(world) for _ in range(3)]
    assert rounds[0] == open_jobs[:8]
    assert rounds[1] == open_jobs[8:16]
    assert rounds[2] == open_jobs[16:] + open_jobs[:3]
    whole = SlowAws(monkeypatch, 100)
    assert sorted(whole.round(world)) == open_jobs
    assert whole.round(world) == open_jobs, "after a whole round the oldest comes first"


def succeed_with_due_evaluations(world: World, number: int) -> list[str]:
    """Ends the training while its workflow has not created its evaluations yet."""
    connector_id = world.training["connectors"][0]["connector_id"]
    benchmark_ids = [add_benchmark(world.client, connector_id) for _ in range(number)]
    world.client.put(f"/trainings/{world.id}", json={"benchmark_ids": benchmark_ids})
    checkpoint = add_checkpoint(world.table, space_of(world.client), training_id=world.id)
    values = {"checkpoint_ids": [checkpoint.id]}
    Trainings(world.table, world.resources.clock).end(space_of(world.client), world.id, JobStatus.SUCCEEDED, values)
    return sorted(benchmark_ids)


@pytest.mark.row("SP-2", "EN-5")
def test_due_evaluations_are_created_after_their_space_was_deleted_and_restored(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark_ids = succeed_with_due_evaluations(world, 2)
    space = f"/spaces/{space_of(world.client)}"
    assert world.client.delete(space).status_code == 200
    job_state_changed(execution_event(world.id), world.resources)
    capsys.readouterr()
    for _ in range(2):
        world.reconcile(after=timedelta(days=9))
    overdue = [each.value for each in embedded_points(capsys.readouterr().out) if each.name == "OverdueJobs"]
    assert overdue == [0, 0], "nothing is late while the space is deleted"
    assert world.client.post(f"{space}/restore").status_code == 200
    assert evaluations_of(world) == []
    world.reconcile()
    assert sorted(each["benchmark_id"] for each in evaluations_of(world)) == benchmark_ids
    assert world.id not in world.open_jobs()


def evaluations_of(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.client.get("/evaluations").json()["data"]
    return found
