"""Tables as the stream leaves them: written by lake's own writer through delta-rs, with ledger rows and positions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from millrace_common.ledger import LedgerRow
from millrace_common.records import Counts, Partition
from millrace_lake.tables import MONEY, TableSpec, tables
from millrace_lake.writer import Store, TableWriter

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY: Final = NOON.date()
TOPIC_ID: Final = "topic-id"
APP_ID: Final = f"{TOPIC_ID}-0"


@dataclass
class StreamTable:
    """One table of a lake, appended to as lake does: the rows of a call are one commit.

    Attributes:
        lake_dir: the folder of all tables.
        name: of the table.
    """

    lake_dir: str
    name: str
    writer: TableWriter = field(init=False)
    rows_written: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        store = Store(self.lake_dir, {}, retry_seconds=30.0, wait=lambda seconds: None)
        self.writer = TableWriter(tables([self.name])[0], store)
        self.rows_written = self.writer.positions([APP_ID])[APP_ID] or 0

    @property
    def spec(self) -> TableSpec:
        return self.writer.spec

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Commit rows that name only the columns that matter; the rest is filled in (see `row`)."""
        filled = [row(self.spec, self.rows_written + number, given) for number, given in enumerate(rows)]
        begin, end = self.rows_written, self.rows_written + len(rows)
        ledger = LedgerRow(
            service="lake",
            instance="lake-0",
            partition=Partition(self.spec.topic, 0),
            topic_id=TOPIC_ID,
            first_offset=begin,
            next_offset=end,
            counts=Counts(read=len(rows), forwarded=len(rows)),
            emitted={},
            committed_at_ms=int(NOON.timestamp() * 1000),
        )
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        self.writer.append([pa.RecordBatch.from_pylist(filled, schema=self.spec.schema)], [ledger], now_ms)
        self.rows_written = end


def row(spec: TableSpec, number: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole row: `given` over values made from `number`; the partition column follows its time.

    Raises:
        KeyError: `given` names a column that the table has not.
    """
    unknown = set(given) - set(spec.schema.names)
    if unknown:
        message = f"table {spec.name} has no column {', '.join(sorted(unknown))}"
        raise KeyError(message)
    made = {column.name: _made(column, number) for column in spec.schema} | dict(given)
    day_of = {"events": "event_time", "late_events": "event_time", "sessions": "started_at"}
    time = made[day_of.get(spec.name, "occurred_at")]
    return made | {spec.partition_column: time.astimezone(UTC).date()}


def _made(column: pa.Field, number: int) -> Any:  # noqa: PLR0911  # one line a type
    kind = column.type
    if column.nullable and not pa.types.is_boolean(kind):
        return None
    if pa.types.is_timestamp(kind):
        return NOON + timedelta(seconds=number)
    if pa.types.is_date(kind):
        return date(1970, 1, 1)
    if pa.types.is_boolean(kind):
        return None if column.nullable else False
    if pa.types.is_integer(kind):
        return number
    if kind == MONEY:
        return Decimal(number)
    if pa.types.is_list(kind):
        return []
    if pa.types.is_map(kind):
        return {}
    if pa.types.is_floating(kind):
        return float(number)
    if pa.types.is_binary(kind):
        return b""
    return f"{column.name}-{number}"
