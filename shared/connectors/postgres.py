"""Tables of a customer's PostgreSQL: listed, and copied out in streaming within one read-only transaction.

The server is only ever asked to read: a transaction that is read-only and sees one moment, under time limits of ours.
``COPY`` streams rows as a server-side cursor does, but as text that a file takes as it comes, so that the memory it
takes does not depend on the table.
"""

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared.connectors.postgres_stream import bounded
from shared.connectors.storage import ConnectorStorages, MissingFileError, StorageError
from shared.errors import ValidationFailedError
from shared.models.connector import Connector, PostgresConfig, TlsMode, check_file_name
from shared.models.reading import ColumnTypeName
from shared.network.address_guard import AddressGuard

if TYPE_CHECKING:
    from pg8000.native import Connection

CONNECT_SECONDS = 5
LOCK_SECONDS = 10
# The server gives a statement up first, and says why.
ANSWER_SECONDS = 2
# For all that is said before and after the statement that takes longest.
SLACK_SECONDS = 20
# PostgreSQL's own codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
UNDEFINED = ("42P01", "3F000")
# By their classes: connections, rollbacks after conflicts, resources, a lock, and an operator's intervention.
PASSING = ("08", "40", "53", "55P03", "57P")
_TIME = "'YYYY-MM-DD\"T\"HH24:MI:SS.US'"
_YEARS = "between '0001-01-01' and '9999-12-31'"
# A cast of a numeric to a float fails beyond a float's range, in both directions.
_SMALLEST, _LARGEST = "2.3e-308", "1.7976931348623157e308"
# How values are written so that they can be read back: what a type holds beyond ours (infinity, years BC) is missing.
_WRITTEN: dict[str, tuple[ColumnTypeName, str]] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), ("int", "{0}")),
    **dict.fromkeys(("real", "double precision"), ("float", "cast({0} as float8)")),
    "numeric": (
        "float",
        f"case when abs({{0}}) between {_SMALLEST} and {_LARGEST}"
        " or cast({0} as text) in ('NaN', 'Infinity', '-Infinity') then cast({0} as float8)"
        f" when abs({{0}}) < {_SMALLEST} then 0 end",
    ),
    "boolean": ("boolean", "{0}"),
    "date": ("date", f"case when {{0}} {_YEARS} then to_char({{0}}, 'YYYY-MM-DD') end"),
    "timestamp without time zone": ("datetime", f"case when {{0}} {_YEARS} then to_char({{0}}, {_TIME}) end"),
    "timestamp with time zone": (
        "datetime",
        f"case when {{0}} {_YEARS} then to_char({{0}} at time zone 'UTC', {_TIME}) end",
    ),
}
# The point before a text distinguishes the text \N from null.
_AS_TEXT: tuple[ColumnTypeName, str] = ("string", "'.' || cast({0} as text)")
_TABLES = """
select relname from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where nspname = :schema_name and relkind in ('r', 'p', 'v', 'm', 'f') and not relispartition
and has_any_column_privilege(pg_class.oid, 'select') order by relname collate "C"
"""
# A domain is written as the type below it, which may be a domain itself.
_COLUMNS = """
with recursive columns (attnum, attname, typeid) as (
    select attnum, attname, atttypid from pg_attribute
    where attrelid = to_regclass(format('%I.%I', cast(:schema_name as text), cast(:table_name as text)))
    and attnum > 0 and not attisdropped and has_column_privilege(attrelid, attnum, 'select')
    union all
    select attnum, attname, typbasetype from columns join pg_type on oid = typeid where typtype = 'd'
)
select attname, format_type(typeid, null) from columns join pg_type on oid = typeid
where typtype <> 'd' order by attnum
"""


class ByteSink(Protocol):
    """What rows are written to."""

    def write(self, data: bytes, /) -> int: ...


@dataclass(frozen=True)
class TableColumn:
    """A column of a table, and what its values are read back as."""

    name: str
    type: ColumnTypeName


class PostgresDatabases:
    """Opens the database of a connector."""

    def __init__(self, storages: ConnectorStorages, guard: AddressGuard) -> None:
        self._storages = storages
        self._guard = guard

    @contextmanager
    def open(self, connector: Connector, seconds: int) -> Iterator["PostgresDatabase"]:
        """``seconds`` bound each statement. Raises StorageError, and ValidationFailedError for a forbidden host."""
        if connector.postgres is None:
            raise ValueError("the connector is to no database")
        credentials = self._storages.kept_credentials(connector)
        config = PostgresConfig.model_validate(connector.postgres.model_dump() | credentials)
        with self.open_config(config, seconds) as opened:
            yield opened

    @contextmanager
    def open_config(self, config: PostgresConfig, seconds: int) -> Iterator["PostgresDatabase"]:
        """Yields the database that a request describes. Raises as ``open`` does."""
        from pg8000.exceptions import Error
        from pg8000.native import Connection

        context = _tls(config)
        with _translated(config), bounded(self._connect(config, seconds), seconds + SLACK_SECONDS, context) as peer:
            with _understood():
                connection = Connection(
                    config.user,
                    host=config.host,
                    database=config.database,
                    password=config.password.get_secret_value(),
                    application_name="inference-api",
                    ssl_context=context or False,
                    sock=peer,
                )
            try:
                with _understood():
                    connection.run("begin transaction isolation level repeatable read, read only")
                    connection.run(f"set local statement_timeout = '{seconds}s'")
                    connection.run(f"set local lock_timeout = '{LOCK_SECONDS}s'")
                yield PostgresDatabase(connection, config)
            finally:
                with suppress(Error, OSError), _understood():  # broken already
                    connection.close()

    def _connect(self, config: PostgresConfig, seconds: int) -> socket.socket:
        is_local = self._guard.check_host(config.host, config.port, "body.postgres.host")
        if config.tls is TlsMode.DISABLE and not is_local:
            raise ValidationFailedError.of("body.postgres.tls", "must not be disable: the password needs protection")
        # The name may mean something else by now: the guard looks at the peer before a byte is sent.
        connection = self._guard.check_socket(socket.create_connection((config.host, config.port), CONNECT_SECONDS))
        connection.settimeout(seconds + ANSWER_SECONDS)
        return connection


class PostgresDatabase:
    """One schema of a database, as it is at one moment."""

    def __init__(self, connection: "Connection", config: PostgresConfig) -> None:
        self._connection = connection
        self._config = config

    def tables(self) -> list[str]:
        """Returns the tables and views that the user may read and the connector names, in the order of their UTF-8
        bytes.
        """
        with _understood():
            names = [str(name) for (name,) in self._connection.run(_TABLES, schema_name=self._config.schema_name)]
        wanted = self._config.tables
        return [name for name in names if (wanted is None or name in wanted) and _is_file_name(name)]

    def copy(self, table: str, target: ByteSink) -> list[TableColumn]:
        """Writes all rows as CSV without a header, every value quoted, texts after a point, and null as ``\\N``.

        Returns the columns.

        Raises MissingFileError for an unknown table, and the errors of ``target``.
        """
        schema_name = self._config.schema_name
        with _understood():
            rows = self._connection.run(_COLUMNS, schema_name=schema_name, table_name=table)
            found = [(str(name), str(declared)) for name, declared in rows]
        if not found or (self._config.tables is not None and table not in self._config.tables):
            raise MissingFileError(table)
        written = [(name, *_WRITTEN.get(declared, _AS_TEXT)) for name, declared in found]
        values = ", ".join(expression.format(quoted(name)) for name, _, expression in written)
        query = f"select {values} from {quoted(schema_name)}.{quoted(table)}"  # noqa: S608 - names are quoted
        with _understood():
            self._connection.run(f"copy ({query}) to stdout (format csv, null '\\N', force_quote *)", stream=target)
        return [TableColumn(name, kind) for name, kind, _ in written]


def quoted(name: str) -> str:
    """Returns an identifier as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def _is_file_name(name: str) -> bool:
    try:
        check_file_name(name)
    except ValueError:
        return False
    return True


def _tls(config: PostgresConfig) -> ssl.SSLContext | None:
    """Returns a TLS context, or ``None`` for a connection without TLS."""
    if config.tls is TlsMode.DISABLE:
        return None
    context = ssl.create_default_context(cadata=config.ca_certificate)
    if config.tls is TlsMode.REQUIRE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _understood() -> Iterator[None]:
    """Turns the errors that pg8000 raises for answers of another form than PostgreSQL's into one of its own errors."""
    from pg8000.exceptions import InterfaceError

    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise InterfaceError("its answers are not those of PostgreSQL") from error


@contextmanager
def _translated(config: PostgresConfig) -> Iterator[None]:
    """Turns errors of the server and of the connection into a StorageError with their text."""
    from pg8000.exceptions import DatabaseError, Error

    try:
        yield
    except DatabaseError as error:
        problem = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        if problem.get("C") in UNDEFINED:
            raise MissingFileError(problem.get("M", "")) from error
        is_transient = str(problem.get("C", "")).startswith(PASSING)
        raise _unreadable(config, str(problem.get("M", error)), is_transient=is_transient) from error
    except (Error, OSError) as error:
        cause = error.__cause__ or error
        raise _unreadable(config, str(cause), is_transient=_is_broken(cause)) from error


def _is_broken(cause: BaseException) -> bool:
    """Returns whether a connection broke or could not be made now."""
    if isinstance(cause, socket.gaierror):
        return cause.errno == socket.EAI_AGAIN
    # In its own words, pg8000 says that the server ended the connection.
    return isinstance(cause, (ConnectionError, TimeoutError, ssl.SSLEOFError)) or str(cause) == "network error"


def _unreadable(config: PostgresConfig, words: str, *, is_transient: bool) -> StorageError:
    error = StorageError(
        f"The database {config.database} on {config.host} can't be read: {words.rstrip('.')[:300]}. "
        "Check host, port, user and password, the TLS mode, and what the user may select."
    )
    error.is_transient = is_transient
    return error
