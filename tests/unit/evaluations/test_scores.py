"""The index of scores sorts by value, and has one entry for each checkpoint and metric."""

import math
import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import new_id
from shared.dynamodb.table import Table, TransactionFailedError
from shared.evaluations.scores import Ranking, Scores, decode_value, encode_value
from shared.models.checkpoint import Checkpoint
from shared.models.job import JobFile, MetricName

numbers = st.floats(allow_nan=False)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def checkpoint() -> Checkpoint:
    return Checkpoint(
        id=new_id(),
        created_at=NOW,
        updated_at=NOW,
        architecture="lightgbm",
        artifact=JobFile(bucket="b", key="k", etag="e", size_bytes=1),
        metrics={},
        name="Churn",
        size_bytes=1,
        training_id=new_id(),
    )


@given(numbers, numbers)
def test_encoded_values_sort_like_their_numbers(left: float, right: float) -> None:
    assert (encode_value(left) < encode_value(right)) == (left < right)
    assert (encode_value(left) == encode_value(right)) == (left == right)


@given(numbers)
def test_decoding_returns_the_exact_number(value: float) -> None:
    assert decode_value(encode_value(value)) == value


@given(numbers)
def test_a_missing_value_sorts_after_every_number(value: float) -> None:
    for missing in (None, math.nan):
        assert encode_value(missing) > encode_value(value)
        assert decode_value(encode_value(missing)) is None


@pytest.mark.row("LB-1", "BM-4")
def test_a_newer_result_replaces_every_entry_of_the_older_one(table: Table) -> None:
    scores, scored = Scores(table), checkpoint()
    space, benchmark = new_id(), new_id()
    history: list[tuple[int, dict[MetricName, float | None]]] = [
        (1, {MetricName.KS: 0.5, MetricName.F1: 0.2}),
        (1, {MetricName.KS: 0.5, MetricName.F1: 0.4}),
        (2, {MetricName.KS: None, MetricName.F1: 0.4}),
    ]
    for revision, metrics in history:
        table.transact(scores.record(space, scored, benchmark, revision, new_id(), metrics))
        for metric in MetricName:
            entries = scores.entries(space, benchmark, revision, metric)
            assert [(entry.checkpoint_id, entry.value) for entry in entries] == [(scored.id, metrics.get(metric))]

    assert [scores.entries(space, benchmark, 1, metric) for metric in MetricName] == [[]] * len(MetricName)
    assert scores.record(space, scored, benchmark, 1, new_id(), {MetricName.KS: 0.9}) == []
    assert [score.revision for score in scores.of_checkpoint(space, scored.id)] == [2]


def test_only_one_of_two_simultaneous_results_is_recorded(table: Table) -> None:
    scores, scored = Scores(table), checkpoint()
    space, benchmark = new_id(), new_id()
    first = scores.record(space, scored, benchmark, 1, new_id(), {MetricName.KS: 0.5})
    second = scores.record(space, scored, benchmark, 1, new_id(), {MetricName.KS: 0.6})
    table.transact(first)
    with pytest.raises(TransactionFailedError):
        table.transact(second)
    assert [entry.value for entry in scores.entries(space, benchmark, 1, MetricName.KS)] == [0.5]


@pytest.mark.row("LB-1")
def test_entries_have_descending_values_and_describe_their_checkpoints(table: Table) -> None:
    scores, space, benchmark = Scores(table), new_id(), new_id()
    for value in (0.25, None, -1.5, 0.75, 0.0):
        table.transact(scores.record(space, checkpoint(), benchmark, 1, new_id(), {MetricName.KS: value}))
    entries = scores.entries(space, benchmark, 1, MetricName.KS)
    assert [entry.value for entry in entries] == [None, 0.75, 0.25, 0.0, -1.5]
    assert {(entry.name, entry.architecture, entry.created_at) for entry in entries} == {
        ("Churn", "lightgbm", "2026-01-01T00:00:00.000000Z")
    }


# Few and close values cause ties, and use counters of each width.
VALUES: list[float | None] = [None, None, 0.0, 0.25, 0.5, 0.5, 0.5000001, 0.50001, 0.51, 0.75, 0.75, -1.5, 3.0]


def in_order(entry: tuple[str, float | None], *, descending: bool) -> tuple[bool, float, str]:
    checkpoint_id, value = entry
    return value is None, (value or 0.0) * (-1 if descending else 1), checkpoint_id


@pytest.mark.row("LB-1")
@pytest.mark.parametrize("descending", [True, False])
def test_a_ranking_has_the_same_pages_and_counts_as_a_list_in_memory(table: Table, descending: bool) -> None:
    scores, ranking = Scores(table), Ranking(new_id(), new_id(), 3, MetricName.KS)
    randomness = random.Random(7)  # noqa: S311 - makes test data
    recorded: dict[str, float | None] = {}
    scored = [checkpoint() for _ in range(12)]
    for each in [*scored, *scored[:4]]:  # four checkpoints get a newer result
        recorded[each.id] = randomness.choice(VALUES)
        result = {MetricName.KS: recorded[each.id], MetricName.F1: 0.5}
        table.transact(scores.record(ranking.space_id, each, ranking.benchmark_id, 3, new_id(), result))
    other_revision = scores.record(
        ranking.space_id, checkpoint(), ranking.benchmark_id, 4, new_id(), {MetricName.KS: 0.5}
    )
    table.transact(other_revision)

    expected = sorted(recorded.items(), key=lambda entry: in_order(entry, descending=descending))
    values = [value for value in recorded.values() if value is not None]
    assert scores.count(ranking) == len(recorded)
    assert scores.count_equal(ranking, {*values, 9.0}) == Counter(values) | {9.0: 0}
    for value in {*values, 0.3}:
        assert scores.count_beyond(ranking, value, higher=True) == sum(other > value for other in values)
        assert scores.count_beyond(ranking, value, higher=False) == sum(other < value for other in values)
    for limit in (1, 3, 40):
        for position in range(-1, len(expected)):
            after = None if position < 0 else (expected[position][1], expected[position][0])
            found = scores.page(ranking, limit, descending=descending, after=after)
            following = expected[position + 1 : position + 1 + limit]
            assert [(entry.checkpoint_id, entry.value) for entry in found] == following
