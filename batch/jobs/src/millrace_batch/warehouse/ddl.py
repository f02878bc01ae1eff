"""Schema `lake` of the warehouse: made where it is missing, given new columns, and never changed under a column."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from millrace_batch.warehouse.errors import TableChangedError
from millrace_batch.warehouse.tables import SCHEMA, TABLES, WarehouseTable

Connection = psycopg.Connection[tuple[object, ...]]

_LOADS = """
    create table if not exists {} (
        load_id bigint generated always as identity primary key,
        table_name text not null,
        load_date date not null,
        lake_version bigint,
        lake_fingerprint text,
        row_count bigint not null,
        replaced_row_count bigint not null,
        loaded_at timestamptz not null default now()
    )
"""


def qualified(name: str) -> sql.Identifier:
    """Return a table of schema `lake` as SQL names it."""
    return sql.Identifier(SCHEMA, name)


def create_missing(connection: Connection) -> None:
    """Create the schema, its tables and their indexes, where they are missing."""
    connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(SCHEMA)))
    connection.execute(sql.SQL(_LOADS).format(qualified("loads")))
    # Looked up first: the statement locks readers out until the load is done, also where it changes nothing.
    if "lake_fingerprint" not in columns_of(connection, "loads"):
        connection.execute(sql.SQL("alter table {} add column lake_fingerprint text").format(qualified("loads")))
    _index(connection, "loads", ("table_name", "load_date"))
    for table in TABLES.values():
        columns = sql.SQL(", ").join(_column(name, kind) for name, kind in table.columns.items())
        connection.execute(sql.SQL("create table if not exists {} ({})").format(qualified(table.name), columns))
        _index(connection, table.name, (table.day_column, *table.key))
        if table.key:
            _index(connection, table.name, table.key)


def align(connection: Connection, table: WarehouseTable, found: Mapping[str, str]) -> None:
    """Add the columns of `found` (name to type) that the warehouse's table lacks.

    Raises:
        TableChangedError: a column has another type than in the warehouse, or is missing in `found`.
    """
    held = columns_of(connection, table.name)
    for name, kind in held.items():
        if name not in found:
            message = (
                f"column {name} of table {table.source} is gone from the lake; the warehouse has it. If that is meant, "
                f"drop it: alter table {SCHEMA}.{table.name} drop column {name}"
            )
            raise TableChangedError(message)
        if found[name] != kind:
            message = (
                f"column {name} of table {table.source} is {found[name]} in the lake and {kind} in the warehouse: "
                "nothing was loaded. Mend the writer, or change the column in the warehouse first"
            )
            raise TableChangedError(message)
    for name in found.keys() - held.keys():
        added = sql.SQL("alter table {} add column {}").format(qualified(table.name), _column(name, found[name]))
        connection.execute(added)


def columns_of(connection: Connection, table: str) -> dict[str, str]:
    """Return a table's columns, each with its type as `postgres_type` spells it; none: there is no such table."""
    rows = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
        (f"{SCHEMA}.{table}",),
    )
    short = {"timestamp with time zone": "timestamptz"}
    return {str(name): short.get(str(kind), str(kind)) for name, kind in rows}


def _column(name: str, kind: str) -> sql.Composed:
    # Types are of `postgres_type` or of the declared tables: a closed list.
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))


def _index(connection: Connection, table: str, columns: tuple[str, ...]) -> None:
    name = sql.Identifier(f"{table}__{'__'.join(columns)}")
    over = sql.SQL(", ").join(map(sql.Identifier, columns))
    connection.execute(sql.SQL("create index if not exists {} on {} ({})").format(name, qualified(table), over))
