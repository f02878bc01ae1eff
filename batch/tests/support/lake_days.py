"""Days of a small lake, written by delta-rs, as the stream and the nightly jobs leave them."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from deltalake import write_deltalake

from millrace_batch.warehouse.tables import TABLES, WarehouseTable
from millrace_lake.tables import NAMES, tables

Row = dict[str, Any]

_STREAM: Final = {spec.name: spec for spec in tables(NAMES)}
_TYPES: Final = {
    "text": pa.string(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
}


def schema_of(table: WarehouseTable) -> pa.Schema:
    """Return the schema that the table has in the lake."""
    if table.source in _STREAM:
        return _STREAM[table.source].schema
    return pa.schema([(name, _TYPES[kind]) for name, kind in table.columns.items()])


def write_day(lake: Path, name: str, day: date, rows: Sequence[Row]) -> None:
    """Replace a day of a table of the lake, made if it is missing; `name` is what the warehouse calls it."""
    table = TABLES[name]
    schema = schema_of(table)
    filled = [{field.name: row.get(field.name) for field in schema} | {table.day_column: day} for row in rows]
    known = (lake / table.source).exists()
    write_deltalake(
        str(lake / table.source),
        pa.Table.from_pylist(filled, schema=schema),
        mode="overwrite",
        predicate=f"{table.day_column} = '{day.isoformat()}'" if known else None,
        partition_by=[table.day_column],
    )
