"""What lies in a table's folder, files of older versions and the log too."""

from dataclasses import dataclass
from typing import Any, cast

from pyspark.sql import SparkSession


@dataclass(frozen=True, slots=True)
class Stored:
    """Files under a folder and their bytes."""

    files: int
    size_bytes: int


def stored(spark: SparkSession, uri: str) -> Stored:
    """Count the files under `uri`, as `Lake.table_uri` says it, on any store that Spark knows."""
    path = cast("Any", spark._jvm).org.apache.hadoop.fs.Path(uri)
    summary = path.getFileSystem(cast("Any", spark)._jsc.hadoopConfiguration()).getContentSummary(path)
    return Stored(int(summary.getFileCount()), int(summary.getLength()))
