"""Spark for small tables, one for all tests of a process: starting it costs more than most of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyspark.sql import SparkSession

from millrace_batch import spark as spark_sessions
from millrace_batch.spark import Jars

# What starts fast beats what runs fast. One compiler alone gets 48 MiB for what it compiles, which Spark fills within a
# minute; from then on nothing is compiled.
# No code is generated for a query, and no plan is made twice.
_SMALL: Final = {
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.databricks.delta.snapshotPartitions": "1",
}


@contextmanager
def small_spark(jars: Jars) -> Iterator[SparkSession]:
    """Give the session of this process; who leaves stops it for all, which is at the end of the tests."""
    session = spark_sessions.session(jars, "local[2]", options=_SMALL)
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
