"""millrace batch."""

from datetime import date as UtcDay
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from pyspark.sql import SparkSession

from millrace_batch import jobs
from millrace_batch import spark as spark_sessions
from millrace_batch.lake import Lake
from millrace_batch.night import Again, Night
from millrace_common.settings import load
from millrace_local import console, options
from millrace_local.settings import LocalSettings
from millrace_local.spark_jars import spark_jars
from millrace_local.warehouse import warehouse_dsn

_NAMES = ", ".join(jobs.JOBS)
_REENRICH: Final = "reenrich"

JobName = Annotated[str, typer.Argument(metavar="JOB", help=f"One of: {_NAMES}.")]
Day = Annotated[
    datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="The UTC day that the job is about.")
]
From = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="reenrich: the first UTC day.")]
To = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="reenrich: the last UTC day.")]
Products = Annotated[
    str, typer.Option("--products", help="reenrich: all products, as .csv, .ndjson, .parquet or a Delta table.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="reenrich: say what would change, and write nothing.")]
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
ReportDir = Annotated[
    Path | None, typer.Option("--report-dir", help="Where quality puts its report; default: the work dir's reports.")
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(batch)


def batch(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    job: JobName,
    date: Day = None,
    from_date: From = None,
    to_date: To = None,
    products: Products = "",
    dry_run: DryRun = False,
    lake: LakeUri = "",
    master: Master = spark_sessions.LOCAL_MASTER,
    memory_mib: Memory = 1024,
    metrics_dir: MetricsDir = None,
    report_dir: ReportDir = None,
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Run a job of the night on the lake; a second run for the same day changes nothing."""

    def spark() -> SparkSession:
        with console.download_bar("Delta for Spark") as progress:
            jars = spark_jars(load(LocalSettings), progress)
        return spark_sessions.session(jars, master, memory_mib)

    first, last = _days(job, date, from_date, to_date)
    if job != _REENRICH and (products or dry_run):
        message = f"--products and --dry-run are for {_REENRICH}"
        raise typer.BadParameter(message)
    night = Night(
        day=first,
        lake=Lake(lake or str(work_dir / "lake")),
        spark=spark,
        warehouse=lambda: warehouse_dsn(work_dir),
        report_dir=report_dir or work_dir / "reports",
        again=Again(last, products, dry_run) if products else None,
        tell=_show,
    )
    for line in jobs.run(job, night, metrics_dir).lines:
        _show(line)


def _days(job: str, given: datetime | None, first: datetime | None, last: datetime | None) -> tuple[UtcDay, UtcDay]:
    """Return the first and the last day: --date alone, or for reenrich --from and --to."""
    if first is None and last is None:
        if given is None:
            message = f"say which day: --date{', or --from and --to' if job == _REENRICH else ''}"
            raise typer.BadParameter(message)
        return given.date(), given.date()
    if job != _REENRICH or given is not None or first is None or last is None:
        message = f"--from and --to go together, without --date, and are for {_REENRICH}"
        raise typer.BadParameter(message)
    if last < first:
        message = f"--to {last.date()} is before --from {first.date()}"
        raise typer.BadParameter(message)
    return first.date(), last.date()


def _show(line: str) -> None:
    console.out.print(line, markup=False)
