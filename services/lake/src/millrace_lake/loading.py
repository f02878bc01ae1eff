"""From runs of raw records to rows of tables: the steps between source and sink. Pure but for the schema registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from millrace_common.codec import Decoder
from millrace_common.records import Control, Counts, Decoded, Polled, Reject, SourceItem, Span
from millrace_lake.conversion import STAGE, Problem, Reason
from millrace_lake.dead_letters import DeadRecord
from millrace_lake.tables import TableSpec, convert


@dataclass(frozen=True, slots=True)
class Loaded:
    """One run of records as rows of its table.

    Attributes:
        span: what was read.
        rows: the table's columns, in log order.
        dead: the records that did not become rows, in log order.
        oldest_ms: timestamp of the run's first record, epoch ms.
    """

    span: Span
    rows: pa.RecordBatch
    dead: tuple[DeadRecord, ...]
    oldest_ms: int

    @property
    def counts(self) -> Counts:
        """Where the records went."""
        return Counts(read=self.rows.num_rows + len(self.dead), forwarded=self.rows.num_rows, dead=len(self.dead))


DecodedItem = Control | Decoded
LoadedItem = Control | Loaded


class Target(Protocol):
    """What loading has to know of a table."""

    @property
    def spec(self) -> TableSpec:
        """The table's columns."""

    @property
    def conflict(self) -> str | None:
        """Why rows cannot go into the table as it is now; None if they can."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What becomes of one topic's records."""

    decoder: Decoder
    target: Target


class Loader:
    """The steps of the flow, by topic."""

    def __init__(self, feeds: Mapping[str, Feed]) -> None:
        """Load each topic of `feeds`."""
        self._feeds = feeds

    def decode(self, item: SourceItem) -> DecodedItem:
        """Decode a run; anything else passes."""
        return self._feeds[item.span.partition.topic].decoder.decode(item) if isinstance(item, Polled) else item

    def convert(self, item: DecodedItem) -> LoadedItem:
        """Turn a decoded run into rows; anything else passes."""
        return load(item, self._feeds[item.polled.span.partition.topic].target) if isinstance(item, Decoded) else item


def load(decoded: Decoded, target: Target) -> Loaded:
    """Turn `decoded` into rows of `target`; with a conflict between their schemas every record is dead."""
    records, partition = decoded.polled.records, decoded.polled.span.partition
    if target.conflict is None:
        converted = convert(target.spec, decoded)
        rows, problems = converted.rows, converted.problems
    else:
        rows = pa.RecordBatch.from_pylist([], schema=target.spec.schema)
        problems = tuple(
            Problem(row, Reason.SCHEMA_MISMATCH, target.conflict) for row in range(decoded.columns.num_rows)
        )
    rejects = list(decoded.rejects)
    rejects += (Reject(int(decoded.rows[p.row]), STAGE, p.reason, p.detail) for p in problems)
    rejects.sort(key=lambda reject: reject.row)
    dead = tuple(DeadRecord(partition, records[reject.row], reject) for reject in rejects)
    return Loaded(decoded.polled.span, rows, dead, records[0].timestamp()[1])
