"""The board of a benchmark has the newest result of each checkpoint at any time."""

import random
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.clock import new_id
from shared.dynamodb import large_values
from shared.dynamodb.table import Key, Table
from shared.evaluations import boards as packing
from shared.evaluations.boards import Boards
from shared.evaluations.scores import ScoreEntry, Scores, recent_partition
from shared.models.checkpoint import Checkpoint
from shared.models.job import JobFile, MetricName
from shared.resources import Resources

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPACE = "space"


@pytest.fixture(autouse=True)
def few_recent_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "RECENT_RESULTS", 3)


def checkpoint(name: str = "Churn") -> Checkpoint:
    artifact = JobFile(bucket="b", key="k", etag="e", size_bytes=1)
    return Checkpoint(
        id=new_id(),
        created_at=NOW,
        updated_at=NOW,
        architecture="lightgbm",
        artifact=artifact,
        metrics={},
        name=name,
        size_bytes=1,
        training_id=new_id(),
    )


def measure(table: Table, benchmark: str, one: Checkpoint, value: float | None, revision: int = 1) -> None:
    writes = Scores(table).record(SPACE, one, benchmark, revision, new_id(), {MetricName.KS: value})
    if writes:
        table.transact(writes)


def read(boards: Boards, benchmark: str, revision: int = 1) -> list[ScoreEntry]:
    return sorted(boards.entries(SPACE, benchmark, revision, MetricName.KS))


def recent(table: Table, benchmark: str) -> int:
    return len(list(table.query(recent_partition(SPACE, benchmark))))


values = st.sampled_from([None, 0.0, 0.25, 0.5, 0.75])
measurements = st.tuples(st.integers(0, 7), values, st.integers(1, 2), st.booleans())


@pytest.mark.row("LB-1", "BM-4")
@hypothesis_settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(measurements, max_size=10), st.booleans(), st.randoms(use_true_random=False))
def test_a_board_equals_the_index_of_scores_at_any_time(
    resources: Resources, measured: list[tuple[int, float | None, int, bool]], is_large: bool, chance: random.Random
) -> None:
    table, boards, benchmark = resources.table, resources.boards, new_id()
    checkpoints = [checkpoint(f"Model {number}") for number in range(8)]
    with patch.object(large_values, "INLINE_BYTES", 0 if is_large else 10**6):
        for number, value, revision, is_packed in measured:
            measure(table, benchmark, checkpoints[number], value, revision)
            if is_packed:
                boards.pack(SPACE, benchmark)
            asked = chance.randint(1, 2)
            assert read(boards, benchmark, asked) == sorted(
                Scores(table).entries(SPACE, benchmark, asked, MetricName.KS)
            )
        assert recent(table, benchmark) < 3 or not any(is_packed for *_, is_packed in measured[-1:])


def test_results_from_before_there_were_boards_are_packed_with_the_new_ones(resources: Resources) -> None:
    table, boards, benchmark = resources.table, resources.boards, new_id()
    old = [checkpoint(f"Old {number}") for number in range(4)]
    for number, each in enumerate(old):
        measure(table, benchmark, each, number / 10)
        table.delete_all([Key(recent_partition(SPACE, benchmark), each.id)])
    assert len(read(boards, benchmark)) == 4
    for each in (old[0], checkpoint("New"), checkpoint("Newer")):
        measure(table, benchmark, each, 0.9)
    boards.pack(SPACE, benchmark)
    assert recent(table, benchmark) == 0
    assert read(boards, benchmark) == sorted(Scores(table).entries(SPACE, benchmark, 1, MetricName.KS))


def test_a_result_that_comes_while_others_are_packed_stays(resources: Resources) -> None:
    table, boards, benchmark = resources.table, resources.boards, new_id()
    measured = [checkpoint() for _ in range(3)]
    for each in measured:
        measure(table, benchmark, each, 0.1)
    transact = table.transact

    def late(writes: list[object]) -> None:
        transact(writes)  # type: ignore[arg-type]
        with patch.object(table, "transact", transact):
            measure(table, benchmark, measured[0], 0.8)

    with patch.object(table, "transact", late):
        boards.pack(SPACE, benchmark)
    assert recent(table, benchmark) == 1
    assert {entry.value for entry in read(boards, benchmark)} == {0.1, 0.8}


def test_of_two_that_pack_at_the_same_time_one_does(resources: Resources) -> None:
    table, boards, benchmark = resources.table, resources.boards, new_id()
    for _ in range(3):
        measure(table, benchmark, checkpoint(), 0.1)
    keep = resources.large_values.keep

    def late(*values: object) -> object:
        with patch.object(resources.large_values, "keep", keep):
            boards.pack(SPACE, benchmark)
        return keep(*values)  # type: ignore[arg-type]

    with patch.object(resources.large_values, "keep", late):
        boards.pack(SPACE, benchmark)
    board = table.get(Key(f"score#{SPACE}#{benchmark}#board", "board"))
    assert board is not None
    assert (board["number"], recent(table, benchmark), len(read(boards, benchmark))) == (1, 0, 3)


def test_an_outdated_object_is_removed_after_a_while(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_values, "INLINE_BYTES", 0)
    table, boards, values, benchmark = resources.table, resources.boards, resources.large_values, new_id()
    for _ in range(2):
        for _ in range(3):
            measure(table, benchmark, checkpoint(), 0.1)
        boards.pack(SPACE, benchmark)
    folder = f"spaces/{SPACE}/leaderboards/{benchmark}/"
    assert len(values.keys(folder)) == 2
    noted = [item["SK"] for item in table.query("object#purges")]
    assert len(noted) == 1
    for key in noted:
        values.clean(SPACE, key)
    assert len(values.keys(folder)) == 1
    assert len(read(boards, benchmark)) == 6
