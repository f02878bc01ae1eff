"""The job lake: 50,000 records at a time become rows of a Delta table; then the offsets are committed."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from deltalake import write_deltalake

from plain_loop import Stopping, decode, new_consumer, parsed, records

_ROWS: Final = 50_000
_EPOCH: Final = date(1970, 1, 1)
_UTC: Final = pa.timestamp("us", "UTC")
_ARROW: Final = {"int": pa.date32(), "string": pa.string(), "long": pa.int64(), "boolean": pa.bool_()}
_TIMES: Final = ("event_time", "received_at")


def column_type(field: dict[str, Any]) -> pa.DataType:
    """Return the type of a field's column."""
    if field["name"] in _TIMES:
        return _UTC
    kind = field["type"]
    if isinstance(kind, list):
        kind = next(part for part in kind if part != "null")
    if isinstance(kind, dict):
        return pa.string() if kind["type"] == "enum" else pa.map_(pa.string(), pa.string())
    return _ARROW[kind]


def schema_of(reads: dict[str, Any]) -> pa.Schema:
    """Return the table's columns: those of the Avro schema `reads`."""
    return pa.schema([pa.field(field["name"], column_type(field)) for field in reads["fields"]])


def row_of(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as a table's row."""
    for name in _TIMES:
        event[name] = datetime.fromtimestamp(event[name] / 1000, UTC)
    event["event_date"] = _EPOCH + timedelta(days=event["event_date"])
    event["properties"] = list(event["properties"].items())
    return event


def main() -> None:
    """Append rows until told to stop."""
    stopping = Stopping()
    reads = parsed("BENCH_INPUT_SCHEMA")
    schema = schema_of(reads)
    table = Path(os.environ["BENCH_STATE_DIR"]) / "lake" / "events"
    consumer = new_consumer(os.environ["BENCH_GROUP"])
    consumer.subscribe([os.environ["BENCH_INPUT"]])
    rows: list[dict[str, Any]] = []
    while not stopping.now:
        rows += (row_of(decode(reads, message.value())) for message in records(consumer.consume(1_000, 0.1)))
        if len(rows) >= _ROWS:
            written = pa.Table.from_pylist(rows, schema=schema)
            write_deltalake(table, written, mode="append", partition_by=["event_date"])
            consumer.commit(asynchronous=False)
            rows = []
    consumer.close()


if __name__ == "__main__":
    main()
