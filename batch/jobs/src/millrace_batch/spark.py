"""The Spark session that all jobs run in: on this machine, on a cluster, on Kubernetes.

It commits through our log stores only (see log_store.py), writes no table feature that the stream cannot append to,
reckons days in UTC, and refuses what does not fit (ANSI mode) where plain Spark would answer null.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyspark.sql import SparkSession

from millrace_batch import log_store
from millrace_batch.errors import LogStoreError

LOCAL_MASTER: Final = "local[*]"
_LOOPBACK: Final = "127.0.0.1"

_ALWAYS: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # As the stream writes them: smaller than snappy, and times that every reader finds statistics of.
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # A VACUUM that removes nothing makes no version, and a commit no second file that only Spark reads.
    "spark.databricks.delta.vacuum.logging.enabled": "false",
    "spark.databricks.delta.writeChecksumFile.enabled": "false",
    # Delta's own limit is ten million: beside a fast writer a job would never end. See conflicts.py.
    "spark.databricks.delta.maxCommitAttempts": "50",
    # Hadoop would put a checksum file beside each file, and find it wrong when delta-rs has written that file anew.
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
    # S3A would collect what it uploads in files of Hadoop's local file system with checksums, which is not there then:
    # every write would fail. Off the heap it takes a block, whole, for each file that is being written.
    "spark.hadoop.fs.s3a.fast.upload.buffer": "bytebuffer",
    "spark.hadoop.fs.s3a.multipart.size": "16M",
    # Features that delta-rs cannot append to, or polars and DuckDB cannot read, should a default ever change.
    "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    "spark.databricks.delta.properties.defaults.enableRowTracking": "false",
    "spark.databricks.delta.properties.defaults.enableInCommitTimestamps": "false",
    "spark.databricks.delta.properties.defaults.checkpointPolicy": "classic",
    "spark.databricks.delta.properties.defaults.columnMapping.mode": "none",
}
# On one machine. Spark's defaults are for many: 200 tasks for a shuffle, 50 for a table's log, 10,000 for a listing.
_LOCAL: Final = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": _LOOPBACK,
    "spark.driver.host": _LOOPBACK,
    "spark.sql.shuffle.partitions": "8",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
}

SMALL_TABLES: Final[Mapping[str, str]] = {
    # One compiler alone gets 48 MiB for what it compiles, which Spark fills within a minute; from then on nothing is
    # compiled.
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
}
"""Options of a session for a few MiB a day on this machine: what starts fast beats what runs fast."""


@dataclass(frozen=True, slots=True)
class Jars:
    """What Spark needs besides what PySpark has.

    Attributes:
        delta: Delta's jars.
        log_store: ours, by `log_store.build`.
    """

    delta: tuple[Path, ...]
    log_store: Path


def session(
    jars: Jars, master: str = LOCAL_MASTER, memory_mib: int = 1024, options: Mapping[str, str] | None = None
) -> SparkSession:
    """Return the session of this process, made at the first call.

    Args:
        jars: on this machine; Spark sends them to its executors.
        master: `local[*]`, `spark://host:port` or `k8s://https://host:port`.
        memory_mib: heap of the driver, and of each executor of a cluster.
        options: Spark's own settings, over ours; those that keep tables safe stay. Spark also reads
            `spark-defaults.conf` in SPARK_CONF_DIR, where a cluster's image, cores and service account belong.

    Raises:
        LogStoreError: the process has a session already, that commits through something else.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    is_local = master.startswith("local")
    if is_local:
        os.environ.setdefault("SPARK_LOCAL_IP", _LOOPBACK)
    settings = {
        "spark.driver.memory": f"{memory_mib}m",
        "spark.executor.memory": f"{memory_mib}m",
        **(_LOCAL if is_local else {}),
        **(options or {}),
        **_ALWAYS,
        **_log_stores(),
        "spark.jars": ",".join(str(path) for path in (*jars.delta, jars.log_store)),
    }
    builder = SparkSession.builder.master(master).appName("millrace")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    _refuse_other_log_stores(spark)
    return spark


def _log_stores() -> dict[str, str]:
    return {f"spark.delta.logStore.{scheme}.impl": name for scheme, name in log_store.CLASSES.items()}


def _refuse_other_log_stores(spark: SparkSession) -> None:
    """Look at what Delta looks at: the settings of the context, which only the first session of a process makes."""
    conf = spark.sparkContext.getConf()
    for name, wanted in _log_stores().items():
        found = conf.get(name)
        if found != wanted:
            message = (
                f"{name} is {found or 'not set'} in the Spark session that this process has already: its commits and "
                f"the stream's would replace one another. Stop that session first, or make it by millrace_batch.spark"
            )
            raise LogStoreError(message)
