"""Arrow's columns as Postgres has them: their types, and their values as CSV, to the last digit."""

import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow import csv

from millrace_batch.warehouse.errors import TableChangedError


def postgres_type(name: str, kind: pa.DataType) -> str:
    """Return the one Postgres type that holds every value of `kind`; nested ones are jsonb.

    Raises:
        TableChangedError: there is none, or it would have to be guessed (a time without a zone).
    """
    plain = {
        pa.types.is_boolean: "boolean",
        pa.types.is_date32: "date",
        pa.types.is_signed_integer: "bigint",
        pa.types.is_floating: "double precision",
        _is_text: "text",
        pa.types.is_nested: "jsonb",
    }
    for matches, found in plain.items():
        if matches(kind):
            return found
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind) and kind.tz == "UTC":
        return "timestamptz"
    message = f"column {name} of the lake is {kind}: the warehouse has no type for it"
    raise TableChangedError(message)


def as_csv(batch: pa.RecordBatch) -> bytes:
    """Return the rows as CSV for COPY: null is nothing, an empty string is two quotes."""
    texts = [_as_text(column) for column in batch.columns]
    written = io.BytesIO()
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    csv.write_csv(pa.Table.from_arrays(texts, names=batch.schema.names), written, options)
    return written.getvalue()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_nested(kind):
        # Amounts inside are strings: most readers of JSON make a double of a number.
        rows = (None if row is None else json.dumps(row, default=_exactly) for row in column.to_pylist())
        return pa.array(rows, pa.string())
    if pa.types.is_decimal(kind) or pa.types.is_timestamp(kind) or _is_text(kind):
        return column.cast(pa.string())
    return column


def _exactly(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    return str(value.isoformat())
