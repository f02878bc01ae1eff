"""The tables of the lake: which topic each is fed from, its columns, and how decoded columns become its rows.

Column names are those of the Avro schemas in snake_case. Times are microseconds UTC, money is integer cents or
decimal(18,2), and every table is partitioned by one date: the UTC day of what its rows are about.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from millrace_common import avro
from millrace_common.records import Decoded
from millrace_lake import conversion
from millrace_lake.conversion import Problem
from millrace_schemas import schema_text

UTC_MICROSECONDS: Final = pa.timestamp("us", "UTC")
MONEY: Final = pa.decimal128(18, 2)

_ORDER_ITEM: Final = pa.struct(
    [
        pa.field("product_id", pa.string()),
        pa.field("quantity", pa.int32()),
        pa.field("price", MONEY),
        pa.field("category", pa.string()),
    ]
)
_TRANSACTION_COLUMNS: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("order_items", pa.list_(pa.field("element", _ORDER_ITEM)), nullable=False),
        pa.field("total_amount", MONEY, nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("payment_method", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("occurred_at", UTC_MICROSECONDS, nullable=False),
        pa.field("event_date", pa.date32(), nullable=False),
    ]
)

# A session is spread over several commits: its id repeats too little within one.
_OF_EVENTS: Final = frozenset({"event_id", "event_time", "received_at", "client_session_id"})

Convert = Callable[[pa.RecordBatch, pa.Schema], pa.RecordBatch]
Check = Callable[[pa.RecordBatch], Sequence[Problem]]


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table.

    Attributes:
        name: of the table, and of its folder in the lake.
        topic: what feeds it, in the live lane; the tables are the same for every lane.
        subject: the Avro schema of the topic's values.
        schema: the table's columns.
        partition_column: a date32 column of `schema`.
        unique_columns: columns whose values hardly repeat; a dictionary would only cost time.
        check: finds rows the columns cannot hold.
        convert: decoded columns to table rows; only sees rows without a problem.
    """

    name: str
    topic: str
    subject: str
    schema: pa.Schema
    partition_column: str
    unique_columns: frozenset[str]
    check: Check
    convert: Convert


@dataclass(frozen=True, slots=True)
class Converted:
    """The rows of a run, and which records could not become one.

    Attributes:
        rows: columns and types of the table, in log order.
        problems: (row in Decoded.columns, what is wrong), ascending.
    """

    rows: pa.RecordBatch
    problems: tuple[Problem, ...]


def tables(names: Sequence[str]) -> tuple[TableSpec, ...]:
    """Return the tables called `names`, in that order.

    Raises:
        KeyError: there is no such table.
    """
    return tuple(_BUILDERS[name]() for name in names)


def convert(spec: TableSpec, decoded: Decoded) -> Converted:
    """Turn decoded columns into rows of `spec`; nothing is rounded, cut or guessed but cents out of doubles."""
    columns = decoded.columns
    problems = tuple(spec.check(columns))
    if problems:
        bad = np.zeros(columns.num_rows, dtype=np.bool_)
        bad[[problem.row for problem in problems]] = True
        columns = columns.filter(pa.array(~bad))
    return Converted(spec.convert(columns, spec.schema), problems)


def _events() -> TableSpec:
    return _mirrored("events", "user-events.enriched", "event_date", unique=_OF_EVENTS)


def _late_events() -> TableSpec:
    return _mirrored("late_events", "late-events", "event_date", unique=_OF_EVENTS)


def _sessions() -> TableSpec:
    return _mirrored(
        "sessions",
        "session-metrics",
        "session_date",
        day_of="started_at",
        unique=frozenset({"session_id", "client_session_id", "started_at", "ended_at"}),
    )


def _dead_letters() -> TableSpec:
    return _mirrored(
        "dead_letters",
        "dead-letters",
        "occurred_date",
        day_of="occurred_at",
        unique=frozenset({"key", "value", "source_offset"}),
    )


def _transactions() -> TableSpec:
    return TableSpec(
        name="transactions",
        topic="transactions.valid",
        subject="transactions",
        schema=_TRANSACTION_COLUMNS,
        partition_column="event_date",
        unique_columns=frozenset({"transaction_id", "occurred_at"}),
        check=conversion.check_order,
        convert=conversion.order_rows,
    )


def _mirrored(
    name: str, topic: str, partition_column: str, *, unique: frozenset[str], day_of: str | None = None
) -> TableSpec:
    """Return a table that has the subject's own columns; `day_of` names the time whose day is put beside them."""
    decoded = avro.arrow_schema(avro.parse(schema_text(topic)))
    fields = [pa.field(field.name, _stored(field.type), nullable=field.nullable) for field in decoded]
    if day_of is not None:
        fields.append(pa.field(partition_column, pa.date32(), nullable=False))

    def rows(columns: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        return conversion.mirrored_rows(columns, schema, day_of)

    return TableSpec(
        name=name,
        topic=topic,
        subject=topic,
        schema=pa.schema(fields),
        partition_column=partition_column,
        unique_columns=unique,
        check=conversion.check_times,
        convert=rows,
    )


def _stored(decoded: pa.DataType) -> pa.DataType:
    return UTC_MICROSECONDS if pa.types.is_timestamp(decoded) else decoded


_BUILDERS: Final[Mapping[str, Callable[[], TableSpec]]] = {
    "events": _events,
    "transactions": _transactions,
    "sessions": _sessions,
    "late_events": _late_events,
    "dead_letters": _dead_letters,
}
NAMES: Final = tuple(_BUILDERS)
