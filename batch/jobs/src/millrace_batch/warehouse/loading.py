"""Copies a day of the lake into the warehouse: all tables of it in one transaction, or nothing.

Every table's rows are first copied beside the old ones, and only when all of them are there the day is replaced:
readers see the old day or the new one, and old rows are locked for a moment only. A second load of the same lake gives
the same rows. Each load leaves a row a table in `lake.loads`: from it come what dbt computes again, and how fresh the
warehouse is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import psycopg
from psycopg import sql

from millrace_batch.errors import EmptyInputError, MissingTableError
from millrace_batch.warehouse import ddl
from millrace_batch.warehouse.columns import as_csv, postgres_type
from millrace_batch.warehouse.connecting import connected
from millrace_batch.warehouse.ddl import Connection, qualified
from millrace_batch.warehouse.errors import WarehouseError
from millrace_batch.warehouse.lake import Partition, Source
from millrace_batch.warehouse.tables import TABLES, WarehouseTable

# Loads of one database wait for each other: two of the same day would each keep the other's rows.
_LOCK: Final = 0x6D696C6C72616365  # "millrace"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did to a table.

    Attributes:
        table: its name in schema `lake`.
        lake_version: that was read; None: the lake has no such table.
        rows: of the day, now.
        replaced_rows: of the day, before.
        lake_fingerprint: of the files that hold the day in the lake; None: there are none.
    """

    table: str
    lake_version: int | None
    rows: int
    replaced_rows: int
    lake_fingerprint: str | None


def load_day(dsn: str, source: Source, day: date) -> tuple[Loaded, ...]:
    """Replace `day` in every table of the warehouse by what the lake has.

    Raises:
        MissingTableError: the lake lacks a table that every day has.
        EmptyInputError: such a table has no row of the day.
        TableChangedError: a column's type differs; nothing was loaded.
        WarehouseUnavailableError: Postgres does not answer, or cut the connection: all was loaded, or nothing.
        WarehouseError: Postgres cannot hold a value; nothing was loaded.
    """
    if_lost = f"{day} in it is whole, the old one or the new: load it again."
    try:
        with connected(dsn, "load_warehouse", if_lost) as connection:
            return _load(connection, source, day)
    except psycopg.DataError as error:
        message = f"Postgres cannot hold a value of {day}, nothing was loaded: {error}"
        raise WarehouseError(message) from error


def _load(connection: Connection, source: Source, day: date) -> tuple[Loaded, ...]:
    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
    ddl.create_missing(connection)
    # A dbt model that is being built holds this table, so that the days it looked up stay those it reads.
    connection.execute(sql.SQL("lock table {} in share row exclusive mode").format(qualified("loads")))
    staged = [(table, *_stage(connection, table, source, day)) for table in TABLES.values()]
    loaded = [
        Loaded(table.name, read.version, rows, _forget(connection, table, day), read.fingerprint)
        for table, read, rows in staged
    ]
    for table in TABLES.values():
        connection.execute(sql.SQL("insert into {} select * from {}").format(qualified(table.name), _staging(table)))
    _note(connection, loaded, day)
    return tuple(loaded)


def _stage(connection: Connection, table: WarehouseTable, source: Source, day: date) -> tuple[Partition, int]:
    """Copy the day's rows into a table of their own; return what was read, and how many they are."""
    partition = source.read(table, day)
    if partition.version is None and table.required:
        message = f"the lake has no table {table.source}: run the jobs that write it first"
        raise MissingTableError(message)
    if partition.version is not None:
        found = {field.name: postgres_type(field.name, field.type) for field in partition.schema}
        ddl.align(connection, table, found)
    connection.execute(
        sql.SQL("create temporary table {} (like {}) on commit drop").format(_staging(table), qualified(table.name))
    )
    columns = sql.SQL(", ").join(map(sql.Identifier, partition.schema.names))
    rows = 0
    if partition.version is not None:
        copy_in = sql.SQL("copy {} ({}) from stdin (format csv)").format(_staging(table), columns)
        with connection.cursor() as cursor, cursor.copy(copy_in) as copy:
            for batch in partition.batches:
                copy.write(as_csv(batch))
                rows += batch.num_rows
    if table.required and not rows:
        message = f"table {table.source} has no rows of {day} in the lake: run the jobs of that day first"
        raise EmptyInputError(message)
    return partition, rows


def _forget(connection: Connection, table: WarehouseTable, day: date) -> int:
    """Delete the day; return how many rows it had."""
    delete = sql.SQL("delete from {} where {} = %s").format(qualified(table.name), sql.Identifier(table.day_column))
    return connection.execute(delete, (day,)).rowcount


def _note(connection: Connection, loaded: Sequence[Loaded], day: date) -> None:
    insert = sql.SQL(
        "insert into {} (table_name, load_date, lake_version, row_count, replaced_row_count, lake_fingerprint)"
        " values (%s, %s, %s, %s, %s, %s)"
    ).format(qualified("loads"))
    rows = [
        (done.table, day, done.lake_version, done.rows, done.replaced_rows, done.lake_fingerprint) for done in loaded
    ]
    with connection.cursor() as cursor:
        cursor.executemany(insert, rows)


def _staging(table: WarehouseTable) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"staged_{table.name}")
