"""Real local Delta tables, and rows to put into them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lake_lives import P0, P1, Broker, Process, assign, ids, start
from millrace_common.ledger import LedgerRow
from millrace_common.records import Counts, Partition
from millrace_lake.tables import TableSpec, tables
from millrace_lake.writer import Store, TableWriter

TOPIC_ID = "topic-id"
DAY_MS = 86_400_000
START_MS = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path), {}, retry_seconds=1.0, wait=lambda seconds: None)


@pytest.fixture
def sessions() -> TableSpec:
    return tables(["sessions"])[0]


@pytest.fixture
def session_rows(sessions: TableSpec) -> Callable[..., pa.RecordBatch]:
    """Return rows of `sessions` with the given ids, one a second from START_MS + `days` days on."""

    def make(ids: Sequence[str], days: int = 0) -> pa.RecordBatch:
        def value(field: pa.Field, number: int) -> Any:
            started = datetime.fromtimestamp((START_MS + days * DAY_MS) / 1000 + number, tz=UTC)
            if field.name == "session_id":
                return ids[number]
            if field.name == "closed_by":
                return "gap"
            if field.name == "session_date":
                return started.date()
            if pa.types.is_timestamp(field.type):
                return started
            if pa.types.is_boolean(field.type):
                return False
            return number if pa.types.is_integer(field.type) else "x"

        rows = [{field.name: value(field, number) for field in sessions.schema} for number in range(len(ids))]
        return pa.RecordBatch.from_pylist(rows, schema=sessions.schema)

    return make


@pytest.fixture
def ledger_row() -> Callable[..., LedgerRow]:
    """Return the ledger row of a range all of whose records were forwarded."""

    def make(first: int, end: int, partition: int = 0) -> LedgerRow:
        return LedgerRow(
            service="lake",
            instance="lake-0",
            partition=Partition("session-metrics", partition),
            topic_id=TOPIC_ID,
            first_offset=first,
            next_offset=end,
            counts=Counts(read=end - first, forwarded=end - first),
            emitted={},
            committed_at_ms=START_MS,
        )

    return make


@pytest.fixture
def ids_in() -> Callable[[TableWriter], list[str]]:
    """Return the session ids of a table as an independent reader sees them."""
    return ids


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def process(sessions: TableSpec, store: Store, broker: Broker) -> Process:
    """Return a process that has both partitions."""
    process = start(sessions, store, broker)
    assign(process, P0, P1)
    return process
