"""A restart checks what has changed since the run began."""

from typing import Any

import boto3
import pytest

from shared.dynamodb.table import Key, delete
from tests.functional.predictions.conftest import Runs, csv, table

PLACE = {"bucket": "customer", "region": "us-east-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE"}


@pytest.fixture
def stopped(runs: Runs) -> dict[str, Any]:
    runs.upload("a.csv", csv(table(30)))
    run = runs.start()
    post(runs, run, "stop").raise_for_status()
    return run


def post(runs: Runs, run: dict[str, Any], verb: str) -> Any:
    return runs.lab.client.post(f"/predictions/{run['id']}/{verb}")


def refusal(runs: Runs, run: dict[str, Any]) -> str:
    answer = post(runs, run, "restart")
    assert answer.status_code == 409, answer.text
    assert runs.get(run)["restarted_as"] is None
    return str(answer.json()["error"])


@pytest.mark.row("BD-1")
def test_a_run_whose_checkpoint_was_deleted_is_not_restarted(runs: Runs, stopped: dict[str, Any]) -> None:
    runs.lab.resources.table.write(delete(Key(f"checkpoint#{runs.lab.space_id}", runs.checkpoint.id)))
    assert f"The checkpoint {runs.checkpoint.id} was deleted" in refusal(runs, stopped)


@pytest.mark.parametrize(("name", "words"), [("source", "of the files"), ("target", "of the output")])
def test_a_run_whose_connector_was_deleted_is_not_restarted(
    runs: Runs, stopped: dict[str, Any], name: str, words: str
) -> None:
    runs.lab.client.delete(f"/connectors/{getattr(runs, name)}").raise_for_status()
    assert f"The connector {words} was deleted" in refusal(runs, stopped)


def test_a_restart_reads_by_the_access_that_the_connector_has_now(runs: Runs) -> None:
    lab = runs.lab
    boto3.client("s3").create_bucket(Bucket="customer")
    foreign = lab.connector(s3={**PLACE, "prefix": "in", "secret_access_key": "a" * 40})
    boto3.client("s3").put_object(Bucket="customer", Key="in/a.csv", Body=csv(table(30)))
    lab.scan(foreign)
    lab.work(foreign)
    run = runs.start(connector_id=foreign)
    post(runs, run, "stop").raise_for_status()

    def access() -> str | None:
        return lab.resources.run_plans.load(lab.space_id, run["id"]).access.credentials_parameter

    before = access()
    change = {"access_key_id": "AKIAIOSFODNN7ROTATED", "secret_access_key": "b" * 40}
    lab.client.put(f"/connectors/{foreign}", json={"s3": change}).raise_for_status()
    restarted = post(runs, run, "restart")
    assert restarted.status_code == 201, restarted.text
    assert (before, access()) == (f"{before}", str(before).replace(":1", ":2"))
    assert before != access()

    post(runs, restarted.json(), "stop").raise_for_status()
    lab.client.put(f"/connectors/{foreign}", json={"s3": {"prefix": "elsewhere"}}).raise_for_status()
    assert "The connector is to another place" in refusal(runs, restarted.json())
