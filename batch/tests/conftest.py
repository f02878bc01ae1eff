"""One Spark for all tests: starting it costs more than most of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from millrace_batch import spark as spark_sessions
from millrace_batch.lake import Lake
from millrace_batch.spark import Jars
from millrace_common.settings import load
from millrace_local.settings import LocalSettings
from millrace_local.spark_jars import spark_jars
from stream_tables import StreamTable

# Small tables: what starts fast beats what runs fast. One compiler alone gets 48 MiB for what it compiles, which Spark
# fills within a minute; from then on nothing is compiled.
# No code is generated for a query, and no plan is made twice.
_SMALL = {
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.databricks.delta.snapshotPartitions": "1",
}


@pytest.fixture(scope="session")
def jars() -> Jars:
    return spark_jars(load(LocalSettings))


@pytest.fixture(scope="session")
def spark(jars: Jars) -> Iterator[SparkSession]:
    session = spark_sessions.session(jars, "local[2]", options=_SMALL)
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


@pytest.fixture
def stream_table(tmp_path: Path) -> Callable[[str], StreamTable]:
    """Return a function that opens a table of `lake` by name, as the stream does."""
    return lambda name: StreamTable(str(tmp_path), name)
