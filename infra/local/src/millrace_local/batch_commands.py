"""millrace batch."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from pyspark.sql import SparkSession

from millrace_batch import jobs
from millrace_batch import spark as spark_sessions
from millrace_batch.lake import Lake
from millrace_batch.night import Night
from millrace_common.settings import load
from millrace_local import console, options
from millrace_local.settings import LocalSettings
from millrace_local.spark_jars import spark_jars
from millrace_local.warehouse import warehouse_dsn

_NAMES = ", ".join(jobs.JOBS)

JobName = Annotated[str, typer.Argument(metavar="JOB", help=f"One of: {_NAMES}.")]
Day = Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="The UTC day that the job is about.")]
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


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(batch)


def batch(
    job: JobName,
    date: Day,
    lake: LakeUri = "",
    master: Master = spark_sessions.LOCAL_MASTER,
    memory_mib: Memory = 1024,
    metrics_dir: MetricsDir = None,
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Run a job of the night on the lake; a second run for the same day changes nothing."""

    def spark() -> SparkSession:
        with console.download_bar("Delta for Spark") as progress:
            jars = spark_jars(load(LocalSettings), progress)
        return spark_sessions.session(jars, master, memory_mib)

    night = Night(
        day=date.date(),
        lake=Lake(lake or str(work_dir / "lake")),
        spark=spark,
        warehouse=lambda: warehouse_dsn(work_dir),
    )
    for line in jobs.run(job, night, metrics_dir).lines:
        console.out.print(line, markup=False)
