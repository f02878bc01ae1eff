"""One Spark for all tests, and a lake for each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from millrace_batch.lake import Lake
from millrace_batch.spark import Jars
from millrace_common.settings import load
from millrace_local.settings import LocalSettings
from millrace_local.spark_jars import spark_jars
from small_spark import small_spark
from stream_tables import StreamTable


@pytest.fixture(scope="session")
def jars() -> Jars:
    return spark_jars(load(LocalSettings))


@pytest.fixture(scope="session")
def spark(jars: Jars) -> Iterator[SparkSession]:
    with small_spark(jars) as session:
        yield session


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


@pytest.fixture
def stream_table(tmp_path: Path) -> Callable[[str], StreamTable]:
    """Return a function that opens a table of `lake` by name, as the stream does."""
    return lambda name: StreamTable(str(tmp_path), name)
