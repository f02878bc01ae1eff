"""Decoded Avro columns to table columns: pure, exact, without a Python object a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace_common.columns import entries, list_rows

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

STAGE: Final = "lake"
# Years 1 to 9999: what Spark, polars and Postgres can all read.
FIRST_MS: Final = -62_135_596_800_000
LAST_MS: Final = 253_402_300_799_999
DAY_MS: Final = 86_400_000
# A double and its product by 100 are each off by up to 2^-53 of their size: below 2^51 cents, by less than half a cent.
MAX_CENTS: Final = 2**50


class Reason(StrEnum):
    """Why a readable record could not become a row: the closed list of stage `lake`."""

    OUT_OF_RANGE = "out_of_range"
    SCHEMA_MISMATCH = "schema_mismatch"


@dataclass(frozen=True, slots=True)
class Problem:
    """Row `row` of the decoded columns does not fit the table."""

    row: int
    reason: Reason
    detail: str


def check_times(columns: pa.RecordBatch) -> Sequence[Problem]:
    """Return the rows with a time or date outside the years 1 to 9999."""
    problems: dict[int, Problem] = {}
    for field, column in zip(columns.schema, columns.columns, strict=True):
        if pa.types.is_timestamp(field.type):
            _collect(problems, field.name, "ms", column.view(pa.int64()), FIRST_MS, LAST_MS)
        elif pa.types.is_date32(field.type):
            _collect(problems, field.name, "days", column.view(pa.int32()), FIRST_MS // DAY_MS, LAST_MS // DAY_MS)
    return [problems[row] for row in sorted(problems)]


def mirrored_rows(columns: pa.RecordBatch, schema: pa.Schema, day_of: str | None) -> pa.RecordBatch:
    """Return `columns` as `schema` wants them: times in UTC microseconds, and the UTC day of `day_of` behind them."""
    arrays = [
        column.cast(field.type) if pa.types.is_timestamp(field.type) else column
        for column, field in zip(columns.columns, schema, strict=False)
    ]
    if day_of is not None:
        arrays.append(days(_values(columns.column(day_of).view(pa.int64()))))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def check_order(columns: pa.RecordBatch) -> Sequence[Problem]:
    """Return the orders with a time outside the years 1 to 9999 or an amount whose cents a double cannot tell."""
    problems: dict[int, Problem] = {}
    _collect(problems, "timestamp", "ms", columns.column("timestamp"), FIRST_MS, LAST_MS)
    total = _values(columns.column("totalAmount"))
    items = columns.column("orderItems")
    price = _values(entries(items, items.values).field("price"))
    for name, amounts, rows in (
        ("totalAmount", total, np.arange(len(total), dtype=np.int64)),
        ("price", price, list_rows(items)),
    ):
        for entry in np.flatnonzero(~_is_money(amounts)):
            row = int(rows[entry])
            detail = f"{name}: {amounts[entry]} is no amount of at most 2^50 cents"
            problems.setdefault(row, Problem(row, Reason.OUT_OF_RANGE, detail))
    return [problems[row] for row in sorted(problems)]


def order_rows(columns: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return orders as rows: snake_case names, money to the nearest cent, times in UTC."""
    items = columns.column("orderItems")
    item_type = schema.field("order_items").type
    item = entries(items, items.values)
    of_item = pa.StructArray.from_arrays(
        [item.field("productId"), item.field("quantity"), money(_values(item.field("price"))), item.field("category")],
        fields=list(item_type.value_type),
    )
    bounds = pc.subtract(items.offsets, items.offsets[0]) if len(items) else pa.array([0], pa.int32())
    event_ms = _values(columns.column("timestamp"))
    arrays = [
        columns.column("transactionId"),
        columns.column("userId"),
        pa.ListArray.from_arrays(bounds, of_item, type=item_type),
        money(_values(columns.column("totalAmount"))),
        columns.column("currency"),
        columns.column("paymentMethod"),
        columns.column("status"),
        pa.array(event_ms * 1_000).view(schema.field("occurred_at").type),
        days(event_ms),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def money(amounts: Float64s) -> pa.Array:
    """Return doubles as decimal(18,2), to the nearest cent (a tie to the even one).

    Avro carries prices as doubles, and 19.99 is none: the cent is what the sender meant.
    """
    cents = np.rint(amounts * 100).astype(np.int64)
    # A decimal128 is a little-endian 128-bit integer: the cents, and their sign in the upper half.
    words = np.empty((len(cents), 2), dtype="<i8")
    words[:, 0] = cents
    words[:, 1] = cents >> 63
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(words)])


def days(epoch_ms: Int64s) -> pa.Array:
    """Return the UTC day of each epoch millisecond as date32."""
    return pa.array(np.floor_divide(epoch_ms, DAY_MS).astype(np.int32)).view(pa.date32())


def _is_money(amounts: Float64s) -> Mask:
    with np.errstate(invalid="ignore", over="ignore"):
        fits: Mask = np.abs(amounts * 100) <= MAX_CENTS
    return fits


def _collect(problems: dict[int, Problem], name: str, unit: str, column: pa.Array, first: int, last: int) -> None:
    bounds = pc.min_max(column)
    if bounds["min"].as_py() is None or (bounds["min"].as_py() >= first and bounds["max"].as_py() <= last):
        return
    outside = pc.fill_null(pc.or_(pc.less(column, first), pc.greater(column, last)), fill_value=False)
    for row in np.flatnonzero(np.asarray(outside)):
        detail = f"{name}: {column[int(row)].as_py()} {unit} since 1970 is outside the years 1 to 9999"
        problems.setdefault(int(row), Problem(int(row), Reason.OUT_OF_RANGE, detail))


def _values(column: pa.Array) -> "npt.NDArray[Any]":
    """Return a column without nulls as numpy sees it, uncopied."""
    return np.asarray(column)
