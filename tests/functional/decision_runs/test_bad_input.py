"""What files and folders can have wrong: the run ends in words, with nothing written and no contact reserved."""

import polars as pl
import pytest

from shared.models.checkpoint import CheckpointInput
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_checkpoint
from tests.functional.decision_runs.conftest import Runs, table


@pytest.fixture(autouse=True)
def action_id(runs: Runs) -> str:
    runs.upload("a.parquet", table(10))
    return runs.action("Card", channel="email")


def names(runs: Runs) -> list[str]:
    prefix = f"spaces/{runs.lab.space_id}/connectors/{runs.target}/"
    found = runs.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [each["Key"].removeprefix(prefix) for each in found]


def contacts(runs: Runs) -> list[int]:
    """Returns what the space knows about its customers: 404 is nothing."""
    return [runs.client.get(f"/clients/{number}").status_code for number in range(1, 11)]


@pytest.mark.row("BD-2")
def test_columns_that_changed_since_the_training_are_named_before_anything_starts(runs: Runs) -> None:
    runs.action("Loan", channel="email", model_id=runs.checkpoint.id)
    runs.upload("b.parquet", table(10).drop("age", "city"))
    response = runs.request()
    assert response.status_code == 400
    assert "the file 'b.parquet' lacks the column 'age' of the model 'Churn'" in response.json()["error"]
    assert "lacks the column 'city'" in response.json()["error"]

    # Another model may read dates from the column.
    dates = [CheckpointInput(name="age", type="datetime")]
    other = add_checkpoint(runs.lab.resources.table, runs.lab.space_id, inputs=dates)
    runs.action("Bond", channel="email", model_id=other.id)
    runs.upload("b.parquet", table(10).with_columns(age=pl.date(2026, 1, 31)))
    response = runs.request()
    assert response.status_code == 409
    assert "'age' of the file 'b.parquet' has the type date" in response.json()["error"]
    assert runs.client.get("/decision-runs").json()["count"] == 0


@pytest.mark.row("BD-2")
def test_more_refused_rows_than_the_share_allows_end_the_run(runs: Runs) -> None:
    # Whole rows of nulls would be blank lines.
    rows = table(10).with_columns(customer_id=pl.when(pl.int_range(10) < 3).then(None).otherwise("customer_id"))
    runs.upload("a.parquet", rows)
    ended = runs.work(runs.start(max_refused_share=0.2))
    assert ended["status"] == "failed"
    assert "3 of 10 rows were refused, more than the share 0.2" in ended["error"]
    assert (names(runs), set(contacts(runs))) == ([], {404})
    assert runs.work(runs.start(max_refused_share=0.3))["status"] == "succeeded"


def test_a_run_started_twice_with_one_key_is_one_run(runs: Runs) -> None:
    first, second = (runs.request({"Idempotency-Key": "tonight"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    assert runs.client.get("/decision-runs").json()["count"] == 1
    runs.work(first.json())
    assert runs.summary(first.json())["reserved"] == 10
    third = runs.request()
    assert (third.status_code, "is not empty" in third.json()["error"]) == (409, True)


@pytest.mark.parametrize("moment", ["before the start", "during the run"])
def test_a_folder_that_is_not_empty_ends_the_run_and_keeps_its_file(runs: Runs, moment: str) -> None:
    def fill() -> None:
        key = f"spaces/{runs.lab.space_id}/connectors/{runs.target}/offers/part-00000.parquet"
        runs.lab.s3.put_object(Bucket=BUCKET, Key=key, Body=b"theirs")

    if moment == "before the start":
        fill()
        refused = runs.request()
        assert (refused.status_code, "is not empty" in refused.json()["error"]) == (409, True)
    else:
        run = runs.start()
        runs.decide(run)
        fill()
        ended = runs.finish(run)
        assert ended["status"] == "failed"
        assert "got the file 'offers/part-00000.parquet'" in ended["error"]
        # The reservations were made by then, and count no more.
        assert all(
            event["released_at"]
            for number in range(1, 11)
            for event in runs.client.get(f"/clients/{number}").json()["data"]
        )
    assert names(runs) == ["offers/part-00000.parquet"]
