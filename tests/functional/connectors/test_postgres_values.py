"""Values of PostgreSQL arrive in scans and jobs as they are, or are missing where no type of ours holds them."""

import io
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from functions.workflows.connector_scan.tables import write_parquet
from shared.connectors.postgres import PostgresDatabases
from shared.models.connector import PostgresConfig
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.certificates import HOST
from tests.fixtures.postgres import PASSWORD, PostgresServer, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def databases(aws: None, settings: Settings) -> PostgresDatabases:
    return Resources(settings.model_copy(update={"allow_loopback": True})).postgres_databases


def config_of(server: PostgresServer) -> PostgresConfig:
    return PostgresConfig(
        host=HOST,
        port=server.tls_port,
        database="postgres",
        user="postgres",
        password=PASSWORD,
        ca_certificate=server.certificate,
    )


def copied(databases: PostgresDatabases, server: PostgresServer, folder: Any, table: str) -> pl.DataFrame:
    """Returns a table as the Parquet file of its scan."""
    rows = io.BytesIO()
    with databases.open_config(config_of(server), 10) as database:
        columns = database.copy(table, rows)
    (folder / "rows.csv").write_bytes(rows.getvalue())
    target = folder / "table.parquet"
    write_parquet(str(folder / "rows.csv"), [(each.name, each.type) for each in columns], str(target))
    return pl.read_parquet(target)


@pytest.mark.row("X-11")
def test_the_copy_of_a_table_is_of_one_moment(databases: PostgresDatabases, server: PostgresServer) -> None:
    server.run("drop table if exists moments", "create table moments (a text)", "insert into moments values ('first')")
    rows = io.BytesIO()
    with databases.open_config(config_of(server), 10) as database:
        assert "moments" in database.tables()
        server.run("update moments set a = 'second'", "insert into moments values ('third')")
        database.copy("moments", rows)
    assert rows.getvalue() == b'".first"\n'


@pytest.mark.row("X-11")
def test_a_text_that_looks_like_null_is_a_text(
    databases: PostgresDatabases, server: PostgresServer, tmp_path: Any
) -> None:
    texts = ["\\N", "", ".", "\\.", ".\\N", "null", 'a"b', " \n\\N\n", "ü", None]
    server.run("drop table if exists texts", 'create table texts (n serial, a text, b varchar(9), c "char")')
    for text in texts:
        value = "null" if text is None else "'" + text.replace("'", "''") + "'"
        server.run(f"insert into texts (a, b, c) values ({value}, {value}, 'x')")  # noqa: S608 - our own values
    found = copied(databases, server, tmp_path, "texts")
    assert (found["a"].to_list(), found["b"].to_list()) == (texts, texts)


@pytest.mark.row("X-11")
def test_a_numeric_beyond_a_float_is_missing_and_loses_no_table(
    databases: PostgresDatabases, server: PostgresServer, tmp_path: Any
) -> None:
    values = ["1e400", "-1e400", "1e-400", "-1e-400", "0", "1.7976931348623157e308", "-2.5", "'NaN'", "'-Infinity'"]
    server.run(
        "drop table if exists numbers",
        "create table numbers (n serial, a numeric)",
        *(f"insert into numbers (a) values ({value})" for value in values),  # noqa: S608 - our own values
    )
    found = copied(databases, server, tmp_path, "numbers")["a"].to_list()
    assert [None if each is None else str(each) for each in found] == [
        None, None, "0.0", "0.0", "0.0", "1.7976931348623157e+308", "-2.5", "nan", "-inf"
    ]  # fmt: skip


@pytest.mark.row("X-11")
def test_a_domain_over_a_domain_has_the_type_at_its_bottom(
    databases: PostgresDatabases, server: PostgresServer, tmp_path: Any
) -> None:
    server.run(
        "drop table if exists domains",
        "drop domain if exists inner_amount cascade",
        "create domain inner_amount as numeric check (value > 0)",
        "create domain amount as inner_amount",
        "create domain code as text",
        "create table domains (a amount, b inner_amount, c code, d date, e int[])",
        "insert into domains values (1.5, 2, '\\N', '2024-02-29', '{1}'), (null, null, null, null, null)",
    )
    found = copied(databases, server, tmp_path, "domains")
    assert found.schema == {"a": pl.Float64, "b": pl.Float64, "c": pl.String, "d": pl.Date, "e": pl.String}
    assert found.rows()[1] == (None,) * 5
    assert found["a"][0] == 1.5
