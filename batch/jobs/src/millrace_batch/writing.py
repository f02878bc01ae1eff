"""Writing so that a second run changes nothing: not a row, and not the table's version either."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from typing import Final

from pyspark.sql import DataFrame, SparkSession

from millrace_batch import conflicts
from millrace_batch.lake import Lake
from millrace_batch.night import Outcome

_NEW_ROWS: Final = "millrace_new_rows"


def keep(kept: ExitStack, frame: DataFrame) -> DataFrame:
    """Have Spark compute `frame` once, until `kept` is left."""
    held = frame.persist()
    kept.callback(held.unpersist)
    return held


def replace_days(spark: SparkSession, lake: Lake, column: str, day: date, tables: Mapping[str, DataFrame]) -> Outcome:
    """Do `replace_day` for each of `tables`, in order; a second run finishes what a killed one left."""
    lines, figures = [], {}
    for table, frame in tables.items():
        with ExitStack() as kept:
            rows = keep(kept, frame)
            count = rows.count()
            written = replace_day(spark, lake, table, column, day, rows)
        lines.append(f"{table}: {count} rows of {day}" + ("" if written else ", as they were"))
        figures[f"{table}_rows"] = count
    return Outcome(tuple(lines), figures)


def replace_day(spark: SparkSession, lake: Lake, table: str, column: str, day: date, rows: DataFrame) -> bool:
    """Make `rows` the rows of `day` in `table`, in one commit; no commit if they are that already.

    Args:
        spark: the session.
        lake: where the table is, or will be: it is created with the columns of `rows`.
        table: one that only batch jobs write.
        column: its partition, a date.
        day: all of `rows` are of this day.
        rows: computed more than once unless they are persisted.

    Returns:
        Whether something was written.
    """
    if lake.has(spark, table):
        there = lake.days(spark, table, column, day, day)
        if there.columns == rows.columns and there.exceptAll(rows).isEmpty() and rows.exceptAll(there).isEmpty():
            return False
    writer = rows.write.format("delta").mode("overwrite").partitionBy(column)
    writer.option("replaceWhere", f"{column} = '{day}'").option("optimizeWrite", "true").save(lake.table_uri(table))
    return True


def insert_new(spark: SparkSession, lake: Lake, table: str, key: Sequence[str], rows: DataFrame, day: date) -> None:
    """Add those of `rows` to `table` whose key is not there; rows that are there stay as they are.

    Args:
        spark: the session.
        lake: where the table is.
        table: one that the stream writes too.
        key: columns; the first is the partition, a date.
        rows: all of `day`.
        day: so that only its partition is read, and only commits to it conflict.

    Raises:
        ConflictError: other writers committed to the day each time.
    """
    rows.createOrReplaceTempView(_NEW_ROWS)
    same = " AND ".join(f"t.{name} = n.{name}" for name in key)
    merge = (
        f"MERGE INTO {lake.sql_name(table)} t USING {_NEW_ROWS} n ON t.{key[0]} = DATE'{day}' AND {same} "  # noqa: S608  # names of ours
        "WHEN NOT MATCHED THEN INSERT *"
    )
    try:
        conflicts.retried(f"MERGE into {table}, {day}", lambda: spark.sql(merge))
    finally:
        spark.catalog.dropTempView(_NEW_ROWS)
