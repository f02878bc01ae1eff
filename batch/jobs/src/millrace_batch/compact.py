"""compact: few large files for the days that are over; old files and old log away.

The stream goes on appending to the same tables meanwhile. Each day of each table is a commit of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Final

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from millrace_batch.conflicts import retried
from millrace_batch.disk import stored
from millrace_batch.errors import MissingTableError
from millrace_batch.lake import Lake
from millrace_batch.live_files import files_by_day
from millrace_batch.night import Outcome

_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table lies on disk.

    Attributes:
        day_column: what it is partitioned by.
        order_by: what readers look for; rows near in it come to lie in one file, so that the others are skipped.
    """

    day_column: str
    order_by: str


# What the stream appends to, in many small files. What jobs write, a whole day at a time, needs no OPTIMIZE.
LAYOUTS: Final[Mapping[str, Layout]] = {
    "events": Layout("event_date", "client_session_id"),
    "late_events": Layout("event_date", "client_session_id"),
    "sessions": Layout("session_date", "client_session_id"),
    "transactions": Layout("event_date", "transaction_id"),
    "dead_letters": Layout("occurred_date", "source_topic"),
}


@dataclass(frozen=True, slots=True)
class Params:
    """What to compact.

    Attributes:
        day: the last day; it should be over, for the stream merges files of the running day itself.
        days: so many days up to `day` are looked at: late rows come to older days too.
        file_bytes: how large a file may become.
        small_bytes: a file below is small; a day needs one such file at most.
        spare_files: so many small files are left alone if they hold little ...
        spare_share: ... which is this share of the day's bytes. Some late rows are not worth writing a day again.
    """

    day: date
    days: int = 7
    file_bytes: int = 256 * _MEBIBYTE
    small_bytes: int = 64 * _MEBIBYTE
    spare_files: int = 8
    spare_share: float = 0.01


def is_compact(sizes_bytes: Sequence[int], params: Params) -> bool:
    """Say whether files of these sizes are as few as they need be, or near enough."""
    small = [size for size in sizes_bytes if size < params.small_bytes]
    hold_little = sum(small) <= params.spare_share * sum(sizes_bytes)
    return len(small) <= 1 or (len(small) <= params.spare_files and hold_little)


def run(spark: SparkSession, lake: Lake, params: Params) -> Outcome:
    """Compact the days, then remove files and log that are older than each table's own retention.

    A second run finds the days compact, and makes no new version of any table.

    Raises:
        MissingTableError: the lake has none of the stream's tables.
        ConflictError: other writers came first again and again; the days before are done.
    """
    present = [name for name in LAYOUTS if lake.has(spark, name)]
    if not present:
        message = f"there is no table to compact in {lake.uri}: has the stream written to this lake yet?"
        raise MissingTableError(message)
    # Delta's setting is one of the session; the jobs of a session run one after another.
    spark.conf.set("spark.databricks.delta.optimize.maxFileSize", str(params.file_bytes))
    lines = []
    figures = {"files_before": 0, "files_after": 0, "bytes_before": 0, "bytes_after": 0}
    for name in present:
        uri = lake.table_uri(name)
        before = stored(spark, uri)
        lines += _optimize(spark, lake, name, params)
        remove_old(spark, lake, name)
        after = stored(spark, uri)
        lines.append(
            f"{name}: {before.files:,} files, {before.size_bytes:,} bytes on disk, log and older versions too -> "
            f"{after.files:,} files, {after.size_bytes:,} bytes"
        )
        figures["files_before"] += before.files
        figures["files_after"] += after.files
        figures["bytes_before"] += before.size_bytes
        figures["bytes_after"] += after.size_bytes
    return Outcome(tuple(lines), figures)


def remove_old(spark: SparkSession, lake: Lake, name: str) -> None:
    """Remove files and log of a table that are older than its own retention."""
    spark.sql(f"VACUUM {lake.sql_name(name)}")
    # Spark cleans the log up too, but only beside a checkpoint of its own, and nearly all are the stream's.
    lake.delta_rs(name).cleanup_metadata()


def _optimize(spark: SparkSession, lake: Lake, name: str, params: Params) -> list[str]:
    layout = LAYOUTS[name]
    sizes = _sizes_by_day(lake.delta_rs(name), layout.day_column, params)
    due = [day for day in sorted(sizes) if not is_compact(sizes[day], params)]
    lines = [f"{name}: {len(sizes) - len(due)} of the {len(sizes)} days looked at were compact already"]
    for day in due:
        statement = (
            f"OPTIMIZE {lake.sql_name(name)} WHERE {layout.day_column} = DATE'{day}' ZORDER BY ({layout.order_by})"
        )
        retried(f"OPTIMIZE of {name}, {day}", partial(_execute, spark, statement))
        after = _sizes_by_day(lake.delta_rs(name), layout.day_column, params).get(day, [])
        lines.append(
            f"{name} {day}: {len(sizes[day]):,} files, {sum(sizes[day]):,} bytes -> "
            f"{len(after):,} files, {sum(after):,} bytes"
        )
    return lines


def _execute(spark: SparkSession, statement: str) -> None:
    spark.sql(statement).collect()


def _sizes_by_day(table: DeltaTable, day_column: str, params: Params) -> dict[date, list[int]]:
    first = params.day - timedelta(days=params.days - 1)
    return {
        day: [file.size_bytes for file in files]
        for day, files in files_by_day(table, day_column).items()
        if first <= day <= params.day
    }
