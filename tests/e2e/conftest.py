"""The Spark of the batch's own tests, which is running already when they were run before."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from millrace_common.settings import load
from millrace_local.settings import LocalSettings
from millrace_local.spark_jars import spark_jars
from small_spark import small_spark


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    with small_spark(spark_jars(load(LocalSettings))) as session:
        yield session
