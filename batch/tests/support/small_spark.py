"""Spark for small tables, one for all tests of a process: starting it costs more than most of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyspark.sql import SparkSession

from millrace_batch import spark as spark_sessions
from millrace_batch.spark import Jars

# No code is generated for a query, and no plan is made twice.
OPTIONS: Final = {
    **spark_sessions.SMALL_TABLES,
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


@contextmanager
def small_spark(jars: Jars) -> Iterator[SparkSession]:
    """Give the session of this process; who leaves stops it for all, which is at the end of the tests."""
    session = spark_sessions.session(jars, "local[2]", options=OPTIONS)
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
