"""Tests of the deployed functions, from a new user to a ranked model."""

from typing import Any

import httpx
import pytest

from tests.e2e.conftest import JOB_SECONDS, Stack, TrainingSpace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SCAN_SECONDS = 120.0


@pytest.fixture(scope="module")
def trained(space: TrainingSpace) -> dict[str, Any]:
    """Returns a succeeded training and its benchmark."""
    benchmark = space.benchmark()
    created = space.train(benchmark_ids=[benchmark["id"]])
    training = space.wait_for(created["id"])
    assert training["status"] == "succeeded", training
    return {"benchmark": benchmark, "created": created, "training": training}


@pytest.fixture(scope="module")
def evaluation(space: TrainingSpace, trained: dict[str, Any]) -> dict[str, Any]:
    """Waits for the evaluation that the training started, and returns it."""
    page = space.api.wait(
        "/evaluations?limit=100",
        lambda page: any(
            row["benchmark_id"] == trained["benchmark"]["id"] and row["result"]["status"] in ("succeeded", "failed")
            for row in page["data"]
        ),
        seconds=JOB_SECONDS,
    )
    found: dict[str, Any] = next(row for row in page["data"] if row["benchmark_id"] == trained["benchmark"]["id"])
    return found


def test_a_request_without_a_token_gets_401_with_an_error_body(stack: Stack) -> None:
    for token in (None, "Bearer none", "Basic none"):
        response = httpx.get(
            f"{stack.url}/spaces", headers={"Authorization": token} if token else {}, timeout=30, trust_env=False
        )

        assert response.status_code == 401, response.text
        assert set(response.json()) >= {"error", "code", "details", "request_id"}
        assert response.json()["code"] == "unauthenticated"


def test_an_unknown_path_gets_404_with_an_error_body(stack: Stack) -> None:
    response = stack.user().send("GET", "/no-such-thing")

    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


def test_a_new_user_sees_only_their_own_spaces(stack: Stack) -> None:
    first, second = stack.member(), stack.member()

    me = first.get("/me")
    spaces = first.get("/spaces")

    assert me["email"].startswith("user-")
    assert [space["id"] for space in spaces["data"]] == [first.space_id]
    hidden = second.send("GET", f"/spaces/{first.space_id}")
    unknown = second.send("GET", "/spaces/01900000-0000-7000-8000-000000000000")
    assert (hidden.status_code, unknown.status_code) == (404, 404)
    assert hidden.json()["error"] == unknown.json()["error"]


@pytest.mark.row("CN-5")
def test_an_upload_appears_in_the_catalog_automatically(space: TrainingSpace) -> None:
    wanted = {space.data_set.training_file, space.data_set.benchmark_file}

    def scanned(page: dict[str, Any]) -> dict[str, Any]:
        return {row["file"]: row for row in page["data"] if row["status"] == "scanned"}

    page = space.api.wait(
        f"/connectors/{space.connector_id}/catalog",
        lambda page: wanted <= scanned(page).keys(),
        seconds=SCAN_SECONDS,
    )

    row = scanned(page)[space.data_set.training_file]
    assert (row["format"], row["rows"]) == ("csv", 700)
    columns = {column["name"]: column for column in row["columns"]}
    assert columns["creditability"]["distinct"] == 2
    assert columns["duration_in_month"]["type"] == "int"


def test_a_succeeded_training_has_a_checkpoint_in_s3(
    stack: Stack, space: TrainingSpace, trained: dict[str, Any]
) -> None:
    training = trained["training"]

    assert trained["created"]["status"] == "pending"
    assert training["checkpoints"]
    assert {point["name"] for point in training["metrics"]}
    bucket = stack.outputs["BucketName"]
    prefix = f"spaces/{space.api.space_id}/trainings/{training['id']}/"
    keys = [entry["Key"] for entry in stack.aws("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]
    assert any(key.endswith("/model.tar.gz") for key in keys)


@pytest.mark.row("DT-1")
def test_a_training_on_two_instances_has_one_checkpoint(space: TrainingSpace) -> None:
    files = [space.data_set.training_file, space.data_set.benchmark_file]
    created = space.train(architecture="xgboost", instance_count=2, connectors=[space.connector(files=files)])
    ended = space.wait_for(created["id"])

    assert (ended["status"], ended["error"]) == ("succeeded", None)
    assert len(ended["checkpoints"]) == 1


def test_each_benchmark_of_a_training_gets_an_evaluation(evaluation: dict[str, Any]) -> None:
    result = evaluation["result"]

    assert result["status"] == "succeeded", result
    assert set(result["metrics"]) >= {"roc_auc", "ks", "log_loss"}
    # A model of this data set is better than chance, but not perfect.
    assert 0.65 < result["metrics"]["roc_auc"] < 0.9


def test_the_leaderboard_ranks_the_checkpoint(
    space: TrainingSpace, trained: dict[str, Any], evaluation: dict[str, Any]
) -> None:
    benchmark_id = trained["benchmark"]["id"]

    page = space.api.get(
        "/leaderboards",
        **{
            "benchmarks": benchmark_id,
            "order_by_metric.benchmark_id": benchmark_id,
            "order_by_metric.metric_name": "roc_auc",
        },
    )

    row = page["data"][0]
    assert row["rank"] == 1
    assert row["training_id"] == trained["training"]["id"]
    assert row["benchmarks"][benchmark_id]["roc_auc"] == pytest.approx(evaluation["result"]["metrics"]["roc_auc"])


def test_a_checkpoint_scores_rows(space: TrainingSpace, trained: dict[str, Any]) -> None:
    rows = space.rows(50)
    checkpoint_id = trained["training"]["checkpoints"][0]["id"]

    response = space.api.post(f"/checkpoints/{checkpoint_id}/predictions", {"rows": rows})

    predictions = response["predictions"]
    assert len(predictions) == len(rows)
    assert all(0.0 <= each["probability"] <= 1.0 for each in predictions)
    bad = [each["probability"] for each, row in zip(predictions, rows, strict=True) if row["creditability"] == "bad"]
    good = [each["probability"] for each, row in zip(predictions, rows, strict=True) if row["creditability"] == "good"]
    assert sum(bad) / len(bad) > sum(good) / len(good)


def test_users_of_another_space_cannot_see_a_training(
    stack: Stack, space: TrainingSpace, trained: dict[str, Any]
) -> None:
    other = stack.member()
    checkpoint_id = trained["training"]["checkpoints"][0]["id"]

    for method, path in (
        ("GET", f"/trainings/{trained['training']['id']}"),
        ("DELETE", f"/trainings/{trained['training']['id']}"),
        ("GET", f"/connectors/{space.connector_id}"),
        ("GET", f"/connectors/{space.connector_id}/catalog"),
        ("GET", f"/benchmarks/{trained['benchmark']['id']}"),
        ("POST", f"/checkpoints/{checkpoint_id}/predictions"),
    ):
        response = other.send(method, path, {"rows": [{}]} if method == "POST" else None)
        assert response.status_code == 404, (method, path, response.text)
    assert space.training(trained["training"]["id"])["status"] == "succeeded"


@pytest.mark.row("TR-5")
def test_deleting_a_training_keeps_its_checkpoint_on_the_leaderboard(space: TrainingSpace) -> None:
    benchmark_id = space.benchmark()["id"]
    training = space.wait_for(space.train(benchmark_ids=[benchmark_id])["id"])
    checkpoint_id = training["checkpoints"][0]["id"]
    ranked = f"/leaderboards?benchmarks={benchmark_id}"
    space.api.wait(ranked, lambda page: page["count"] == 1, seconds=JOB_SECONDS)

    space.api.delete(f"/trainings/{training['id']}")

    assert space.api.send("GET", f"/trainings/{training['id']}").status_code == 404
    assert [row["id"] for row in space.api.get(ranked)["data"]] == [checkpoint_id]
    response = space.api.post(f"/checkpoints/{checkpoint_id}/predictions", {"rows": space.rows(1)})
    assert 0.0 <= response["predictions"][0]["probability"] <= 1.0
