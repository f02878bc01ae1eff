"""Files in a table's folder that no commit knows: of commits that never were, or that are just being made."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch.disk import Stored
from millrace_batch.lake import Lake
from millrace_batch.ledger_sums import COMMIT_FILES

_RETENTION: Final = "delta.deletedFileRetentionDuration"
_DEFAULT_RETENTION: Final = "interval 1 week"  # Delta's own
_ENTRIES: Final = "add struct<path: string>, remove struct<path: string>"


@dataclass(frozen=True, slots=True)
class Orphans:
    """What was found.

    Attributes:
        young: within the table's retention; a writer may be about to commit them, and VACUUM leaves them alone.
        old: past it; the next VACUUM removes them.
    """

    young: Stored
    old: Stored


def find_orphans(spark: SparkSession, lake: Lake, table: str) -> Orphans:
    """Return the data files that are neither live nor named by a commit that the log still has.

    The log is kept for longer than files that were removed, so a file that a version within the retention has is known.
    """
    # Files first, the log behind them: what is committed in between is known.
    files = _files(spark, lake.table_uri(table))
    held = lake.delta_rs(table)
    retention = held.metadata().configuration.get(_RETENTION) or _DEFAULT_RETENTION
    live = pa.table(held.get_add_actions(flatten=True)).select(["path"]).to_pylist()
    known = spark.createDataFrame([(row["path"],) for row in live], "path string").union(_named(spark, lake, table))
    (row,) = (
        # By name alone: every file has one of its own, and the log writes paths as it sees fit.
        files.join(known.select(_name("path")).distinct(), "name", "left_anti")
        .withColumn("is_old", f.expr(f"modificationTime < current_timestamp() - {retention}"))
        .agg(
            f.count_if("is_old").alias("old"),
            f.coalesce(f.sum(f.when(f.col("is_old"), f.col("length"))), f.lit(0)).alias("old_bytes"),
            f.count("*").alias("all"),
            f.coalesce(f.sum("length"), f.lit(0)).alias("all_bytes"),
        )
        .collect()
    )
    old = Stored(row["old"], row["old_bytes"])
    return Orphans(Stored(row["all"] - old.files, row["all_bytes"] - old.size_bytes), old)


def _files(spark: SparkSession, uri: str) -> DataFrame:
    # Only names, sizes and times are asked for: no file is opened. What begins with _ or . is left out, as by VACUUM.
    listed = spark.read.format("binaryFile").option("recursiveFileLookup", "true").option("pathGlobFilter", "*.parquet")
    return listed.load(uri).select(_name("path"), "modificationTime", "length")


def _named(spark: SparkSession, lake: Lake, table: str) -> DataFrame:
    log = spark.read.schema(_ENTRIES).option("pathGlobFilter", COMMIT_FILES)
    entries = log.json(f"{lake.table_uri(table)}/_delta_log")
    return entries.select(f.coalesce("add.path", "remove.path").alias("path")).filter("path is not null")


def _name(path: str) -> Column:
    return f.substring_index(path, "/", -1).alias("name")
