import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.dynamodb.table import Table
from shared.models.checkpoint import Checkpoint
from shared.models.job_status import JobStatus
from shared.models.training import Training
from shared.trainings.store import Trainings
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_member, add_score
from tests.fixtures.trainings import training_request
from tests.functional.conftest import ClientMaker

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MakeBenchmark = Callable[[], str]
Record = Callable[..., str]


@pytest.fixture
def space_id(client: TestClient) -> str:
    return str(client.headers["X-Space-Id"])


@pytest.fixture
def make_benchmark(client: TestClient, table: Table, space_id: str) -> MakeBenchmark:
    def make() -> str:
        created = client.post(
            "/benchmarks",
            json={
                "name": "Held out",
                "description": "",
                "metrics": ["roc_auc", "log_loss"],
                "task": "binary_classification",
                "connectors": [{"id": add_connector(table, space_id)}],
            },
        )
        return str(created.json()["id"])

    return make


@pytest.fixture
def record(table: Table, space_id: str) -> Record:
    """Returns a function that adds a result of a checkpoint to the leaderboards and returns its evaluation."""

    def write(
        checkpoint: Checkpoint, benchmark_id: str, *, revision: int | None = None, **metrics: float | None
    ) -> str:
        return add_score(table, space_id, checkpoint, benchmark_id, revision=revision, **metrics)

    return write


def ids(page: dict[str, Any]) -> list[str]:
    return [row["id"] for row in page["data"]]


def board(client: TestClient, params: Any = None) -> dict[str, Any]:
    response = client.get("/leaderboards", params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.fixture
def checkpoints(table: Table, space_id: str) -> list[Checkpoint]:
    """Returns four checkpoints in the order of their ids, created on consecutive days."""
    return [
        add_checkpoint(
            table,
            space_id,
            name=name,
            architecture=architecture,
            created_at=START + timedelta(days=day),
        )
        for day, (name, architecture) in enumerate(
            [("Churn A", "lightgbm"), ("Churn B", "xgboost"), ("Upsell", "lightgbm"), ("Other", "xgboost")]
        )
    ]


@pytest.mark.row("LB-1")
def test_a_row_contains_the_metrics_averages_coverage_and_evaluations(
    client: TestClient, checkpoints: Sequence[Checkpoint], make_benchmark: MakeBenchmark, record: Record
) -> None:
    first, second = make_benchmark(), make_benchmark()
    evaluations = {
        first: record(checkpoints[0], first, roc_auc=0.9, log_loss=0.3),
        second: record(checkpoints[0], second, roc_auc=0.7, log_loss=None),
    }
    record(checkpoints[1], second, roc_auc=0.85, log_loss=0.1)

    page = board(client)

    assert ids(page) == [checkpoints[1].id, checkpoints[0].id]
    assert page["data"][1] == {
        "rank": 2,
        "id": checkpoints[0].id,
        "name": "Churn A",
        "training_id": checkpoints[0].training_id,
        "architecture": "lightgbm",
        "benchmarks": {first: {"roc_auc": 0.9, "log_loss": 0.3}, second: {"roc_auc": 0.7, "log_loss": None}},
        "average": {"roc_auc": pytest.approx(0.8), "log_loss": 0.3},
        "order_value": pytest.approx(0.8),
        "coverage": 1.0,
        "evaluations": evaluations,
        "intervals": {first: {}, second: {}},
        "rank_test": "values",
        "warnings": [],
        "created_at": "2026-03-01T12:00:00.000000Z",
    }
    assert page["data"][0]["coverage"] == 0.5
    only_first = board(client, {"benchmarks": first})
    assert ids(only_first) == [checkpoints[0].id]
    assert only_first["data"][0]["average"] == {"roc_auc": 0.9, "log_loss": 0.3}
    assert only_first["data"][0]["coverage"] == 1.0


@pytest.mark.row("LB-1")
@pytest.mark.parametrize(("metric", "easy", "hard", "worst"), [("roc_auc", 0.9, 0.6, 0.5), ("log_loss", 0.2, 0.5, 0.6)])
def test_nobody_gains_from_a_benchmark_on_which_they_were_not_evaluated(
    client: TestClient,
    checkpoints: Sequence[Checkpoint],
    make_benchmark: MakeBenchmark,
    record: Record,
    metric: str,
    easy: float,
    hard: float,
    worst: float,
) -> None:
    """A twin of two equal models lacks the result on the harder benchmark."""
    first, second, twin, weak = checkpoints
    benchmarks = make_benchmark(), make_benchmark()
    for checkpoint, values in ((first, (easy, hard)), (second, (easy, hard)), (twin, (easy,))):
        for benchmark, value in zip(benchmarks, values, strict=False):
            record(checkpoint, benchmark, **{metric: value})
    query = {"order_by_metric.metric_name": metric, "order_by_metric.direction": "asc"}
    page = board(client, query)
    assert {row["rank"] for row in page["data"]} == {1}
    record(weak, benchmarks[1], **{metric: worst})
    ranks = {row["id"]: row["rank"] for row in board(client, query)["data"]}
    assert ranks == {first.id: 1, second.id: 1, twin.id: 3, weak.id: 3}
    alone = board(client, query | {"name": twin.name})["data"][0]
    assert alone["order_value"] == pytest.approx((easy + worst) / 2)


@pytest.mark.row("LB-1")
def test_missing_values_come_last_in_both_directions_and_equal_values_are_ordered_by_id(
    client: TestClient, checkpoints: Sequence[Checkpoint], make_benchmark: MakeBenchmark, record: Record
) -> None:
    benchmark, other = make_benchmark(), make_benchmark()
    for checkpoint, value in zip(checkpoints, [0.7, None, 0.9, 0.7], strict=True):
        record(checkpoint, benchmark, roc_auc=value)
    a, missing, best, tied = (checkpoint.id for checkpoint in checkpoints)
    order = {"order_by_metric.benchmark_id": benchmark, "order_by_metric.metric_name": "roc_auc"}

    falling = board(client, order)
    rising = board(client, {**order, "order_by_metric.direction": "asc"})

    assert ids(falling) == [best, a, tied, missing]
    assert ids(rising) == [a, tied, best, missing]
    assert [row["rank"] for row in falling["data"]] == [1, 2, 2, None]
    assert [row["rank"] for row in rising["data"]] == [2, 2, 1, None]
    record(checkpoints[1], benchmark, roc_auc=math.nan)
    assert ids(board(client, order)) == [best, a, tied, missing]
    # A checkpoint with a result on another benchmark only has no value here.
    record(checkpoints[1], other, roc_auc=1.0)
    assert ids(board(client, {**order, "benchmarks": [benchmark, other]})) == [best, a, tied, missing]


@pytest.mark.row("LB-1")
def test_the_lowest_log_loss_has_the_first_rank(
    client: TestClient, checkpoints: Sequence[Checkpoint], make_benchmark: MakeBenchmark, record: Record
) -> None:
    benchmark = make_benchmark()
    for checkpoint, value in zip(checkpoints, [0.5, 0.2, 0.9, 0.4], strict=True):
        record(checkpoint, benchmark, log_loss=value)
    order = {"order_by_metric.benchmark_id": benchmark, "order_by_metric.metric_name": "log_loss"}
    literal = board(client, order)
    assert [row["benchmarks"][benchmark]["log_loss"] for row in literal["data"]] == [0.9, 0.5, 0.4, 0.2]
    assert [row["rank"] for row in literal["data"]] == [4, 3, 2, 1]
    rising = board(client, {**order, "order_by_metric.direction": "asc"})
    assert [row["rank"] for row in rising["data"]] == [1, 2, 3, 4]


@pytest.mark.row("LB-1")
def test_a_metric_without_a_benchmark_orders_by_the_average_of_the_selected_benchmarks(
    client: TestClient, checkpoints: Sequence[Checkpoint], make_benchmark: MakeBenchmark, record: Record
) -> None:
    first, second, third = make_benchmark(), make_benchmark(), make_benchmark()
    for benchmark, values in ((first, (0.1, 0.5)), (second, (0.9, 0.6)), (third, (1.0, 0.0))):
        for checkpoint, value in zip(checkpoints, values, strict=False):
            record(checkpoint, benchmark, f1=value)
    a, b = checkpoints[0].id, checkpoints[1].id
    order = {"order_by_metric.metric_name": "f1"}
    assert ids(board(client, order)) == [a, b]
    assert ids(board(client, {**order, "benchmarks": [first, second]})) == [b, a]
    assert ids(board(client, {**order, "benchmarks": [first, second], "order_by_metric.benchmark_id": third})) == [a, b]


@pytest.mark.row("LB-1")
def test_repeated_and_comma_separated_parameters_have_the_same_effect(
    client: TestClient, checkpoints: Sequence[Checkpoint], make_benchmark: MakeBenchmark, record: Record
) -> None:
    first, second, third = make_benchmark(), make_benchmark(), make_benchmark()
    for checkpoint, benchmark in zip(checkpoints, (first, second, third, third), strict=True):
        record(checkpoint, benchmark, roc_auc=0.5)
    trainings = [checkpoint.training_id for checkpoint in checkpoints[1:]]

    repeated = board(
        client, [("benchmarks", first), ("benchmarks", second), *(("trainings", each) for each in trainings)]
    )
    joined = board(client, {"benchmarks": f"{first},{second}", "trainings": ",".join(trainings)})

    assert repeated == joined
    assert ids(joined) == [checkpoints[1].id]
    assert joined["data"][0]["coverage"] == 0.5


@pytest.mark.row("LB-1", "C-6")
@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"order_by_metric.metric_name": "auc"}, "query.order_by_metric.metric_name"),
        (
            {"order_by_metric.metric_name": "ks", "order_by_metric.direction": "down"},
            "query.order_by_metric.direction",
        ),
        (
            {"order_by_metric.metric_name": "ks", "order_by_metric.benchmark_id": new_id()},
            "query.order_by_metric.benchmark_id",
        ),
        ({"order_by_metric.benchmark_id": new_id()}, "query.order_by_metric.benchmark_id"),
        ({"benchmarks": new_id()}, "query.benchmarks"),
        ({"benchmarks": "none"}, "query.benchmarks"),
        ({"trainings": ",".join(new_id() for _ in range(101))}, "query.trainings"),
        ({"start_date": "yesterday"}, "query.start_date"),
        ({"start_date": "2026-03-02", "end_date": "2026-03-01"}, "query.end_date"),
        ({"limit": 101}, "query.limit"),
    ],
)
def test_an_invalid_order_or_filter_is_refused_with_the_name_of_the_field(
    client: TestClient, params: dict[str, str], field: str
) -> None:
    response = client.get("/leaderboards", params=params)
    assert response.status_code == 400, response.text
    assert [detail["field"] for detail in response.json()["details"]] == [field]


@pytest.mark.row("LB-1", "C-7")
def test_a_cursor_that_was_never_a_row_is_refused(client: TestClient, other_client: TestClient) -> None:
    for after in ("garbage", new_id()):
        response = client.get("/leaderboards", params={"after": after})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")
    assert board(client, {"after": '""'}) == {"count": 0, "data": [], "has_more": False}


@pytest.mark.row("LB-1", "C-2")
def test_another_space_cannot_see_the_leaderboard(
    client: TestClient,
    other_client: TestClient,
    checkpoints: Sequence[Checkpoint],
    make_benchmark: MakeBenchmark,
    record: Record,
) -> None:
    benchmark = make_benchmark()
    record(checkpoints[0], benchmark, roc_auc=0.5)
    assert board(other_client)["count"] == 0
    foreign = other_client.get("/leaderboards", params={"benchmarks": benchmark})
    assert foreign.status_code == 400
    assert other_client.get("/leaderboards", params={"after": checkpoints[0].id}).status_code == 400


@pytest.mark.row("LB-1", "C-10")
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"model_id": "xgboost"}, [1, 3]),
        ({"model_id": "2"}, [2]),
        ({"name": "cHuRn"}, [0, 1]),
        ({"name": "churn", "model_id": "xgboost"}, [1]),
        ({"start_date": "2026-03-03T12:00:00Z"}, [2, 3]),
        ({"end_date": "2026-03-02T12:00:00Z"}, [0, 1]),
        ({"start_date": "2026-03-02", "end_date": "2026-03-03"}, [1, 2]),
        ({"start_date": "2026-03-03T14:00:00 02:00"}, [2, 3]),
        ({"trainings": new_id()}, []),
    ],
)
def test_filters_are_combined_and_dates_are_inclusive(
    client: TestClient,
    checkpoints: Sequence[Checkpoint],
    make_benchmark: MakeBenchmark,
    record: Record,
    params: dict[str, str],
    expected: list[int],
) -> None:
    benchmark = make_benchmark()
    for position, checkpoint in enumerate(checkpoints):
        record(checkpoint, benchmark, roc_auc=1 - position / 10)
    if params.get("model_id", "").isdigit():
        params = {**params, "model_id": checkpoints[int(params["model_id"])].id}
    page = board(client, params)
    assert ids(page) == [checkpoints[position].id for position in expected]
    assert page["count"] == len(expected)
    assert [row["rank"] for row in page["data"]] == list(range(1, len(expected) + 1))


@pytest.mark.row("BM-4", "LB-1")
def test_only_the_newest_result_on_the_current_revision_counts(
    client: TestClient, checkpoints: Sequence[Checkpoint], make_benchmark: MakeBenchmark, record: Record
) -> None:
    benchmark = make_benchmark()
    record(checkpoints[0], benchmark, roc_auc=0.9)
    record(checkpoints[1], benchmark, roc_auc=0.8)
    record(checkpoints[1], benchmark, roc_auc=0.95)
    assert ids(board(client)) == [checkpoints[1].id, checkpoints[0].id]

    client.put(f"/benchmarks/{benchmark}", json={"metrics": ["roc_auc"]})

    assert board(client) == {"count": 0, "data": [], "has_more": False}
    record(checkpoints[0], benchmark, roc_auc=0.5)
    # This evaluation started before the change and ends after it.
    record(checkpoints[0], benchmark, roc_auc=0.99, revision=1)
    page = board(client)
    assert ids(page) == [checkpoints[0].id]
    assert page["data"][0]["benchmarks"] == {benchmark: {"roc_auc": 0.5}}
    # A cursor from before the change is still valid.
    assert ids(board(client, {"after": checkpoints[1].id})) == [checkpoints[0].id]
    assert ids(board(client, {"after": checkpoints[1].id, "order_by_metric.direction": "asc"})) == []


@pytest.mark.row("LB-1", "C-7")
def test_the_next_page_is_correct_after_its_cursor_has_left_the_leaderboard(
    client: TestClient, checkpoints: Sequence[Checkpoint], make_benchmark: MakeBenchmark, record: Record
) -> None:
    benchmark = make_benchmark()
    for position, checkpoint in enumerate(checkpoints):
        record(checkpoint, benchmark, roc_auc=0.9 - position / 10)
    first = board(client, {"limit": 2})
    assert ids(first) == [checkpoints[0].id, checkpoints[1].id]

    client.put(f"/benchmarks/{benchmark}", json={"metrics": ["roc_auc"]})
    for position in (0, 2, 3):
        record(checkpoints[position], benchmark, roc_auc=0.9 - position / 10)

    second = board(client, {"limit": 2, "after": first["data"][-1]["id"]})
    assert ids(second) == [checkpoints[2].id, checkpoints[3].id]
    assert not second["has_more"]


@pytest.mark.row("BM-3")
def test_results_are_kept_when_their_benchmark_is_deleted(
    client: TestClient, checkpoints: Sequence[Checkpoint], make_benchmark: MakeBenchmark, record: Record
) -> None:
    benchmark = make_benchmark()
    record(checkpoints[0], benchmark, roc_auc=0.9)
    before = board(client)
    assert client.delete(f"/benchmarks/{benchmark}").status_code == 200
    assert board(client) == before
    assert board(client, {"benchmarks": benchmark}) == before


@pytest.mark.row("TR-5", "LB-1")
def test_the_rows_of_checkpoints_are_kept_when_their_training_is_deleted(
    client: TestClient, table: Table, space_id: str, make_benchmark: MakeBenchmark, record: Record
) -> None:
    request = training_request(client, table)
    training = Training(id=new_id(), created_at=START, updated_at=START, created_by="alice", **request)
    trainings = Trainings(table)
    trainings.create(space_id, training, None)
    checkpoint = add_checkpoint(table, space_id, training_id=training.id)
    trainings.end(space_id, training.id, JobStatus.SUCCEEDED, {"checkpoint_ids": [checkpoint.id]})
    record(checkpoint, make_benchmark(), roc_auc=0.9)
    before = board(client, {"trainings": training.id})
    assert ids(before) == [checkpoint.id]

    assert client.delete(f"/trainings/{training.id}").status_code == 200

    assert board(client, {"trainings": training.id}) == before


@pytest.mark.row("C-4")
def test_a_member_without_the_permission_is_refused(client: TestClient, sign_in: ClientMaker, table: Table) -> None:
    member = sign_in("carol")
    add_member(table, member, client.headers["X-Space-Id"], ["benchmarks:list"])
    response = member.get("/leaderboards")
    assert response.status_code == 403
    assert "leaderboards:list" in response.json()["error"]
