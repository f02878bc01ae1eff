"""How long an event takes from the broker's first append to a row that can be read in the lake."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from millrace_common.ledger import LedgerRow
from millrace_common.records import Partition
from millrace_common.registry import SchemaRegistry
from millrace_local.reading import Library, decoded
from millrace_schemas import in_lane


def seconds_to_lake(library: Library, rows: Sequence[LedgerRow], partitions: int) -> pl.Series:
    """Return, for each event in the lake, the seconds from its raw record's append to the Delta commit that holds it.

    Both times are of this machine's clock. A duplicate counts from its first record.
    """
    registry = SchemaRegistry({"url": library.registry_url})
    raw, enriched = in_lane("user-events", library.lane), in_lane("user-events.enriched", library.lane)
    appended = [pl.DataFrame({"event_id": [], "appended_ms": []}, {"event_id": pl.String, "appended_ms": pl.Int64})]
    for run in decoded(library, registry, "user-events", [Partition(raw, index) for index in range(partitions)]):
        stamps = [run.polled.records[row].timestamp()[1] for row in run.rows.tolist()]
        ids = pl.from_arrow(run.columns.column(0))
        appended.append(pl.DataFrame({"event_id": ids, "appended_ms": pl.Series(stamps, dtype=pl.Int64)}))
    committed = [pl.DataFrame({"event_id": [], "committed_ms": []}, {"event_id": pl.String, "committed_ms": pl.Int64})]
    for run in decoded(
        library, registry, "user-events.enriched", [Partition(enriched, index) for index in range(partitions)]
    ):
        offsets = np.array([run.polled.records[row].offset() for row in run.rows.tolist()], dtype=np.int64)
        times = commit_times(rows, run.polled.span.partition, offsets)
        ids = pl.from_arrow(run.columns.column(0))
        committed.append(pl.DataFrame({"event_id": ids, "committed_ms": pl.Series(times, dtype=pl.Int64)}))
    first = pl.concat(appended).group_by("event_id").agg(pl.col("appended_ms").min())
    both = pl.concat(committed).filter(pl.col("committed_ms") > 0).join(first, on="event_id")
    return both.select(((pl.col("committed_ms") - pl.col("appended_ms")) / 1000).alias("seconds"))["seconds"]


def commit_times(
    rows: Sequence[LedgerRow], partition: Partition, offsets: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return the commit time of each offset, epoch ms; 0 where no row covers it."""
    mine = sorted(
        (row.next_offset, row.committed_at_ms) for row in rows if row.service == "lake" and row.partition == partition
    )
    ends = np.array([end for end, _ in mine], dtype=np.int64)
    times = np.array([*(time for _, time in mine), 0], dtype=np.int64)
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = times[np.searchsorted(ends, offsets, side="right")]
    return found
