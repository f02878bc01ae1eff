"""Whether the warehouse is what the lake is, and the marts what the warehouse is: told from what each of them has."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from psycopg import sql

from millrace_batch.warehouse.connecting import connected
from millrace_batch.warehouse.ddl import Connection, columns_of, qualified
from millrace_batch.warehouse.lake import DeltaLake
from millrace_batch.warehouse.tables import TABLES

_NAME: Final = "warehouse_freshness"
_LOST: Final = "Nothing was changed: ask again."
_BUILDS: Final = """
    create table if not exists {} (
        build_id bigint generated always as identity primary key,
        through_load_id bigint not null,
        built_at timestamptz not null default now()
    )
"""


def outdated(dsn: str, lake: DeltaLake, days: Sequence[date]) -> list[date]:
    """Return those of `days` that a load would find otherwise than the newest one did, or the first.

    A day that lacks a table which each load needs is none of them.

    Raises:
        WarehouseUnavailableError: Postgres does not answer.
    """
    now = {table.name: lake.fingerprints(table, days) for table in TABLES.values()}
    with connected(dsn, _NAME, _LOST) as connection:
        loaded = _loaded(connection, days)
    return [
        day
        for day in days
        if all(now[table.name][day] for table in TABLES.values() if table.required)
        and any((name, day) not in loaded or loaded[name, day] != now[name][day] for name in TABLES)
    ]


def due_build(dsn: str) -> int | None:
    """Return the newest load if the marts were not built since, else None: then there is nothing to build.

    Raises:
        WarehouseUnavailableError: Postgres does not answer.
    """
    with connected(dsn, _NAME, _LOST) as connection:
        newest = _greatest(connection, "loads", "load_id")
        built = _greatest(connection, "builds", "through_load_id")
    return newest if newest > built else None


def record_build(dsn: str, through_load_id: int) -> None:
    """Record that all marts were built, and hold, from the loads up to this one.

    Raises:
        WarehouseUnavailableError: Postgres does not answer; building again changes nothing.
    """
    with connected(dsn, _NAME, "The marts are built, which is not recorded: they will be built again.") as connection:
        connection.execute(sql.SQL(_BUILDS).format(qualified("builds")))
        connection.execute(
            sql.SQL("insert into {} (through_load_id) values (%s)").format(qualified("builds")), (through_load_id,)
        )


def _loaded(connection: Connection, days: Sequence[date]) -> dict[tuple[str, date], str | None]:
    # A warehouse of before the fingerprints has none: all its days are loaded once more.
    if "lake_fingerprint" not in columns_of(connection, "loads"):
        return {}
    rows = connection.execute(
        sql.SQL(
            "select table_name, load_date, lake_fingerprint from {} where load_date = any(%s) order by load_id"
        ).format(qualified("loads")),
        (list(days),),
    )
    found: dict[tuple[str, date], str | None] = {}
    for name, day, fingerprint in rows:
        assert isinstance(name, str) and isinstance(day, date)  # noqa: S101, PT018  # as the table is declared
        found[name, day] = None if fingerprint is None else str(fingerprint)
    return found


def _greatest(connection: Connection, table: str, column: str) -> int:
    """Return the greatest number in a column; 0: there is none."""
    if not columns_of(connection, table):
        return 0
    found = connection.execute(
        sql.SQL("select coalesce(max({}), 0) from {}").format(sql.Identifier(column), qualified(table))
    ).fetchone()
    return 0 if found is None else int(str(found[0]))
