"""What the commands of `millrace batch` share: options, and how they come to a Spark session."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from pyspark.sql import SparkSession

from millrace_batch import spark as spark_sessions
from millrace_common.settings import load
from millrace_local import console
from millrace_local.settings import LocalSettings
from millrace_local.spark_jars import spark_jars

LakeUri = Annotated[
    str, typer.Option("--lake", envvar="LAKE_URI", help="Folder of the tables; default: the work dir's.")
]
Master = Annotated[
    str, typer.Option("--master", envvar="MILLRACE_SPARK_MASTER", help="local[*], spark://host:port or k8s://https://…")
]
Memory = Annotated[
    int, typer.Option("--memory-mib", envvar="MILLRACE_SPARK_MEMORY_MIB", min=512, help="Heap of driver and executors.")
]
MetricsDir = Annotated[
    Path | None, typer.Option("--metrics-dir", help="Record the success in batch_JOB.prom there, for node_exporter.")
]
FirstDay = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first UTC day.")]
LastDay = Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last UTC day, one that is over.")]
IdleExit = Annotated[
    int, typer.Option("--idle-exit", min=0, max=125, help="Exit code if there was nothing to do, for schedulers.")
]


def spark_maker(master: str, memory_mib: int) -> Callable[[], SparkSession]:
    """Return what makes the session when it is first called."""

    @cache
    def spark() -> SparkSession:
        with console.download_bar("Delta for Spark") as progress:
            jars = spark_jars(load(LocalSettings), progress)
        return spark_sessions.session(jars, master, memory_mib)

    return spark


def show(line: str) -> None:
    """Print a line of a job's result."""
    console.out.print(line, markup=False)
