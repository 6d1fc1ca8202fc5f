import errno
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.dynamodb.table import Table
from shared.errors import ConflictError
from shared.models.checkpoint import Checkpoint
from shared.propensity.checkpoints import Scorer
from shared.propensity.scorers import Scorers
from shared.propensity.tables import encode_frame
from shared.resources import Resources
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_checkpoint, add_model
from tests.fixtures.trained_models import customers, packed, train_model

CheckpointMaker = Callable[..., Checkpoint]


@pytest.fixture(scope="module", params=["lightgbm", "xgboost"])
def model_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trains a small model and returns its folder."""
    return train_model(tmp_path_factory.mktemp("ml"), request.param)


@pytest.fixture
def add_trained_checkpoint(client: TestClient, table: Table) -> CheckpointMaker:
    """Returns a function that stores a checkpoint with the given artifact."""

    def make(content: bytes) -> Checkpoint:
        return add_model(table, client.headers["X-Space-Id"], content)

    return make


def predict(client: TestClient, checkpoint: Checkpoint, rows: list[dict[str, Any]]) -> Any:
    # As ASCII, in which JSON can hold halves of characters.
    body = json.dumps({"rows": rows})
    headers = {"Content-Type": "application/json"}
    return client.post(f"/checkpoints/{checkpoint.id}/predictions", content=body, headers=headers)


@pytest.mark.row("CK-1", "C-7")
def test_checkpoints_are_listed_with_their_training_metrics_and_size(client: TestClient, table: Table) -> None:
    created = [add_checkpoint(table, client.headers["X-Space-Id"], size_bytes=size) for size in (10, 20, 30)]

    page = client.get("/checkpoints").json()

    assert [row["id"] for row in page["data"]] == [checkpoint.id for checkpoint in reversed(created)]
    assert (page["count"], page["has_more"]) == (3, False)
    assert page["data"][0]["training_id"] == created[2].training_id
    assert page["data"][0]["metrics"] == {"roc_auc": 0.8}
    assert page["data"][0]["size_bytes"] == 30
    assert page["data"][0]["created_at"].endswith("Z")
    assert "artifact" not in page["data"][0]
    for start in ("", '""'):
        assert client.get("/checkpoints", params={"after": start}).json() == page
    second = client.get("/checkpoints", params={"limit": 2, "after": created[2].id}).json()
    assert [row["id"] for row in second["data"]] == [created[1].id, created[0].id]
    assert client.get("/checkpoints", params={"after": "garbage"}).json()["code"] == "invalid_cursor"


@pytest.mark.row("X-1")
def test_predictions_for_one_and_for_ten_thousand_rows_equal_the_probabilities_of_the_model(
    client: TestClient, add_trained_checkpoint: CheckpointMaker, model_folder: Path
) -> None:
    checkpoint = add_trained_checkpoint(packed(model_folder))
    scorer = Scorer(model_folder)
    frame = customers(10_000, seed=8)
    expected = scorer.probabilities(encode_frame(scorer.checkpoint.features, frame))
    rows = frame.drop("bought").to_dicts()

    many = predict(client, checkpoint, rows)

    assert many.status_code == 200, many.text
    predictions = many.json()["predictions"]
    assert np.allclose([each["probability"] for each in predictions], expected, rtol=0, atol=1e-6)
    assert {each["label"] for each in predictions} == {"yes", "no"}
    assert all((each["label"] == "yes") == (each["probability"] >= 0.5) for each in predictions)
    one = predict(client, checkpoint, rows[:1]).json()["predictions"]
    assert one[0]["probability"] == pytest.approx(expected[0], abs=1e-6)
    assert predict(client, checkpoint, [*rows, rows[0]]).status_code == 400
    assert predict(client, checkpoint, []).status_code == 400


ROW = {"age": 40, "city": "Lyon", "active": True, "joined": "2021-05-01"}


@pytest.mark.row("X-1")
def test_a_prediction_ignores_unknown_columns_and_accepts_nulls_and_new_categories(
    client: TestClient, add_trained_checkpoint: CheckpointMaker, model_folder: Path
) -> None:
    checkpoint = add_trained_checkpoint(packed(model_folder))
    plain = predict(client, checkpoint, [ROW]).json()
    assert predict(client, checkpoint, [{**ROW, "shoe_size": 43, "nested": {"a": 1}}]).json() == plain
    assert predict(client, checkpoint, [{**ROW, "age": "40", "active": "true"}]).json() == plain
    empty = predict(client, checkpoint, [dict.fromkeys(ROW), {**ROW, "city": "Atlantis", "age": " "}])
    assert empty.status_code == 200, empty.text


@pytest.mark.row("X-1")
def test_a_prediction_names_the_categories_that_the_training_never_saw(
    client: TestClient, add_trained_checkpoint: CheckpointMaker, model_folder: Path
) -> None:
    checkpoint = add_trained_checkpoint(packed(model_folder))
    cities = ["lyon", "Lyon", " lyon ", "x" * 200, 7, None, "-", "N/A"]

    few = predict(client, checkpoint, [{**ROW, "city": city} for city in cities]).json()
    many = predict(client, checkpoint, [{**ROW, "city": f"city {index}"} for index in range(500)]).json()

    assert few["unseen_categories"] == [{"column": "city", "value": value} for value in ("lyon", "x" * 100, "7")]
    assert [each["value"] for each in many["unseen_categories"]] == [f"city {index}" for index in range(20)]
    assert len(many["predictions"]) == 500
    assert predict(client, checkpoint, [ROW]).json()["unseen_categories"] == []


@pytest.mark.row("X-1", "C-6")
@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({name: value for name, value in ROW.items() if name != "city"}, "rows[1].city"),
        ({**ROW, "age": "forty"}, "rows[1].age"),
        ({**ROW, "age": [40]}, "rows[1].age"),
        ({**ROW, "active": "perhaps"}, "rows[1].active"),
        ({**ROW, "joined": "soon"}, "rows[1].joined"),
        ({**ROW, "city": {"name": "Lyon"}}, "rows[1].city"),
    ],
)
def test_a_missing_column_or_a_wrong_type_is_refused_with_the_name_of_the_column(
    client: TestClient, add_trained_checkpoint: CheckpointMaker, model_folder: Path, row: dict[str, Any], field: str
) -> None:
    response = predict(client, add_trained_checkpoint(packed(model_folder)), [ROW, row])
    assert response.status_code == 400, response.text
    assert field in response.json()["details"][0]["field"]
    assert field.rpartition(".")[2] in response.json()["error"]


@pytest.mark.row("X-1", "C-6")
def test_all_missing_columns_of_all_rows_are_named_in_one_answer(
    client: TestClient, add_trained_checkpoint: CheckpointMaker, model_folder: Path
) -> None:
    rows: list[dict[str, Any]] = [ROW, {"age": 40, "joined": None}, {"city": "Lyon"}]
    refused = predict(client, add_trained_checkpoint(packed(model_folder)), rows)
    assert refused.status_code == 400
    fields = [each["field"] for each in refused.json()["details"]]
    assert sorted(fields) == ["rows[1].active", "rows[1].city", "rows[2].age", "rows[2].joined"]
    assert all(name in refused.json()["error"] for name in ROW)


@pytest.mark.row("X-1", "X-16")
def test_a_threshold_that_is_sent_decides_the_labels(
    client: TestClient, add_trained_checkpoint: CheckpointMaker, model_folder: Path
) -> None:
    checkpoint = add_trained_checkpoint(packed(model_folder))
    path = f"/checkpoints/{checkpoint.id}/predictions"
    own = client.post(path, json={"rows": [ROW]}).json()
    assert own["threshold"] == 0.5
    probability = own["predictions"][0]["probability"]
    for threshold, label in ((probability, "yes"), (np.nextafter(probability, 1), "no"), (0, "yes"), (1, "no")):
        scored = client.post(path, json={"rows": [ROW], "threshold": threshold}).json()
        assert scored["threshold"] == threshold
        assert scored["predictions"] == [{"probability": probability, "label": label}]
    assert client.post(path, json={"rows": [ROW], "threshold": 1.1}).status_code == 400


@pytest.mark.row("X-1")
def test_a_prediction_with_a_missing_or_damaged_model_is_refused(
    client: TestClient, add_trained_checkpoint: CheckpointMaker, resources: Resources
) -> None:
    gone = add_trained_checkpoint(b"model")
    resources.s3.delete_object(Bucket=BUCKET, Key=gone.artifact.key, VersionId=gone.artifact.version_id or "")
    for broken in (gone, add_trained_checkpoint(b"not an archive")):
        response = predict(client, broken, [ROW])
        assert (response.status_code, response.json()["code"]) == (409, "conflict")
        assert "Train again" in response.json()["error"]


@pytest.mark.row("X-1", "EN-3")
def test_a_full_disk_asks_to_try_again_and_not_to_train_again(
    client: TestClient, add_trained_checkpoint: CheckpointMaker, model_folder: Path
) -> None:
    checkpoint = add_trained_checkpoint(packed(model_folder))
    with patch.object(tarfile.TarFile, "extract", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        response = predict(client, checkpoint, [ROW])
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "Try again" in response.json()["error"]
    assert predict(client, checkpoint, [ROW]).status_code == 200


@pytest.mark.row("C-2")
def test_another_space_cannot_score_with_a_checkpoint(
    client: TestClient, other_client: TestClient, table: Table
) -> None:
    checkpoint = add_checkpoint(table, client.headers["X-Space-Id"])
    foreign = predict(other_client, checkpoint, [ROW])
    unknown = other_client.post(f"/checkpoints/{new_id()}/predictions", json={"rows": [ROW]})
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.json()["error"] == unknown.json()["error"]


def test_scorers_are_loaded_once_and_the_least_recently_used_is_dropped_at_the_size_limit(
    add_trained_checkpoint: CheckpointMaker, resources: Resources, model_folder: Path
) -> None:
    scorers = Scorers(kept_bytes=2 * Scorer(model_folder).size_bytes)
    first, second, third = (add_trained_checkpoint(packed(model_folder)).artifact for _ in range(3))
    kept = scorers.get(resources.s3, first)
    scorers.get(resources.s3, second)
    assert scorers.get(resources.s3, first) is kept
    scorers.get(resources.s3, third)
    assert scorers.get(resources.s3, first) is kept
    resources.s3.delete_object(Bucket=BUCKET, Key=second.key, VersionId=second.version_id or "")
    with pytest.raises(ConflictError):
        scorers.get(resources.s3, second)
