"""Calls that leave the space of a request are refused, also if the code asks for them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError

from shared.aws.space_guard import METRIC, ForeignSpaceError, is_of_space
from shared.dynamodb.table import Key, Table, check, delete, put, update
from shared.observability import workflow_step
from shared.resources import Resources
from shared.space_binding import BoundThreads, bound_space
from tests.fixtures.aws import BUCKET

OWN = "0197a3c0-0000-7000-8000-00000000000a"
FOREIGN = "0197a3c0-0000-7000-8000-00000000000b"
ROW = Key(f"action#{FOREIGN}", "1")


@pytest.fixture
def table(table: Table) -> Iterator[Table]:
    """Returns the table with a row of another space, in work for our own space."""
    table.put_all([{**ROW.values, "name": "theirs"}, {**Key(f"action#{OWN}", "1").values, "name": "ours"}])
    token = bound_space.set(OWN)
    yield table
    bound_space.reset(token)


@pytest.mark.row("C-2")
@pytest.mark.parametrize(
    "call",
    [
        lambda table: table.get(ROW),
        lambda table: table.get_many([Key(f"action#{OWN}", "1"), ROW]),
        lambda table: list(table.query(ROW.pk)),
        lambda table: table.count(f"log#{FOREIGN}#0", condition=None, index=None, filter=None),
        lambda table: list(table.query(f"log_user#{FOREIGN}#u", index="by_user")),
        lambda table: table.scan(Attr("PK").exists(), ["PK"], None),
        lambda table: table.write(update(ROW, {"name": "ours"})),
        lambda table: table.write(delete(ROW)),
        lambda table: table.put_all([{**ROW.values}]),
        lambda table: table.delete_all([ROW]),
        lambda table: table.transact([put(Key(f"action#{OWN}", "2"), {}), check(ROW, Attr("PK").exists())]),
        lambda table: table.get(Key(f"action#{FOREIGN}#count", "total#00")),
        lambda table: table.get(Key(f"space#{FOREIGN}", FOREIGN)),
    ],
)
def test_no_call_of_a_request_reaches_a_row_of_another_space(
    call: Any, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ForeignSpaceError):
        call(table)
    [metric] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if METRIC in line]
    assert (metric[METRIC], metric["service"]) == ([1.0], "all")
    bound_space.set(FOREIGN)
    assert (table.get(ROW) or {})["name"] == "theirs"


def test_a_request_reaches_rows_of_its_own_space_and_of_no_space(table: Table) -> None:
    assert (table.get(Key(f"action#{OWN}", "1")) or {})["name"] == "ours"
    for partition in (f"log#{OWN}#3", "job#open", f"membership#{FOREIGN}", "chat#purges", "cluster#default"):
        assert table.get(Key(partition, "none")) is None


def test_an_id_that_begins_like_the_space_is_another_space() -> None:
    assert is_of_space(f"action#{OWN}", OWN)
    assert not is_of_space(f"action#{OWN}1", OWN)
    assert not is_of_space("action", OWN)


@pytest.mark.row("C-2")
@pytest.mark.parametrize("folder", ["spaces", "temporary/spaces"])
def test_no_call_of_a_request_reaches_a_file_of_another_space(folder: str, resources: Resources) -> None:
    s3, key = resources.s3, f"{folder}/{FOREIGN}/chats/1"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"theirs")
    token = bound_space.set(OWN)
    try:
        for call in (
            lambda: s3.get_object(Bucket=BUCKET, Key=key),
            lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=b"ours"),
            lambda: s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key}]}),
            lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{folder}/{OWN}"),
            lambda: s3.list_objects_v2(Bucket=BUCKET),
            lambda: s3.copy_object(Bucket=BUCKET, Key=f"{folder}/{OWN}/1", CopySource={"Bucket": BUCKET, "Key": key}),
            lambda: s3.generate_presigned_post(Bucket=BUCKET, Key=key),
        ):
            with pytest.raises(ForeignSpaceError):
                call()
        with pytest.raises(ClientError, match="NoSuchKey"):
            s3.get_object(Bucket=BUCKET, Key=f"{folder}/{OWN}/chats/1")
        assert s3.generate_presigned_post(Bucket=BUCKET, Key=f"{folder}/{OWN}/chats/1")
    finally:
        bound_space.reset(token)
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"theirs"


def test_threads_of_a_request_are_bound_to_its_space(table: Table) -> None:
    with BoundThreads(1) as pool, pytest.raises(ForeignSpaceError):
        list(pool.map(table.get, [ROW]))


def test_a_step_of_a_workflow_is_bound_to_the_space_of_its_input(table: Table) -> None:
    bound_space.set(None)
    step = workflow_step(lambda _: {"row": table.get(ROW)})
    with pytest.raises(ForeignSpaceError):
        step({"space_id": OWN}, None)
    assert step({"space_id": FOREIGN}, None)["row"]["name"] == "theirs"
