"""In any order of its writers a training gets one final status, and its references are removed once."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from shared.clock import new_id
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Key, Table, Write, put
from shared.errors import NotFoundError
from shared.models.checkpoint import Checkpoint
from shared.models.connector_training import ConnectorTraining
from shared.models.job import JobFile, SeriesPoint
from shared.models.job_status import JobStatus
from shared.models.training import Training
from shared.trainings.store import Trainings

SPACE = new_id()
START = datetime(2026, 1, 1, tzinfo=UTC)


def clock() -> Callable[[], datetime]:
    ticks: Iterator[datetime] = (START + timedelta(seconds=second) for second in range(10_000))
    return lambda: next(ticks)


@pytest.fixture
def trainings(table: Table) -> Trainings:
    return Trainings(table, clock())


@pytest.fixture
def training(table: Table, trainings: Trainings) -> Training:
    connector_id, data_model_id = new_id(), new_id()
    for kind, identifier in (("connector", connector_id), ("data_model", data_model_id)):
        table.write(put(Key(f"{kind}#{SPACE}", identifier), {"id": identifier}))
    made = Training(
        id=new_id(),
        created_at=START,
        updated_at=START,
        architecture="lightgbm",
        configuration={},
        connectors=[ConnectorTraining(connector_id=connector_id, target="y")],
        created_by="alice",
        data_model_id=data_model_id,
        gpu_count=0,
        name="First",
    )
    return trainings.create(SPACE, made, None)


def reference_counts(table: Table, training: Training) -> list[int]:
    keys = [
        Key(f"connector#{SPACE}", training.connectors[0].connector_id),
        Key(f"data_model#{SPACE}", training.data_model_id),
    ]
    items = [table.get(key) for key in keys]
    return [int(item["active_uses"]) if item else -99 for item in items]


def succeed(trainings: Trainings, training: Training) -> None:
    checkpoint = Checkpoint(
        id=new_id(),
        created_at=START,
        updated_at=START,
        architecture="lightgbm",
        artifact=JobFile(bucket="b", key="k", etag="e", size_bytes=1),
        metrics={},
        name="First",
        size_bytes=1,
        training_id=training.id,
    )
    checkpoints = Repository(trainings.repository.table, Checkpoint, kind="checkpoint")

    def commit(actions: list[Write]) -> Any:
        return checkpoints.create(SPACE, checkpoint, also=actions)

    trainings.end(SPACE, training.id, JobStatus.SUCCEEDED, {"checkpoint_ids": [checkpoint.id]}, commit=commit)


def fail(trainings: Trainings, training: Training) -> None:
    trainings.end(SPACE, training.id, JobStatus.FAILED, {"error": "No."})


def remove(trainings: Trainings, training: Training) -> None:
    trainings.delete(SPACE, training.id, None)


End = Callable[[Trainings, Training], None]
WRITES: list[End] = [succeed, fail, remove]


def name(write: End) -> str:
    return str(getattr(write, "__name__", write))


def attempt(write: End, trainings: Trainings, training: Training) -> None:
    try:
        write(trainings, training)
    except NotFoundError:
        assert trainings.find_deleted(SPACE, training.id) is not None


@pytest.mark.row("TR-3", "TR-5")
@pytest.mark.parametrize(
    "order", list(permutations(WRITES)), ids=lambda order: "-".join(each.__name__ for each in order)
)
def test_the_first_of_several_ends_sets_the_final_status(
    trainings: Trainings, training: Training, table: Table, order: tuple[End, ...]
) -> None:
    assert reference_counts(table, training) == [1, 1]
    for write in order:
        attempt(write, trainings, training)
        assert reference_counts(table, training) == [0, 0]
    record = trainings.find_deleted(SPACE, training.id)
    assert record is not None
    ends = {"succeed": JobStatus.SUCCEEDED, "fail": JobStatus.FAILED, "remove": JobStatus.PENDING}
    first = ends[name(order[0])]
    assert record.status is first
    trainings.finish_deleted(SPACE, training.id)
    finished = trainings.find_deleted(SPACE, training.id)
    assert finished is not None
    assert finished.status is (JobStatus.STOPPED if order[0] is remove else first)
    count = Repository(table, Checkpoint, kind="checkpoint").count(SPACE)
    assert count == (1 if order[0] is succeed else 0)


@pytest.mark.row("TR-3", "TR-5")
@pytest.mark.parametrize("outer", WRITES, ids=name)
@pytest.mark.parametrize("inner", WRITES, ids=name)
def test_a_write_between_the_read_and_the_write_of_another_one_takes_effect(
    trainings: Trainings,
    training: Training,
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
    outer: End,
    inner: End,
) -> None:
    real = table.transact
    came: list[End] = []

    def transact(actions: list[Write]) -> None:
        if not came:
            came.append(inner)
            inner(trainings, training)
        real(actions)

    monkeypatch.setattr(table, "transact", transact)
    attempt(outer, trainings, training)
    assert reference_counts(table, training) == [0, 0]
    count = Repository(table, Checkpoint, kind="checkpoint").count(SPACE)
    assert count == (1 if inner is succeed else 0)
    if inner is not remove and outer is not remove:
        wanted = JobStatus.SUCCEEDED if inner is succeed else JobStatus.FAILED
        assert trainings.get(SPACE, training.id).status is wanted


@pytest.mark.row("TR-3")
def test_a_status_only_moves_forward(trainings: Trainings, training: Training) -> None:
    assert trainings.advance(SPACE, training.id, JobStatus.RUNNING).status is JobStatus.RUNNING
    assert trainings.advance(SPACE, training.id, JobStatus.QUEUED).status is JobStatus.RUNNING
    assert trainings.advance(SPACE, training.id, JobStatus.PENDING).status is JobStatus.RUNNING
    fail(trainings, training)
    for status in JobStatus:
        assert trainings.advance(SPACE, training.id, status).status is JobStatus.FAILED
    assert not trainings.report(SPACE, training.id, START, [])
    assert trainings.last_report(SPACE, training.id) is None


@pytest.mark.row("WH-1")
def test_the_newest_report_is_kept_in_any_order_of_reports(trainings: Trainings, training: Training) -> None:
    times = [START + timedelta(seconds=second) for second in (5, 1, 9, 3)]
    accepted = [
        trainings.report(SPACE, training.id, at, [SeriesPoint(name="loss", value=at.second, step=1, at=at)])
        for at in times
    ]
    assert accepted == [True, False, True, False]
    report = trainings.last_report(SPACE, training.id)
    assert report is not None
    assert [point.value for point in report.points] == [9]
