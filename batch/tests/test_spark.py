from collections.abc import Callable
from datetime import timedelta

import pytest
from pyspark.sql import SparkSession

from millrace_batch.errors import EmptyInputError, LogStoreError, MissingTableError
from millrace_batch.lake import Lake
from millrace_batch.spark import Jars, session
from millrace_lake.tables import NAMES
from stream_tables import DAY, NOON, StreamTable

pytestmark = pytest.mark.spark

Open = Callable[[str], StreamTable]


@pytest.mark.parametrize("name", NAMES)
def test_spark_reads_what_the_stream_wrote(spark: SparkSession, lake: Lake, stream_table: Open, name: str) -> None:
    table = stream_table(name)
    table.append([{}, {}])
    table.append([{}])
    read = lake.days_with_rows(spark, name, table.spec.partition_column, DAY, DAY)
    assert read.count() == 3
    assert read.columns == table.spec.schema.names


def test_days_are_those_of_utc(spark: SparkSession, lake: Lake, stream_table: Open) -> None:
    stream_table("events").append([{"event_time": NOON + timedelta(hours=11, minutes=59)}])
    (row,) = lake.read(spark, "events").selectExpr("cast(event_time as date) = event_date as same").collect()
    assert row["same"]


def test_a_table_that_is_not_there_is_named(spark: SparkSession, lake: Lake) -> None:
    with pytest.raises(MissingTableError, match="no table events in"):
        lake.read(spark, "events")


def test_a_day_without_rows_is_refused(spark: SparkSession, lake: Lake, stream_table: Open) -> None:
    stream_table("events").append([{}])
    with pytest.raises(EmptyInputError, match="events has no rows of 2026-03-02"):
        lake.days_with_rows(spark, "events", "event_date", DAY + timedelta(1), DAY + timedelta(1))


def test_a_session_with_another_log_store_is_refused(spark: SparkSession, jars: Jars) -> None:
    conf = spark.sparkContext._conf
    wanted = conf.get("spark.delta.logStore.file.impl")
    assert wanted is not None
    conf.set("spark.delta.logStore.file.impl", "io.delta.storage.LocalLogStore")
    try:
        with pytest.raises(LogStoreError, match="logStore.file.impl is io.delta.storage.LocalLogStore"):
            session(jars, "local[2]")
    finally:
        conf.set("spark.delta.logStore.file.impl", wanted)
