"""The lake as the load sees it: a day of a table at one version, in batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError

from millrace_batch.lake import Lake
from millrace_batch.live_files import files_by_day, fingerprint
from millrace_batch.warehouse.tables import WarehouseTable


@dataclass(frozen=True, slots=True)
class Partition:
    """A day of a table.

    Attributes:
        version: of the lake's table; None: the lake has no such table, and there are no rows.
        schema: of the rows.
        batches: the rows, some thousand at a time; can be read once.
        fingerprint: of the files that hold them; None: there are none.
    """

    version: int | None
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    fingerprint: str | None


class Source(Protocol):
    """Where days are read from."""

    def read(self, table: WarehouseTable, day: date) -> Partition:
        """Return the rows of `day`, as of the table's newest version."""
        ...


@dataclass(frozen=True, slots=True)
class DeltaLake:
    """The lake itself.

    Attributes:
        lake: the tables, and how delta-rs reaches them.
    """

    lake: Lake

    def read(self, table: WarehouseTable, day: date) -> Partition:
        """Return the rows of `day`, as of the table's newest version; only files of that day are opened."""
        handle = self._open(table)
        if handle is None:
            return Partition(None, pa.schema([]), iter(()), None)
        grouped = f" group by {table.day_column}" if table.select else ""
        reader = pa.RecordBatchReader.from_stream(
            QueryBuilder()
            .register("source", handle)
            .execute(
                f"select {table.select or '*'} from source "  # noqa: S608  # names are ours, the day is a date
                f"where {table.day_column} = date '{day.isoformat()}'{grouped}"
            )
        )
        files = _fingerprints(handle, table, [day])[day]
        return Partition(handle.version(), reader.schema, iter(reader), files)

    def fingerprints(self, table: WarehouseTable, days: Sequence[date]) -> Mapping[date, str | None]:
        """Return the fingerprint of each of `days` as `read` would give it now, without reading data."""
        handle = self._open(table)
        return dict.fromkeys(days) if handle is None else _fingerprints(handle, table, days)

    def _open(self, table: WarehouseTable) -> DeltaTable | None:
        try:
            return self.lake.delta_rs(table.source)
        except TableNotFoundError:
            return None


def _fingerprints(handle: DeltaTable, table: WarehouseTable, days: Sequence[date]) -> Mapping[date, str | None]:
    files = files_by_day(handle, table.day_column)
    return {day: fingerprint(files[day]) if day in files else None for day in days}
