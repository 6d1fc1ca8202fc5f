"""A transaction writes all its items or nothing."""

import pytest
from boto3.dynamodb.conditions import Attr

from shared.dynamodb.table import Key, Table, TransactionFailedError, check, put, update
from tests.fixtures.audit import Stream, watch_table

FIRST, SECOND, THIRD = (Key("note#s1", name) for name in ("first", "second", "third"))


def test_a_failed_transaction_writes_nothing(table: Table) -> None:
    """The stream has no record of it either. The tables of tests copy less than moto (tests/fixtures/moto.py)."""
    watch_table()
    written = {"seen": 1, "nested": {"text": "a"}}
    table.write(put(FIRST, written))
    grows = update(FIRST, {"nested": {"text": "b"}}, add={"seen": 1})
    with pytest.raises(TransactionFailedError):
        table.transact([grows, put(SECOND, {}), check(THIRD, Attr("PK").exists())])
    assert table.get(FIRST) == {**FIRST.values, **written}
    assert table.get(SECOND) is None
    table.transact([grows, put(THIRD, {})])
    assert table.get(FIRST) == {**FIRST.values, "seen": 2, "nested": {"text": "b"}}
    assert [(each["eventName"], each["dynamodb"]["Keys"]["SK"]["S"]) for each in Stream().read()] == [
        ("INSERT", FIRST.sk),
        ("MODIFY", FIRST.sk),
        ("INSERT", THIRD.sk),
    ]
