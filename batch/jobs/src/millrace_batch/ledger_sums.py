"""What the stream committed to a day of a table, by the commits in the table's log.

A commit of the stream has the ledger rows of the records it took, and adds files whose statistics count their rows by
day. Both have to be the same number; and the day has to have that many rows still, whoever wrote its files anew since.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch.lake import Lake
from millrace_batch.measures import total
from millrace_common.ledger import LEDGER_KEY

# Nothing of a day is committed earlier: ingest refuses what lies further in the future.
_EARLY: Final = timedelta(days=1)
COMMIT_FILES: Final = "?" * 20 + ".json"
"""Matches the log's commits, and no checkpoint or other file beside them."""
_ENTRIES: Final = (
    f"commitInfo struct<timestamp: bigint, `{LEDGER_KEY}`: array<struct<forwarded: bigint>>>, "
    "add struct<partitionValues: map<string, string>, dataChange: boolean, stats: string>"
)


@dataclass(frozen=True, slots=True)
class Committed:
    """What the commits say.

    Attributes:
        first_version: the oldest commit that the log still has.
        first_at_ms: when it was made, epoch milliseconds.
        day_rows: rows that commits of the stream added to the day.
        added_rows: all rows that these commits added, to this and other days.
        ledger_rows: what their ledger rows say they added.
        uncounted_files: files they added without saying how many rows there are.
    """

    first_version: int
    first_at_ms: int
    day_rows: int
    added_rows: int
    ledger_rows: int
    uncounted_files: int

    def is_whole_for(self, day: date) -> bool:
        """Say whether no commit to `day` can be among those that were cleaned away."""
        begins = datetime(day.year, day.month, day.day, tzinfo=UTC) - _EARLY
        return self.first_version == 0 or self.first_at_ms <= int(begins.timestamp() * 1000)


def committed(spark: SparkSession, lake: Lake, table: str, version: int, column: str, day: date) -> Committed:
    """Return what the stream committed to `day`, partition `column`, of a table up to `version`."""
    log = spark.read.schema(_ENTRIES).option("pathGlobFilter", COMMIT_FILES)
    entries = log.json(f"{lake.table_uri(table)}/_delta_log").withColumn("file", f.col("_metadata.file_name"))
    (row,) = committed_rows(entries, version, column, day).collect()
    return Committed(**row.asDict())


def committed_rows(entries: DataFrame, version: int, column: str, day: date) -> DataFrame:
    """Return the one row that is a `Committed`, of the lines of a log's files."""
    rows = f.get_json_object("add.stats", "$.numRecords").cast("long")
    is_added = f.col("add.dataChange")
    is_of_day = is_added & (f.col("add.partitionValues")[column] == f.lit(str(day)))
    forwarded = f.expr(f"aggregate(commitInfo.`{LEDGER_KEY}`, 0L, (sum, one) -> sum + one.forwarded)")
    commits = (
        entries.withColumn("version", f.substring("file", 1, 20).cast("long"))
        .filter(f.col("version") <= version)
        .groupBy("version")
        .agg(
            f.max("commitInfo.timestamp").alias("at_ms"),
            f.max(forwarded).alias("ledger_rows"),
            total(f.when(is_added, rows)).alias("added_rows"),
            total(f.when(is_of_day, rows)).alias("day_rows"),
            f.count_if(is_added & rows.isNull()).alias("uncounted_files"),
            f.count_if(is_of_day).alias("day_files"),
        )
    )
    # Other commits with rows of the day are those of batch jobs, that write anew what is there.
    is_streams = f.col("ledger_rows").isNotNull() & (f.col("day_files") > 0)
    sums = (
        total(f.when(is_streams, f.col(name))).alias(name)
        for name in ("day_rows", "added_rows", "ledger_rows", "uncounted_files")
    )
    return commits.agg(
        f.min("version").alias("first_version"), f.min_by("at_ms", "version").alias("first_at_ms"), *sums
    )
